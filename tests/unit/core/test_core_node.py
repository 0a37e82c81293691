"""The node as a function: events in, effects out. What one peer can do to it, and what it may not."""

from __future__ import annotations

from unittest import mock

import pytest
from core_bench import EPOCH_S, QUIET, SUBJECT, Bench, connected, contact, keys, provider, raw

from mediadht.core import node as node_module
from mediadht.core import state as state_module
from mediadht.core.constants import (
    CONTACT_FAILURES_MAX,
    LOOKUP_REQUESTS_MAX,
    RECORD_VALIDITY_S,
    REQUEST_TIMEOUT_S,
    SESSION_IDLE_PING_S,
    TICK_S,
    K,
)
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code
from mediadht.core.events import (
    Bootstrap,
    Cancel,
    Dial,
    DialFailed,
    Hangup,
    LookupEnded,
    PingEnded,
    Probe,
    ProbeEnded,
    ProviderFound,
    Received,
    SessionClosed,
    Start,
    StartLookup,
    StartPing,
    Woke,
)
from mediadht.core.identifiers import media
from mediadht.core.messages import (
    Answer,
    Failure,
    Found,
    Get,
    Got,
    Ping,
    Pong,
    PutDone,
    Query,
)
from mediadht.core.node import Node
from mediadht.core.records import Payload, sign_record

# --- Sessions ----------------------------------------------------------------------------------------------------


def test_without_a_peer_the_node_asks_for_bootstrap_and_dials_whom_it_remembers() -> None:
    bench = Bench()
    assert Bootstrap() in bench.effects
    bench = Bench.__new__(Bench)
    with mock.patch.object(Node, "handle", return_value=[]):
        bench.__init__()  # type: ignore[misc]
    bench.node.restore([contact(n) for n in range(5)], [])
    dialled = {e.contact.node_id for e in bench.give(Start()) if isinstance(e, Dial)}
    assert dialled == {contact(n).node_id for n in range(5)}


def test_who_dialled_us_enters_the_table_only_after_a_dial_back() -> None:
    bench = Bench()
    bench.connect(1, outbound=False)
    assert Probe(contact(1)) in bench.effects
    assert len(bench.node.state.table) == 0
    bench.give(ProbeEnded(contact(1).node_id, True, "8.8.8.8"))
    assert list(bench.node.state.table) == [contact(1).node_id]


def test_who_cannot_be_dialled_back_is_named_to_nobody() -> None:
    bench = Bench()
    bench.connect(1, outbound=False)
    bench.give(ProbeEnded(contact(1).node_id, False))
    assert len(bench.node.state.table) == 0
    assert len(bench.node.state.book.live) == 0


def test_a_silent_session_is_pinged_and_closed_when_no_answer_comes() -> None:
    bench = connected(1)
    bench.run_until(SESSION_IDLE_PING_S + TICK_S + 1)
    pings = [(n, q) for n, q in bench.sent if isinstance(q.request, Ping)]
    assert len(pings) == 1
    bench.run_until(bench.now + REQUEST_TIMEOUT_S + 1)
    assert Hangup(contact(0).node_id, Code.TIMED_OUT) in bench.effects


def test_the_session_of_least_use_is_closed_for_one_too_many() -> None:
    bench = connected(3, sessions_max=3)
    bench.effects.clear()
    bench.connect(3)
    hangups = [e for e in bench.effects if isinstance(e, Hangup)]
    assert hangups == [Hangup(min(contact(n).node_id for n in range(3)), Code.BUSY)]


def test_who_leaves_is_dropped_at_once_and_its_requests_are_lost() -> None:
    bench = connected(2)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    node_id = contact(0).node_id
    bench.give(SessionClosed(node_id, Code.LEAVING))
    assert node_id not in bench.node.state.table
    assert node_id not in bench.node.state.book.live
    bench.answer_all(QUIET)
    [ended] = bench.told(LookupEnded)
    assert isinstance(ended, LookupEnded)
    assert ended.replicas_answered == 1


def test_messages_without_a_session_and_answers_to_nothing_are_ignored() -> None:
    bench = connected(1)
    assert bench.give(Received(contact(9).node_id, Query(1, Ping()))) == []
    assert bench.give(Received(contact(0).node_id, Answer(999, Pong()))) == []


