"""The record store: every cap at its maximum and one above, farthest out first; against a model."""

from __future__ import annotations

from unittest import mock

import pytest
from core_strategies import point, points, property_settings
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mediadht.core import record_store
from mediadht.core.constants import (
    STORE_RECORDS_PER_KEY_MAX,
    STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX,
    WITHDRAWALS_PER_ANSWER_MAX,
)
from mediadht.core.errors import Code
from mediadht.core.record_store import RecordStore
from mediadht.core.records import Record

OWN = point("own")


def domain_of(server_name: str) -> str | None:
    labels = server_name.split(".")
    return ".".join(labels[-2:]) if len(labels) > 1 else None


def record(
    key: int,
    signer: int,
    *,
    sequence: int = 1,
    expires_s: int = 1_000,
    withdrawn: bool = False,
    server_name: str | None = None,
) -> Record:
    name = server_name or f"s.example{signer}.org"
    body = f"{key}/{signer}/{sequence}/{expires_s}/{withdrawn}/{name}".encode()
    return Record(0, key, b"", name, sequence, expires_s, withdrawn, b"", body, b"", signer)


def store(records_max: int = 1_000_000) -> RecordStore:
    return RecordStore(OWN, domain_of, records_max=records_max)


def put_all(into: RecordStore, records: list[Record]) -> list[Code | None]:
    return [into.put(r).code for r in records]


def test_a_key_takes_its_maximum_of_records_and_not_one_more() -> None:
    full = store()
    assert set(put_all(full, [record(1, n) for n in range(STORE_RECORDS_PER_KEY_MAX)])) == {None}
    assert full.put(record(1, -1)).code is Code.KEY_FULL
    assert full.put(record(2, -1)).code is None
    assert full.put(record(1, 0, sequence=2)).code is None, "a renewal needs no place"


def test_a_key_takes_its_maximum_of_one_domain_and_not_one_more() -> None:
    full = store()
    names = [f"s{n}.same.org" for n in range(STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX)]
    assert set(put_all(full, [record(1, n, server_name=name) for n, name in enumerate(names)])) == {None}
    assert full.put(record(1, 99, server_name="another.same.org")).code is Code.DOMAIN_FULL
    assert full.put(record(2, 99, server_name="another.same.org")).code is None


def test_a_signer_cannot_move_into_a_full_domain() -> None:
    full = store()
    for n in range(STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX):
        full.put(record(1, n, server_name=f"s{n}.same.org"))
    full.put(record(1, 99, server_name="mine.org"))
    moved = full.put(record(1, 99, sequence=2, server_name="x.same.org"))
    assert moved.code is Code.DOMAIN_FULL
    held = full.held(1, 99)
    assert held is not None
    assert held.server_name == "mine.org", "what was held stays"


def test_a_signer_fills_a_fifth_and_a_domain_half_of_a_store() -> None:
    full = store(records_max=100)
    assert put_all(full, [record(k, 7) for k in range(21)]) == [None] * 20 + [Code.SIGNER_FULL]
    names = {n: f"s{n}.same.org" for n in range(100, 151)}
    codes = put_all(full, [record(k, n, server_name=name) for k, (n, name) in enumerate(names.items())])
    assert codes == [None] * 50 + [Code.DOMAIN_FULL]


def test_a_full_store_gives_up_the_farthest_for_a_nearer_one_and_refuses_a_farther() -> None:
    full = store(records_max=10)
    keys = sorted((point(f"k{n}") for n in range(12)), key=OWN.__xor__)
    for n, key in enumerate(keys[1:11]):
        full.put(record(key, n))
    result = full.put(record(keys[0], 50))
    assert result.code is None
    assert [r.key for r in result.dropped] == [keys[10]]
    assert full.put(record(keys[11], 51)).code is Code.STORE_FULL
    assert full.put(record(keys[9], 52)).code is Code.STORE_FULL, "as far as the farthest is not nearer"
    assert len(full) == 10


