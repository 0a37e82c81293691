"""The routing table: exact, split by range, diverse, bounded; against a model that only remembers."""

from __future__ import annotations

import pytest
from core_strategies import ID_MAX, groups, point, points, property_settings
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mediadht.core.constants import (
    BUCKET_CONTACTS_PER_DOMAIN_MAX,
    BUCKET_CONTACTS_PER_PREFIX_MAX,
    BUCKET_REPLACEMENTS_MAX,
    TABLE_CONTACTS_PER_DOMAIN_MAX,
    TABLE_CONTACTS_PER_PREFIX_MAX,
    K,
)
from mediadht.core.contacts import Groups
from mediadht.core.routing_table import Admission, RoutingTable

OWN = point("own")
NOBODY = Groups(None, None)
HALF = 1 << 255


def far(number: int) -> int:
    """A node ID in the half of the space where the own ID is not: one bucket that never splits."""
    return (point(f"far {number}") % HALF) + (0 if OWN >= HALF else HALF)


@property_settings(100)
@given(st.lists(points, max_size=80, unique=True), points, st.integers(0, 30))
def test_closest_are_exactly_the_closest_members(node_ids: list[int], target: int, count: int) -> None:
    table = RoutingTable(OWN, k=3)
    for node_id in node_ids:
        table.answered(node_id, NOBODY)
    assert table.closest(target, count) == sorted(table, key=target.__xor__)[:count]


@property_settings(60)
@given(st.lists(points, max_size=60, unique=True))
def test_buckets_follow_from_ranges_and_not_from_who_came_first(node_ids: list[int]) -> None:
    """Every bucket is a dyadic range, only those on the way to the own ID are split, and all members are kept."""
    table = RoutingTable(OWN, k=4)
    for node_id in node_ids:
        table.answered(node_id, NOBODY)
    expected_low = 0
    for low, high, members in table.bucket_ranges():
        size = high - low
        assert low == expected_low
        assert size & (size - 1) == 0
        assert low % size == 0
        assert members <= 4
        # The sibling's side holds the own ID, or the bucket does: nothing else was ever split.
        parent = low // (2 * size) * (2 * size)
        assert size == 1 << 256 or parent <= OWN < parent + 2 * size
        expected_low = high
    assert expected_low == 1 << 256


def test_the_neighbourhood_is_known_completely() -> None:
    """The k nodes nearest to the own ID are always in, however many others came before."""
    table = RoutingTable(OWN, k=K)
    everybody = [point(f"node {n}") for n in range(2_000)]
    for node_id in everybody:
        table.answered(node_id, NOBODY)
    nearest = sorted(everybody, key=OWN.__xor__)[:K]
    assert table.closest(OWN, K) == nearest


@pytest.mark.parametrize(
    ("field", "maximum"),
    [("prefix", BUCKET_CONTACTS_PER_PREFIX_MAX), ("domain", BUCKET_CONTACTS_PER_DOMAIN_MAX)],
)
def test_a_bucket_takes_so_many_of_one_group_and_not_one_more(field: str, maximum: int) -> None:
    table = RoutingTable(OWN)
    table.answered(far(-1), NOBODY)
    mine = Groups(**{"prefix": None, "domain": None, field: "x"})
    for n in range(maximum):
        assert table.answered(far(n), mine) is Admission.ADMITTED
    assert not table.wants(far(99), mine)
    assert table.answered(far(99), mine) is Admission.REFUSED
    assert table.answered(far(99), NOBODY) is Admission.ADMITTED


@pytest.mark.parametrize(
    ("field", "maximum", "in_bucket"),
    [
        ("prefix", TABLE_CONTACTS_PER_PREFIX_MAX, BUCKET_CONTACTS_PER_PREFIX_MAX),
        ("domain", TABLE_CONTACTS_PER_DOMAIN_MAX, BUCKET_CONTACTS_PER_DOMAIN_MAX),
    ],
)
def test_the_table_takes_so_many_of_one_group_and_not_one_more(field: str, maximum: int, in_bucket: int) -> None:
    table = RoutingTable(0, k=4)
    mine = Groups(**{"prefix": None, "domain": None, field: "x"})
    # One bucket for each leading bit: others at 2**255, 2**254, ... split the table that far down, and leave room.
    for bit in range(255, 200, -1):
        for low in (9, 10):
            table.answered((1 << bit) + low, NOBODY)
    ids = [(1 << bit) + low for bit in range(255, 200, -1) for low in range(in_bucket)]
    admitted = [node_id for node_id in ids if table.answered(node_id, mine) is Admission.ADMITTED]
    assert len(admitted) == maximum
    assert not table.wants(1 << 100, mine)