def test_an_answer_from_another_than_was_asked_is_ignored() -> None:
    bench = connected(2)
    bench.give(StartPing(1, contact(0).node_id, 5.0))
    [(node_id, query)] = bench.sent
    assert node_id == contact(0).node_id
    bench.give(Received(contact(1).node_id, Answer(query.transaction, Pong())))
    assert bench.told(PingEnded) == []
    bench.now += 0.25
    bench.give(Received(contact(0).node_id, Answer(query.transaction, Pong())))
    assert bench.told(PingEnded) == [PingEnded(1, 0.25, "")]
    bench.give(Received(contact(0).node_id, Answer(query.transaction, Pong())))
    assert len(bench.told(PingEnded)) == 1, "a transaction is used once"


def test_one_peer_that_fails_to_be_dialled_for_ever_leaves_nothing_behind() -> None:
    bench = connected(1)
    for n in range(1_000, 1_400):
        bench.give(DialFailed(contact(n).node_id, Code.UNREACHABLE))
    assert len(bench.node.state.book) == 1


def test_contacts_at_private_addresses_are_neither_believed_nor_dialled_unless_allowed() -> None:
    private = Contact.of(keys(7).public_key, ("ws://127.0.0.1:1/",), None)
    for allowed in (False, True):
        bench = connected(1, private_allowed=allowed)
        bench.give(StartLookup(1, SUBJECT, 16, 15.0))
        node_id, query = bench.sent.pop(0)
        bench.give(Received(node_id, Answer(query.transaction, Got((), 0, (private,)))))
        assert (private.node_id in bench.node.state.book) == allowed
        assert any(n == private.node_id for n, _ in bench.sent) == allowed


# --- Lookups -----------------------------------------------------------------------------------------------------


def test_a_provider_is_handed_on_at_once_and_each_signer_once() -> None:
    bench = connected(4)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    node_id, query = bench.sent.pop(0)
    bench.give(Received(node_id, Answer(query.transaction, Got((raw(provider()),), 1))))
    assert len(bench.told(ProviderFound)) == 1
    assert bench.told(LookupEnded) == []
    bench.answer_all(QUIET | {Get: Got((raw(provider(sequence=2)),), 1)})
    assert len(bench.told(ProviderFound)) == 1
    assert len(bench.told(LookupEnded)) == 1


@pytest.mark.parametrize(
    "bad",
    [
        (b"junk", bytes(64)),
        (provider().body, bytes(64)),
        raw(provider(subject=media("sha256." + "1" * 64))),
        raw(sign_record(keys(3), SUBJECT, server_name="a.org", sequence=1, expires_s=EPOCH_S, payload=Payload())),
    ],
)
def test_records_that_are_forged_foreign_or_expired_are_not_handed_on(bad: tuple[bytes, bytes]) -> None:
    bench = connected(3)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    bench.answer_all(QUIET | {Get: Got((bad,), 500)})
    assert bench.told(ProviderFound) == []
    [ended] = bench.told(LookupEnded)
    assert isinstance(ended, LookupEnded)
    assert (ended.providers_total, ended.replicas_holding) == (0, 0)


def test_a_node_whose_clock_is_behind_finds_fresh_records_all_the_same() -> None:
    bench = connected(3)
    ahead_s = EPOCH_S + RECORD_VALIDITY_S + 3_600
    fresh = sign_record(keys(3), SUBJECT, server_name="a.org", sequence=1, expires_s=ahead_s, payload=Payload())
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    bench.answer_all(QUIET | {Get: Got((raw(fresh),), 1)})
    assert [found.record for found in bench.told(ProviderFound)] == [fresh]


def test_a_replica_that_pages_for_ever_is_left() -> None:
    """It repeats one full page: the lookup ends within its bound of pages."""
    bench = connected(1)
    page = tuple(raw(provider(n)) for n in range(16))
    bench.give(StartLookup(1, SUBJECT, 500, 15.0))
    asked = bench.answer_all(QUIET | {Get: Got(page, 500)})
    assert len(asked) <= 40
    assert len(bench.told(ProviderFound)) == 16
    assert len(bench.told(LookupEnded)) == 1


def test_peers_that_refuse_or_answer_something_else_are_gone_around() -> None:
    for odd in (Failure("busy", ""), Pong(), Found(()), PutDone(())):
        bench = connected(3)
        bench.give(StartLookup(1, SUBJECT, 16, 15.0))
        bench.answer_all(QUIET | {Get: odd})
        [ended] = bench.told(LookupEnded)
        assert isinstance(ended, LookupEnded)
        assert ended.replicas_answered == 0