def test_newer_wins_equal_bodies_are_known_and_older_is_stale() -> None:
    kept = store()
    assert kept.put(record(1, 1, sequence=5)).is_new
    again = kept.put(record(1, 1, sequence=5))
    assert (again.code, again.is_new) == (None, False)
    stale = kept.put(record(1, 1, sequence=4))
    assert stale.code is Code.STALE
    assert stale.held is not None
    assert stale.held.sequence == 5
    newer = kept.put(record(1, 1, sequence=6))
    assert newer.code is None
    assert [r.sequence for r in newer.dropped] == [5]


def test_of_two_bodies_with_one_sequence_all_replicas_keep_the_same() -> None:
    a, b = record(1, 1, expires_s=900), record(1, 1, expires_s=901)
    one, two = store(), store()
    put_all(one, [a, b])
    put_all(two, [b, a])
    assert one.held(1, 1) == two.held(1, 1)


def test_a_withdrawal_hides_what_it_withdraws_until_it_expires_itself() -> None:
    kept = store()
    kept.put(record(1, 1, sequence=1))
    kept.put(record(1, 1, sequence=2, withdrawn=True, expires_s=2_000))
    assert kept.sample(1, 0, 10, 500.0) == []
    assert kept.live_count(1, 500.0) == 0
    assert [r.sequence for r in kept.withdrawals(1, 500.0)] == [2]
    assert kept.put(record(1, 1, sequence=1)).code is Code.STALE
    assert kept.withdrawals(1, 2_000.0) == []
    assert [r.sequence for r in kept.expire(2_000.0)] == [2]
    assert len(kept) == 0


def test_the_latest_withdrawals_are_named_at_most_so_many() -> None:
    kept = store()
    for n in range(WITHDRAWALS_PER_ANSWER_MAX + 1):
        kept.put(record(1, n, sequence=n, withdrawn=True))
    assert [r.sequence for r in kept.withdrawals(1, 0.0)] == list(range(WITHDRAWALS_PER_ANSWER_MAX, 0, -1))


def test_an_expired_record_is_never_handed_out_even_before_it_is_swept() -> None:
    kept = store()
    kept.put(record(1, 1, expires_s=100))
    assert len(kept.sample(1, 0, 5, 99.9)) == 1
    assert kept.sample(1, 0, 5, 100.0) == []
    assert kept.live_count(1, 100.0) == 0


def test_expiry_takes_so_many_at_once_and_the_rest_later() -> None:
    kept = store()
    for n in range(5):
        kept.put(record(n, n, expires_s=10 + n))
    assert [r.expires_s for r in kept.expire(100.0, limit=3)] == [10, 11, 12]
    assert [r.expires_s for r in kept.expire(100.0)] == [13, 14]


def test_renewals_do_not_let_the_list_of_expiries_grow() -> None:
    kept = store()
    for n in range(5_000):
        kept.put(record(1, 1, sequence=n, expires_s=n + 1))
    assert len(kept._expiries) <= 2 * 1 + 64
    assert len(kept.expire(10_000.0)) == 1


@pytest.mark.parametrize("page", [1, 3, 16])
@property_settings(40)
@given(signers=st.sets(points, max_size=60), sample=points, data=st.data())
def test_pages_show_every_live_record_exactly_once(
    page: int, signers: set[int], sample: int, data: st.DataObject
) -> None:
    kept = store()
    gone = data.draw(st.sets(st.sampled_from(sorted(signers)))) if signers else set()
    for signer in sorted(signers):
        kept.put(record(1, signer, withdrawn=signer in gone))
    seen: list[int] = []
    after = None
    while found := kept.sample(1, sample, page, 0.0, after):
        seen += [r.node_id for r in found]
        after = seen[-1]
    assert seen == sorted(signers - gone, key=sample.__xor__)
    assert kept.live_count(1, 0.0) == len(seen)


