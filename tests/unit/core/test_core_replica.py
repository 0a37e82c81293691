"""What a node answers: contacts, records and refusals, from what it knows and nothing else."""

from __future__ import annotations

import hashlib
import random

import msgpack
import pytest

from mediadht.core.constants import KNOWN_PREFIX_BYTES, PROVIDERS_PER_ANSWER_MAX, RECORD_VALIDITY_S, K
from mediadht.core.contacts import Contact, Groups
from mediadht.core.events import RecordDropped, RecordKept, Tell
from mediadht.core.identifiers import media
from mediadht.core.keys import KeyPair
from mediadht.core.messages import (
    Claim,
    Failure,
    Find,
    Found,
    Get,
    Got,
    Ping,
    Pong,
    Put,
    PutDone,
    PutOutcome,
    PutRoom,
    SignedRoom,
    UnknownRequest,
)
from mediadht.core.records import Payload, Record, sign_record
from mediadht.core.replica import answer
from mediadht.core.state import NodeSettings, NodeState, prefixes

NOW_S = 1_800_000_000
SUBJECT = media("sha256." + "0" * 64)
ASKER = 12345


def keys(number: int) -> KeyPair:
    return KeyPair.from_seed(hashlib.sha256(str(number).encode()).digest())


def node(*, reachable: bool = True, records_max: int = 1_000, claims: bool = True) -> NodeState:
    own = keys(-1)
    contact = Contact.of(own.public_key, ("wss://own.org/",) if reachable else (), "own.org")
    state = NodeState(
        own,
        contact,
        NodeSettings(records_max=records_max, claims=claims),
        random.Random(1).randbytes,
        lambda host: ".".join(host.split(".")[-2:]),
    )
    state.wall_offset_s = NOW_S
    return state


def know(state: NodeState, count: int) -> list[int]:
    ids = []
    for n in range(count):
        contact = Contact.of(keys(n).public_key, (f"wss://n{n}.org/",), f"n{n}.org")
        state.book.proved(contact, Groups(None, None))
        state.book.reached(contact.node_id, 0.0)
        ids.append(contact.node_id)
    return ids


def signed(signer: int = 0, *, sequence: int = 1, life_s: int = 1_000, withdrawn: bool = False) -> Record:
    return sign_record(
        keys(signer),
        SUBJECT,
        server_name=f"s.example{signer}.org",
        sequence=sequence,
        expires_s=NOW_S + life_s,
        payload=None if withdrawn else Payload(),
    )


def raw(record: Record) -> tuple[bytes, bytes]:
    return record.body, record.signature


def put(state: NodeState, *records: Record) -> tuple[PutOutcome, ...]:
    done = answer(state, ASKER, Put(tuple(map(raw, records))))
    assert isinstance(done, PutDone)
    return done.outcomes


def get(state: NodeState, **changes: object) -> Got:
    wish: dict[str, object] = {"key": SUBJECT.key, "sample": 0, "providers_max": 16, "contacts_max": 20}
    got = answer(state, ASKER, Get(**(wish | changes)))  # type: ignore[arg-type]
    assert isinstance(got, Got)
    return got


def test_a_ping_is_answered_and_an_unknown_method_refused_by_name() -> None:
    state = node()
    assert answer(state, ASKER, Ping()) == Pong()
    refusal = answer(state, ASKER, UnknownRequest("fetch"))
    assert isinstance(refusal, Failure)
    assert refusal.code == "unknown_method"
    assert "fetch" in refusal.why


def test_the_nearest_live_contacts_are_named_without_the_asker_and_those_it_knows() -> None:
    state = node()
    ids = know(state, 60)
    target = 77
    nearest = sorted(ids, key=target.__xor__)[:K]
    found = answer(state, ASKER, Find(target, K))
    assert isinstance(found, Found)
    assert [c.node_id for c in found.contacts] == nearest
    known = prefixes(nearest[:3])
    assert len(known) == 3 * KNOWN_PREFIX_BYTES
    found = answer(state, nearest[5], Find(target, K, known))
    assert isinstance(found, Found)
    assert [c.node_id for c in found.contacts] == [n for n in nearest[3:] if n != nearest[5]]
    assert answer(state, ASKER, Find(target, 0)) == Found(())


def test_hearsay_and_those_that_fail_are_named_to_nobody() -> None:
    state = node()
    ids = know(state, 2)
    state.book.heard_of(Contact.of(keys(9).public_key, ("wss://rumour.org/",), None), Groups(None, None))
    for _ in range(3):
        state.book.failed(ids[0], 1.0)
    found = answer(state, ASKER, Find(0, K))
    assert isinstance(found, Found)
    assert [c.node_id for c in found.contacts] == [ids[1]]


def test_a_record_is_kept_told_to_the_owner_and_handed_out() -> None:
    state = node()
    record = signed()
    assert put(state, record) == (PutOutcome(),)
    assert state.effects == [Tell(RecordKept(record))]
    assert get(state) == Got((raw(record),), 1)
    assert put(state, record) == (PutOutcome(),), "again is no fault"
    assert len(state.effects) == 1, "and no news"


def test_a_newer_record_replaces_and_an_older_is_stale_with_the_sequence_held() -> None:
    state = node()
    put(state, signed(sequence=5))
    assert put(state, signed(sequence=4)) == (PutOutcome("stale", 5),)
    assert put(state, signed(sequence=6)) == (PutOutcome(),)
    assert get(state).records == (raw(signed(sequence=6)),)
    dropped = [e for e in state.effects if isinstance(e, Tell) and isinstance(e.notice, RecordDropped)]
    assert dropped == [], "the disk replaces it by name"


