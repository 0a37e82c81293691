"""A start in the midst of a network: book, table and sessions as if the node had been there for long."""

from __future__ import annotations

import pytest
from core_bench import EPOCH_S, QUIET, SUBJECT, Bench, contact, provider, raw

from mediadht.core.constants import BUCKET_REFRESH_INTERVAL_S, SESSIONS_SOUGHT_SHARE, TICK_S
from mediadht.core.errors import Code
from mediadht.core.events import (
    AnnouncementProgress,
    AnnounceWish,
    Bootstrap,
    Dial,
    LookupEnded,
    Probe,
    Send,
    SessionClosed,
    Start,
    StartLookup,
    WakeAt,
)
from mediadht.core.messages import Find, Get, Got, Ping
from mediadht.core.records import Payload
from mediadht.core.session import Hello


def settled(count: int, *, sessions: int | None = None, **settings: object) -> Bench:
    """A node that knows peers 0 .. count-1, and has a session with the first `sessions` of them (None: with all)."""
    bench = Bench(**settings)
    bench.effects.clear()
    with_session = count if sessions is None else sessions
    refused = bench.node.settle(
        [
            (Hello(contact(n), bytes(8), 10_000, EPOCH_S, "peer"), 0.05, n % 2 == 0 if n < with_session else None)
            for n in range(count)
        ],
        bench.now,
    )
    room = bench.node.state.settings.sessions_max
    assert refused == [contact(n).node_id for n in range(room, with_session)]
    assert not bench.node.state.effects
    assert not bench.effects
    return bench


def test_all_that_were_named_are_live_and_the_table_takes_whom_it_would_have() -> None:
    state = settled(100, sessions=60).node.state
    joined = Bench()
    joined.connect(*range(100))
    assert list(state.table) == list(joined.node.state.table)
    assert len(state.book) == len(state.book.live) == len(state.book.everybody) == 100
    for number in range(100):
        peer = state.book[contact(number).node_id]
        assert peer.connected == (number < 60) == (contact(number).node_id in state.sessions)
        assert peer.in_table == (contact(number).node_id in state.table)
        assert (peer.reachable, peer.failures, peer.round_trip_s) == (True, 0, 0.05)
    unpinned = [p for p in state.book.values() if not (p.in_table or p.connected)]
    assert state.book.pinned_or_recent(1_000)[-len(unpinned) :] == list(reversed(unpinned)), "they can be forgotten"


def test_no_more_sessions_than_there_may_be() -> None:
    state = settled(30, sessions_max=20).node.state
    assert len(state.sessions) == 20
    assert len(state.book.live) == 30


def test_it_neither_joins_nor_dials_and_its_refreshes_are_spread() -> None:
    bench = settled(60, pings=False)
    bench.run_until(4.0)
    assert all(isinstance(effect, WakeAt) for effect in bench.effects)
    ages_s = [-bucket.looked_up_s for bucket in bench.node.state.table._buckets]
    assert len(set(ages_s)) == len(ages_s) > 1
    assert all(0 <= age_s < BUCKET_REFRESH_INTERVAL_S for age_s in ages_s)
    bench.run_until(600.0)
    assert any(isinstance(query.request, Find) for _, query in bench.sent), "its neighbourhood is looked up in time"
    assert not [effect for effect in bench.effects if isinstance(effect, Probe)]
    bootstraps = sum(isinstance(effect, Bootstrap) for effect in bench.effects)
    assert bootstraps <= 1, "once in BOOTSTRAP_INTERVAL_S, as by any node"


def test_table_members_without_a_session_are_dialled_in_time() -> None:
    bench = settled(20, sessions=15)
    bench.run_until(6.0)
    dialled = {effect.contact.node_id for effect in bench.effects if isinstance(effect, Dial)}
    assert dialled == {contact(n).node_id for n in range(15, 20)}


def test_without_pings_a_silent_session_is_left_to_the_driver() -> None:
    for pings in (True, False):
        bench = settled(10, pings=pings)
        bench.run_until(60.0)
        sent = [e.message for e in bench.effects if isinstance(e, Send)]
        assert any(isinstance(getattr(m, "request", None), Ping) for m in sent) == pings


def test_hops_are_counted_from_whom_the_node_knew() -> None:
    bench = settled(3)
    bench.give(StartLookup(1, SUBJECT, 16, 15.0))
    near, nearer = (contact(n) for n in sorted(range(100, 140), key=lambda n: -(contact(n).node_id ^ SUBJECT.key))[-2:])
    numbers = {contact(n).node_id: n for n in range(100, 140)}
    nobody, found = Got((), 0), Got((raw(provider()),), 1)
    asked = bench.answer_all({Get: Got((), 0, (near,))}, limit=1)
    while bench.sent:
        node_id, query = bench.sent[0]
        if node_id in numbers:
            bench.connect(numbers[node_id])
        answer = {near.node_id: Got((), 0, (nearer,)), nearer.node_id: found}.get(node_id, nobody)
        asked += bench.answer_all({type(query.request): answer}, limit=1)
    [ended] = bench.told(LookupEnded)
    assert isinstance(ended, LookupEnded)
    assert ended.hops == 3
    assert ended.requests == sum(isinstance(request, Get) for _, request in asked)


def test_an_announcement_says_what_it_cost() -> None:
    bench = settled(30)
    bench.give(AnnounceWish(SUBJECT, Payload()))
    asked = bench.answer_all(QUIET)
    [progress] = bench.told(AnnouncementProgress)
    assert isinstance(progress, AnnouncementProgress)
    assert (progress.requests, progress.hops) == (len(asked), 1)


def dialled_within(bench: Bench, time_s: float) -> set[int]:
    """Whom the node dials of its own accord in that time; nobody answers it."""
    bench.effects.clear()
    bench.run_until(bench.now + time_s)
    return {effect.contact.node_id for effect in bench.effects if isinstance(effect, Dial)}


def test_members_of_the_table_are_dialled_up_to_a_share_of_the_sessions_and_no_further() -> None:
    """Where everybody is full, each session that one wants costs another node one, which then dials again."""
    sought = int(SESSIONS_SOUGHT_SHARE * 16)
    full = settled(20, sessions=sought, sessions_max=16, pings=False)
    assert set(full.node.state.table) - set(full.node.state.sessions), "there would be somebody to dial"
    full.give(Start())
    assert dialled_within(full, 4 * TICK_S) == set()
    room_left = settled(20, sessions=sought - 1, sessions_max=16, pings=False)
    room_left.give(Start())
    missing = set(room_left.node.state.table) - set(room_left.node.state.sessions)
    assert dialled_within(room_left, 4 * TICK_S) == missing


@pytest.mark.parametrize(("code", "is_dialled"), [(Code.BUSY, False), (Code.IDLE, False), (Code.UNREACHABLE, True)])
def test_a_peer_that_had_no_room_is_left_alone_for_an_hour(code: Code, is_dialled: bool) -> None:
    bench = settled(8, pings=False)
    bench.give(Start())
    victim = contact(3).node_id
    assert victim in bench.node.state.table
    bench.give(SessionClosed(victim, code))
    assert (victim in dialled_within(bench, 10 * TICK_S)) == is_dialled
    if not is_dialled:
        assert victim in dialled_within(bench, BUCKET_REFRESH_INTERVAL_S + TICK_S)