class StoreAgainstAModel(RuleBasedStateMachine):
    """The model: a dictionary and the rules, applied naively. Small caps, so that each is met."""

    MAX = 15
    PER_KEY = 5
    PER_KEY_DOMAIN = 2
    keys = st.integers(0, 6).map(lambda n: point(f"key {n}"))
    signers = st.integers(0, 9)
    names = st.sampled_from([None, "a.one.org", "b.one.org", "c.two.org", "localhost"])

    def __init__(self) -> None:
        super().__init__()
        self.patches = [
            mock.patch.object(record_store, "STORE_RECORDS_PER_KEY_MAX", self.PER_KEY),
            mock.patch.object(record_store, "STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX", self.PER_KEY_DOMAIN),
        ]
        for patch in self.patches:
            patch.start()
        self.store = store(self.MAX)
        self.model: dict[tuple[int, int], Record] = {}
        self.now_s = 0

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()

    def domain(self, r: Record) -> str:
        return domain_of(r.server_name) or r.server_name

    def expected(self, new: Record) -> Code | None:
        held = self.model.get((new.key, new.node_id))
        others = [r for r in self.model.values() if r is not held]
        of_key = [r for r in others if r.key == new.key]
        of_domain = [r for r in others if self.domain(r) == self.domain(new)]
        if held is not None and (held.body == new.body or not new.supersedes(held)):
            return None if held.body == new.body else Code.STALE
        if held is None and len(of_key) >= self.PER_KEY:
            return Code.KEY_FULL
        if held is None and sum(r.node_id == new.node_id for r in others) >= self.MAX // 5:
            return Code.SIGNER_FULL
        if held is None or self.domain(held) != self.domain(new):
            in_key = sum(r.key == new.key for r in of_domain)
            if len(of_domain) >= self.MAX // 2 or in_key >= self.PER_KEY_DOMAIN:
                return Code.DOMAIN_FULL
        if held is None and len(self.model) >= self.MAX:
            farthest = max(r.key ^ OWN for r in others)
            return Code.STORE_FULL if farthest <= new.key ^ OWN else None
        return None

    @rule(
        key=keys,
        signer=signers,
        sequence=st.integers(0, 5),
        life_s=st.integers(1, 50),
        withdrawn=st.booleans(),
        name=names,
    )
    def put(self, key: int, signer: int, sequence: int, life_s: int, withdrawn: bool, name: str | None) -> None:
        new = record(
            key, signer, sequence=sequence, expires_s=self.now_s + life_s, withdrawn=withdrawn, server_name=name
        )
        expected, held = self.expected(new), self.model.get((key, signer))
        result = self.store.put(new)
        assert result.code == expected
        if expected is not None or (held is not None and held.body == new.body):
            assert not result.is_new
            assert not result.dropped
            return
        assert result.is_new
        for dropped in result.dropped:
            gone = self.model.pop((dropped.key, dropped.node_id))
            assert gone is dropped
            if gone is not held:
                assert gone.key ^ OWN == max(r.key ^ OWN for r in (*self.model.values(), gone))
                assert gone.key ^ OWN > key ^ OWN
        self.model[key, signer] = new

    @rule(passed_s=st.integers(0, 30))
    def expire(self, passed_s: int) -> None:
        self.now_s += passed_s
        dropped = {(r.key, r.node_id) for r in self.store.expire(self.now_s)}
        assert dropped == {name for name, r in self.model.items() if r.expires_s <= self.now_s}
        for name in dropped:
            del self.model[name]

    @rule(key=keys, sample=points)
    def ask(self, key: int, sample: int) -> None:
        live = [r for r in self.model.values() if r.key == key and not r.withdrawn and r.expires_s > self.now_s]
        live.sort(key=lambda r: r.node_id ^ sample)
        assert self.store.sample(key, sample, 3, self.now_s) == live[:3]
        assert self.store.live_count(key, self.now_s) == len(live)

    @invariant()
    def same_records(self) -> None:
        assert len(self.store) == len(self.model) <= self.MAX
        assert {(r.key, r.node_id): r for r in self.store} == self.model


StoreAgainstAModel.TestCase.settings = property_settings(80, 60)
TestStoreAgainstAModel = StoreAgainstAModel.TestCase