def test_every_record_of_a_put_has_an_outcome_in_its_place() -> None:
    state = node()
    forged = signed(3)
    forged = (forged.body, bytes(64))  # type: ignore[assignment]
    done = answer(
        state,
        ASKER,
        Put(
            (
                raw(signed(0)),
                forged,  # type: ignore[arg-type]
                raw(signed(1, life_s=0)),
                raw(signed(2, life_s=RECORD_VALIDITY_S + 601)),
                (b"\xc1", bytes(64)),
                (b"", b""),
                raw(signed(4)),
            )
        ),
    )
    assert isinstance(done, PutDone)
    codes = [outcome.code for outcome in done.outcomes]
    assert codes == ["", "bad_signature", "expired", "clock", "malformed", "malformed", ""]


def test_a_forged_record_does_not_displace_and_does_not_count() -> None:
    state = node()
    put(state, signed(sequence=1))
    newer = signed(sequence=2)
    done = answer(state, ASKER, Put(((newer.body, bytes(64)),)))
    assert done == PutDone((PutOutcome("bad_signature"),))
    assert get(state).records == (raw(signed(sequence=1)),)


def test_a_put_names_contacts_near_its_first_key_even_if_it_keeps_nothing() -> None:
    state = node()
    ids = know(state, 40)
    expired = signed(life_s=-5)
    done = answer(state, ASKER, Put((raw(expired),), K))
    assert isinstance(done, PutDone)
    assert [c.node_id for c in done.contacts] == sorted(ids, key=SUBJECT.key.__xor__)[:K]
    assert answer(state, ASKER, Put((), K)) == PutDone(())
    assert answer(state, ASKER, Put(((b"junk", b""),), K)) == PutDone((PutOutcome("malformed"),))


def test_a_node_without_an_address_keeps_nothing_for_others() -> None:
    refusal = answer(node(reachable=False), ASKER, Put((raw(signed()),)))
    assert isinstance(refusal, Failure)
    assert refusal.code == "unreachable"


def test_contacts_stand_in_an_answer_only_where_no_record_does() -> None:
    state = node()
    know(state, 5)
    assert len(get(state).contacts) == 5
    put(state, signed())
    assert get(state).contacts == ()


def test_withdrawals_come_along_on_the_first_page_and_do_not_end_a_search() -> None:
    state = node()
    know(state, 5)
    put(state, signed(0, withdrawn=True))
    got = get(state)
    assert (got.records, got.total) == ((raw(signed(0, withdrawn=True)),), 0)
    assert got.contacts, "somebody farther on may know of a later announcement"
    put(state, signed(1))
    assert len(get(state).records) == 2
    assert get(state, after=keys(1).node_id).records == ()


def test_a_page_has_what_was_asked_for_and_the_next_goes_on_behind_it() -> None:
    state = node()
    put(state, *(signed(n) for n in range(40)))
    order = sorted((keys(n).node_id for n in range(40)), key=(99).__xor__)
    first = get(state, sample=99, providers_max=PROVIDERS_PER_ANSWER_MAX)
    assert first.total == 40
    assert [node_of(r) for r in first.records] == order[:16]
    second = get(state, sample=99, providers_max=PROVIDERS_PER_ANSWER_MAX, after=order[15])
    assert [node_of(r) for r in second.records] == order[16:32]
    assert get(state, providers_max=0).records == ()


def test_nothing_expired_is_handed_out() -> None:
    state = node()
    put(state, signed(life_s=10))
    state.now = 10.0
    assert get(state) == Got((), 0)


@pytest.mark.parametrize("name", ["8.8.8.8:{}", "[2606:4700:1::{}]"])
def test_servers_named_by_address_share_the_share_of_their_network(name: str) -> None:
    """One /24 has 65,535 ports for each address: each must not count as a domain of its own."""
    state = node()
    outcomes = []
    for n in range(17):
        record = sign_record(
            keys(n),
            SUBJECT,
            server_name=name.format(n + 1),
            sequence=1,
            expires_s=NOW_S + 100,
            payload=Payload(),
        )
        outcomes += put(state, record)
    assert [o.code for o in outcomes] == [""] * 16 + ["domain_full"]


def node_of(record: tuple[bytes, bytes]) -> int:
    public_key = msgpack.unpackb(record[0])[2]
    return int.from_bytes(hashlib.sha256(public_key).digest(), "big")


def test_a_record_of_a_kind_that_is_not_known_is_refused_and_takes_no_known_ones_place() -> None:
    state = node()
    held = signed()
    assert answer(state, ASKER, Put(((held.body, held.signature),))) == PutDone((PutOutcome(),))
    fields = msgpack.unpackb(signed(sequence=9).body)
    body = msgpack.packb([7, *fields[1:]])
    signature = keys(0).sign(b"mediadht/1/record\n" + body)
    assert answer(state, ASKER, Put(((body, signature),))) == PutDone((PutOutcome("unknown_kind"),))
    assert list(state.store) == [held]


def test_a_node_without_claims_promises_nothing_and_knows_the_methods_no_more_than_an_earlier_one() -> None:
    state = node(claims=False)
    signature = bytes(64)
    for request in (Claim((b"", signature)), PutRoom(SignedRoom(b"", signature, ()))):
        refusal = answer(state, ASKER, request)
        assert isinstance(refusal, Failure)
        assert refusal.code == "unknown_method"
    assert not state.effects