def test_a_network_of_one_answers_for_itself() -> None:
    bench = Bench()
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    assert bench.told(LookupEnded) == [LookupEnded(1, 0, 1, 0, 0, 0, True)]


def test_a_lookup_of_nobody_ends_at_once_and_says_that_nobody_was_heard() -> None:
    bench = Bench(expects_peers=True)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    assert bench.told(LookupEnded) == [LookupEnded(1, 0, 0, 0, 0, 0, True)]


def test_a_cancelled_lookup_says_nothing_more() -> None:
    bench = connected(3)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    bench.give(Cancel(1))
    bench.answer_all(QUIET)
    bench.run_until(20.0)
    assert bench.told(LookupEnded) == []
    assert bench.node.state.operations == 0


def test_the_deadline_ends_a_lookup_incomplete() -> None:
    bench = connected(3)
    bench.give(StartLookup(1, SUBJECT, 16, 0.3))
    bench.run_until(0.31)
    [ended] = bench.told(LookupEnded)
    assert isinstance(ended, LookupEnded)
    assert not ended.complete


def test_lookups_beyond_the_limit_wait_their_turn_and_their_deadline_runs_meanwhile() -> None:
    with mock.patch.object(state_module, "LOOKUPS_MAX", 2), mock.patch.object(node_module, "LOOKUPS_WAITING_MAX", 3):
        bench = connected(3)
        assert bench.node.state.operations == 0
        for number in range(6):
            bench.give(StartLookup(number, SUBJECT, 16, 1.0 if number == 2 else 15.0))
        assert bench.node.state.operations == 2
        refused = [n for n in bench.notices if isinstance(n, LookupEnded)]
        assert refused == [LookupEnded(5, 0, 0, 0, 0, 0, False)]
        bench.give(Cancel(3))
        bench.run_until(1.1)
        ended = [n.operation for n in bench.notices if isinstance(n, LookupEnded)]
        assert ended == [5, 2], "it waited as long as it could"
        bench.answer_all(QUIET)
        ended = [n.operation for n in bench.notices if isinstance(n, LookupEnded)]
        assert sorted(ended) == [0, 1, 2, 4, 5]
        assert bench.node.state.operations == 0


def test_operations_that_have_ended_are_forgotten() -> None:
    bench = connected(1)
    for number in range(50):
        bench.give(StartPing(number, contact(0).node_id, 1.0))
        bench.answer_all(QUIET)
    assert len(bench.node._operations) <= 1


def test_a_flood_of_invented_contacts_ends_at_the_limit_of_requests() -> None:
    bench = connected(1)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    number = 10_000
    asked = 0
    while bench.sent:
        node_id, query = bench.sent.pop(0)
        if node_id == contact(0).node_id and isinstance(query.request, Get):
            named = tuple(contact(number := number + 1) for _ in range(K))
            bench.give(Received(node_id, Answer(query.transaction, Got((), 0, named))))
        else:
            asked += 1
            bench.give(DialFailed(node_id, Code.UNREACHABLE))
    bench.run_until(20.0)
    assert asked <= LOOKUP_REQUESTS_MAX
    assert len(bench.told(LookupEnded)) == 1


def test_a_lookup_that_waits_for_the_slow_loses_patience_whatever_the_clock_reads() -> None:
    """The moment is computed as a sum; as a difference it may lie just before, and the node would spin."""
    for start_s in (0.1, 1 / 3, 1e6 + 0.7, 12_345.678_9, 86_400.1):
        bench = connected(3)
        bench.now = start_s
        bench.give(Woke())
        bench.answer_all(QUIET)
        bench.give(StartLookup(1, SUBJECT, 16, 15.0))
        bench.sent.clear()
        bench.run_until(start_s + 4.0)
        assert len(bench.told(LookupEnded)) == 1


def test_a_candidate_that_is_forgotten_while_a_lookup_runs_is_gone_around() -> None:
    bench = Bench()
    bench.node.restore([contact(number) for number in range(12)], [])
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    asked = [node_id for node_id, _ in bench.sent]
    book = bench.node.state.book
    for number in range(12):
        node_id = contact(number).node_id
        if node_id not in asked:
            for _ in range(CONTACT_FAILURES_MAX):
                book.failed(node_id, bench.now)
            assert node_id not in book, "hearsay that fails is forgotten"
    bench.run_until(30.0)
    assert len(bench.told(LookupEnded)) == 1
