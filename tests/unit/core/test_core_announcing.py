"""Announcing, against replicas that refuse, lie or are not there."""

from __future__ import annotations

from unittest import mock

import pytest
from core_bench import EPOCH_S, QUIET, SUBJECT, Bench, connected, contact

from mediadht.core import state as state_module
from mediadht.core.constants import (
    RECORD_VALIDITY_S,
)
from mediadht.core.events import (
    AnnouncementProgress,
    AnnounceWish,
    StartLookup,
    Woke,
)
from mediadht.core.identifiers import media
from mediadht.core.messages import (
    Put,
    PutDone,
    PutOutcome,
    Request,
)
from mediadht.core.records import Payload, Record, parse_record


def progress(bench: Bench) -> list[AnnouncementProgress]:
    return [n for n in bench.notices if isinstance(n, AnnouncementProgress)]


def puts(seen: list[tuple[int, Request]]) -> list[Record]:
    return [parse_record(*r) for _, request in seen if isinstance(request, Put) for r in request.records]


def test_an_announcement_says_how_many_took_it() -> None:
    bench = connected(5)
    bench.give(AnnounceWish(SUBJECT, Payload()))
    seen = bench.answer_all(QUIET)
    assert {node_id for node_id, request in seen if isinstance(request, Put)} == {contact(n).node_id for n in range(5)}
    [done] = progress(bench)
    assert (done.replicas, done.trouble, done.withdrawn, done.ended) == (5, None, False, False)


def test_a_clock_set_back_is_made_good_by_one_more_round_above_the_sequence_held() -> None:
    bench = connected(3)
    held = (EPOCH_S + 3_600) * 1_000
    bench.give(AnnounceWish(SUBJECT, Payload()))
    first = bench.answer_all(QUIET | {Put: PutDone((PutOutcome("stale", held),))}, limit=3)
    assert progress(bench) == []
    second = bench.answer_all(QUIET)
    assert {r.sequence for r in puts(first)} == {EPOCH_S * 1_000}
    assert {r.sequence for r in puts(second)} == {held + 1}
    assert [p.trouble for p in progress(bench)] == [None]


@pytest.mark.parametrize("sequence", [(1 << 63) - 1, (EPOCH_S + RECORD_VALIDITY_S + 601) * 1_000])
def test_a_replicas_word_cannot_push_the_sequence_beyond_any_honest_clock(sequence: int) -> None:
    bench = connected(3)
    bench.give(AnnounceWish(SUBJECT, Payload()))
    bench.answer_all(QUIET | {Put: PutDone((PutOutcome("stale", sequence),))})
    [told] = progress(bench)
    assert told.sequence == EPOCH_S * 1_000
    assert told.trouble is not None
    assert "stale (3)" in told.trouble


def test_a_replica_that_always_holds_something_newer_does_not_keep_us_busy() -> None:
    bench = connected(3)
    bench.give(AnnounceWish(SUBJECT, Payload()))
    rounds = 0
    while bench.sent or not progress(bench):
        rounds += 1
        assert rounds < 4
        latest = max((r.sequence for r in puts([(0, q.request) for _, q in bench.sent])), default=0)
        bench.answer_all(QUIET | {Put: PutDone((PutOutcome("stale", latest + 1),))})
        bench.run_until(bench.now + 0.001)
    [told] = progress(bench)
    assert told.trouble is not None


def test_a_peers_own_words_do_not_reach_the_owners_log() -> None:
    bench = connected(3)
    bench.give(AnnounceWish(SUBJECT, Payload()))
    bench.answer_all(QUIET | {Put: PutDone((PutOutcome("\x1b[31mpay here", 0),))})
    [told] = progress(bench)
    assert told.trouble is not None
    assert "pay" not in told.trouble
    assert "other (3)" in told.trouble


def test_many_announcements_of_a_node_alone_do_not_nest() -> None:
    """Each region ends at once where nobody is there: that must not start the next from within."""
    bench = Bench()
    with mock.patch("mediadht.core.publisher.SWEEP_KEYS_PER_REGION_MAX", 1):
        for n in range(1_500):
            bench.node._publisher.wish(AnnounceWish(media("sha256." + f"{n:064x}"), Payload()))
        bench.give(Woke())
    assert len(progress(bench)) == 1_500
    assert all(p.trouble for p in progress(bench))


def test_repeated_wishes_do_not_let_the_queue_grow() -> None:
    bench = connected(2)
    for _ in range(2_000):
        bench.give(AnnounceWish(SUBJECT, Payload(), 1, EPOCH_S))
    assert len(bench.node._publisher._queue) <= 2 * 1 + 66


def test_announcements_wait_while_lookups_take_all_the_room_and_go_on_afterwards() -> None:
    with mock.patch.object(state_module, "LOOKUPS_MAX", 1):
        bench = connected(2)
        bench.give(StartLookup(1, SUBJECT, 16, 15.0))
        bench.give(AnnounceWish(SUBJECT, Payload()))
        assert not any(isinstance(q.request, Put) for _, q in bench.sent)
        for _ in range(3):
            bench.answer_all(QUIET)
            bench.run_until(bench.now + 6.0)
        assert len(progress(bench)) == 1


def test_a_withdrawal_is_told_for_as_long_as_what_it_withdraws_and_a_restart_does_not_begin_that_anew() -> None:
    bench = connected(3)
    bench.give(AnnounceWish(SUBJECT, None, withdrawn_at_s=EPOCH_S - RECORD_VALIDITY_S + 60.0))
    bench.answer_all(QUIET)
    [done] = progress(bench)
    assert (done.withdrawn, done.ended, done.replicas) == (True, True, 3)