def test_a_full_bucket_keeps_its_members_and_a_bounded_list_of_those_that_wait() -> None:
    table = RoutingTable(OWN)
    assert all(table.answered(far(n), NOBODY) is Admission.ADMITTED for n in range(K))
    table.answered(OWN ^ 1, NOBODY)  # splits off the own half
    for n in range(K, K + BUCKET_REPLACEMENTS_MAX + 1):
        assert table.answered(far(n), NOBODY) is Admission.WAITING
    assert all(far(n) in table for n in range(K))
    promoted = [table.remove(far(n)) for n in range(BUCKET_REPLACEMENTS_MAX + 1 - 1)]
    # The latest to answer moves up first; the first to wait had to go for the one too many.
    assert promoted == [far(n) for n in range(K + BUCKET_REPLACEMENTS_MAX, K, -1)]
    assert not table.has_replacement(far(0))


def test_who_waits_but_is_not_fit_does_not_move_up_and_waits_no_more() -> None:
    table = RoutingTable(OWN)
    for n in range(K + 3):
        table.answered(far(n), NOBODY)
    assert table.remove(far(0), lambda n: n == far(K)) == far(K)
    assert not table.has_replacement(far(1))


def test_a_member_whose_new_groups_are_full_is_refused_and_counted_as_before() -> None:
    table = RoutingTable(OWN)
    for n in range(BUCKET_CONTACTS_PER_DOMAIN_MAX):
        table.answered(far(n), Groups(None, "full.org"))
    table.answered(far(50), Groups(None, "other.org"))
    assert table.answered(far(50), Groups(None, "full.org")) is Admission.REFUSED
    assert far(50) in table
    table.remove(far(50))
    assert table.wants(far(51), Groups(None, "other.org"))


def test_the_own_id_never_enters() -> None:
    table = RoutingTable(OWN)
    assert table.answered(OWN, NOBODY) is Admission.REFUSED
    assert not table.wants(OWN, NOBODY)


def test_a_bucket_is_stale_until_something_in_it_is_looked_up() -> None:
    table = RoutingTable(OWN)
    for n in range(K + 1):
        table.answered(far(n), NOBODY)
        table.answered(OWN ^ (n + 1), NOBODY)
    low, high, _ = next(r for r in table.bucket_ranges() if r[0] <= far(0) < r[1])
    assert (low, high) in table.stale_ranges(1_000.0, 600.0)
    table.looked_up(far(0), 1_000.0)
    assert (low, high) not in table.stale_ranges(1_599.0, 600.0)
    assert (low, high) in table.stale_ranges(1_600.0, 600.0)


class TableAgainstAModel(RuleBasedStateMachine):
    """The model remembers members and their groups; every bound is checked after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RoutingTable(OWN, k=3)
        self.members: dict[int, Groups] = {}

    node_ids = st.one_of(
        st.integers(0, 12).map(far),
        st.integers(0, 12).map(lambda n: OWN ^ (n + 1)),
        st.integers(0, 12).map(lambda n: OWN ^ (1 << (n * 20))),
        points,
    )

    @rule(node_id=node_ids, of=groups)
    def answer(self, node_id: int, of: Groups) -> None:
        wanted = self.table.wants(node_id, of)
        admission = self.table.answered(node_id, of)
        if admission is Admission.ADMITTED:
            assert wanted
            assert node_id not in self.members
            self.members[node_id] = of
        elif admission is Admission.KNOWN:
            assert node_id in self.members
            self.members[node_id] = of

    @rule(position=st.floats(0, 0.999))
    def remove(self, position: float) -> None:
        if self.members:
            node_id = sorted(self.members)[int(position * len(self.members))]
            promoted = self.table.remove(node_id)
            del self.members[node_id]
            if promoted is not None:
                assert promoted not in self.members
                self.members[promoted] = self.groups_of_promoted(promoted)

    def groups_of_promoted(self, node_id: int) -> Groups:
        return next(b.members[node_id] for b in self.table._buckets if node_id in b.members)

    @invariant()
    def same_members(self) -> None:
        assert list(self.table) == sorted(self.members)
        assert all(node_id in self.table for node_id in self.members)
        assert self.table.closest(ID_MAX // 5, 4) == sorted(self.members, key=(ID_MAX // 5).__xor__)[:4]

    @invariant()
    def every_cap_holds(self) -> None:
        for name in ("prefix", "domain"):
            seen = [getattr(g, name) for g in self.members.values() if getattr(g, name) is not None]
            assert all(seen.count(value) <= TABLE_CONTACTS_PER_DOMAIN_MAX for value in set(seen))
        for bucket in self.table._buckets:
            assert len(bucket.members) <= 3
            assert len(bucket.waiting) <= BUCKET_REPLACEMENTS_MAX
            assert not set(bucket.members) & set(bucket.waiting)
            for name in ("prefix", "domain"):
                seen = [getattr(g, name) for g in bucket.members.values() if getattr(g, name) is not None]
                assert all(seen.count(value) <= BUCKET_CONTACTS_PER_DOMAIN_MAX for value in set(seen))


TableAgainstAModel.TestCase.settings = property_settings(60, 50)
TestTableAgainstAModel = TableAgainstAModel.TestCase
