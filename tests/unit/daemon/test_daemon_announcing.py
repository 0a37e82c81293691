"""The announcer: sources, what is told to the node and when, refusing disks, simultaneous callers, restarts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
from daemon_parts import FakeDriver, FullDisk, subject
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from trio.testing import wait_all_tasks_blocked

from mediadht.core.errors import CallerError, EnvironmentFault
from mediadht.core.events import AnnouncementProgress
from mediadht.core.identifiers import room
from mediadht.core.records import Offer
from mediadht.daemon.announcing import Announcer
from mediadht.daemon.face import Announce
from mediadht.daemon.storage import Storage

A, B = subject("a"), subject("b")
ROOM = "!room:example.org"


@pytest.fixture
def announcer(driver: FakeDriver, storage: Storage) -> Announcer:
    return Announcer(driver, storage, "example.org")  # type: ignore[arg-type]


def told(driver: FakeDriver) -> list[tuple[object, bool]]:
    """What the node was told: the subject, and whether it stands."""
    return [(event.subject, event.payload is not None) for event in driver.events]


def progress(sought: object, *, withdrawn: bool = False, **more: object) -> AnnouncementProgress:
    values = {"ended": False, "sequence": 5, "replicas": 3, "next_in_s": 60.0, "trouble": None}
    values |= {"requests": 3, "hops": 1}
    return AnnouncementProgress(sought, withdrawn, **(values | more))  # type: ignore[arg-type]


async def test_it_stands_until_every_source_has_withdrawn_it(announcer: Announcer, driver: FakeDriver) -> None:
    await announcer.announce([Announce(A, "api")])
    await announcer.announce([Announce(A, "feed"), Announce(B, "feed")])
    assert announcer.shown(A).sources == {"api", "feed"}
    assert told(driver) == [(A, True), (B, True)]
    assert await announcer.withdraw([A, B], "feed") == [B]
    assert await announcer.withdraw([A, B], "feed") == []
    assert announcer.shown(A).sources == {"api"}
    assert (announcer.standing, announcer.pending) == (1, 1)
    assert await announcer.withdraw([A, A], None) == [A]
    assert told(driver) == [(A, True), (B, True), (B, False), (A, False)]
    assert announcer.shown(A).withdrawn
    assert announcer.standing == 0


async def test_saying_it_again_costs_nothing(announcer: Announcer, driver: FakeDriver, storage: Storage) -> None:
    wish = Announce(A, "api", ROOM, frozenset({Offer.BYTES}))
    await announcer.announce([wish])
    announcer.progress(progress(A))
    FullDisk(storage)  # nothing is written, or this fails
    (shown,) = await announcer.announce([wish])
    assert (shown.replicas, shown.room_id, shown.offers) == (3, ROOM, {Offer.BYTES})
    assert len(driver.events) == 1


async def test_another_room_or_offer_is_told_anew_another_source_is_not(
    announcer: Announcer, driver: FakeDriver
) -> None:
    await announcer.announce([Announce(A, "api")])
    announcer.progress(progress(A))
    (shown,) = await announcer.announce([Announce(A, "cli")])
    assert (shown.replicas, len(driver.events)) == (3, 1)
    (shown,) = await announcer.announce([Announce(A, "cli", ROOM)])
    assert (shown.replicas, shown.stored_s_ago, len(driver.events)) == (0, None, 2)
    await announcer.announce([Announce(A, "cli", ROOM, frozenset({Offer.HISTORY}))])
    assert [event.payload.offers for event in driver.events] == [set(), set(), {Offer.HISTORY}]
    assert driver.events[-1].sequence == 5


async def test_two_wishes_for_one_subject_in_one_call(announcer: Announcer, driver: FakeDriver) -> None:
    shown = await announcer.announce([Announce(A, "api", ROOM), Announce(A, "feed", ROOM), Announce(B, "api")])
    assert [each.sources for each in shown] == [{"api", "feed"}, {"api", "feed"}, {"api"}]
    assert told(driver) == [(A, True), (B, True)]


async def test_a_room_subject_names_no_second_room(announcer: Announcer) -> None:
    (shown,) = await announcer.announce([Announce(room(ROOM), "feed", ROOM)])
    assert shown.room_id is None


async def test_what_callers_did_wrong(announcer: Announcer, driver: FakeDriver, storage: Storage) -> None:
    with pytest.raises(CallerError):
        await announcer.announce([Announce(B, "api"), Announce(A, "api", "no room")])
    with pytest.raises(CallerError, match="8 sources at most"):
        await announcer.announce([Announce(A, f"s{n}") for n in range(9)])
    assert announcer.all_shown() == []
    assert not driver.events
    nobody = Announcer(driver, storage, None)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="--server-name"):
        await nobody.announce([Announce(A, "api")])


async def test_a_refusing_disk_changes_nothing(announcer: Announcer, driver: FakeDriver, storage: Storage) -> None:
    await announcer.announce([Announce(A, "api")])
    before = announcer.shown(A)
    disk = FullDisk(storage)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        await announcer.announce([Announce(A, "feed"), Announce(B, "api")])
    with pytest.raises(EnvironmentFault, match="disk is full"):
        await announcer.withdraw([A], None)
    assert announcer.shown(A).sources == before.sources
    assert announcer.shown(B) is None
    assert told(driver) == [(A, True)]
    disk.is_full = False
    await announcer.announce([Announce(B, "api")])
    assert await announcer.withdraw([A], None) == [A]


async def test_simultaneous_callers_lose_no_source(
    announcer: Announcer, driver: FakeDriver, storage: Storage, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        for source in ("api", "feed", "cli"):
            nursery.start_soon(announcer.announce, [Announce(A, source), Announce(B, source)])
    assert announcer.shown(A).sources == {"api", "feed", "cli"}
    assert {frozenset(row.sources) for row in storage.load(0.0).announcements} == {frozenset({"api", "feed", "cli"})}
    assert told(driver) == [(A, True), (B, True)]
    async with trio.open_nursery() as nursery:
        for source in ("api", "feed", "cli"):
            nursery.start_soon(announcer.withdraw, [A], source)
    assert announcer.shown(A).withdrawn
    assert not announcer._writing


async def test_progress_while_the_disk_is_slow(announcer: Announcer, storage: Storage, nursery: trio.Nursery) -> None:
    await announcer.announce([Announce(A, "api")])
    async with storage._turn:
        nursery.start_soon(announcer.announce, [Announce(A, "feed")])
        await wait_all_tasks_blocked()
        announcer.progress(progress(A, replicas=9))
    await wait_all_tasks_blocked(0.05)
    while announcer.shown(A).sources != {"api", "feed"}:
        await trio.lowlevel.checkpoint()
    assert announcer.shown(A).replicas == 9
    await storage.flush()
    (row,) = storage.load(0.0).announcements
    assert (row.replicas, row.sources) == (9, {"api", "feed"})


async def test_a_cancelled_caller_leaves_memory_and_disk_in_step(announcer: Announcer, storage: Storage) -> None:
    for number in range(10):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for n in range(3):
                    nursery.start_soon(announcer.announce, [Announce(subject((number, n)), "api")])
                for _ in range(number):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
    on_disk = {row.subject for row in storage.load(0.0).announcements}
    assert on_disk == {shown.subject for shown in announcer.all_shown()}


async def test_progress_is_shown_and_kept(announcer: Announcer, storage: Storage) -> None:
    await announcer.announce([Announce(A, "api"), Announce(B, "api")])
    announcer.progress(progress(A))
    announcer.progress(progress(B, replicas=0, trouble="nobody is there"))
    announcer.progress(progress(subject("not ours")))
    announcer.progress(progress(A, withdrawn=True, replicas=17))  # of a round that was over-taken by a new wish
    assert (announcer.shown(A).replicas, announcer.shown(A).sequence) == (3, 5)
    assert announcer.shown(A).stored_s_ago == pytest.approx(0, abs=5)
    assert announcer.shown(A).next_in_s == pytest.approx(60, abs=5)
    assert announcer.shown(B).stored_s_ago is None
    assert announcer.troubles() == ["nobody is there"]
    assert (announcer.standing, announcer.pending) == (2, 1)
    announcer.progress(progress(B, replicas=2))
    assert announcer.troubles() == []
    await announcer.withdraw([A], None)
    announcer.progress(progress(A, withdrawn=True, ended=True))
    assert announcer.shown(A) is None
    await storage.flush()
    (row,) = storage.load(0.0).announcements
    assert (row.subject, row.replicas, row.sequence) == (B, 2, 5)


async def test_a_restart_tells_the_node_everything(announcer: Announcer, driver: FakeDriver, storage: Storage) -> None:
    await announcer.announce([Announce(A, "api", ROOM), Announce(B, "feed")])
    announcer.progress(progress(A))
    await announcer.withdraw([B], None)
    await storage.flush()
    rows = storage.load(0.0).announcements
    again, next_driver = Announcer(driver, storage, "example.org"), FakeDriver()  # type: ignore[arg-type]
    again._driver = next_driver  # type: ignore[assignment]
    await again.restore(rows)
    assert sorted(told(next_driver), key=str) == sorted([(A, True), (B, False)], key=str)
    wish = next(event for event in next_driver.events if event.subject == A)
    assert (wish.sequence, wish.payload.room_id) == (5, ROOM)
    assert wish.stored_at_s > 0


async def test_without_a_server_name_what_is_kept_can_be_withdrawn(
    announcer: Announcer, driver: FakeDriver, storage: Storage
) -> None:
    await announcer.announce([Announce(A, "api")])
    driver.events.clear()
    nobody = Announcer(driver, storage, None)  # type: ignore[arg-type]
    await nobody.restore(storage.load(0.0).announcements)
    assert await nobody.withdraw([A], None) == [A]
    assert not driver.events
    assert storage.load(0.0).announcements[0].withdrawn


class AnnouncerMachine(RuleBasedStateMachine):
    """Against a model: a set of sources for each subject; disk, memory and node agree at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.storage = Storage.open(Path(self.folder.name))
        self.driver = FakeDriver()
        self.announcer = Announcer(self.driver, self.storage, "example.org")  # type: ignore[arg-type]
        self.model: dict[object, set[str]] = {}

    @rule(name=st.integers(0, 3), source=st.sampled_from(["api", "feed"]))
    def announce(self, name: int, source: str) -> None:
        trio.run(self.announcer.announce, [Announce(subject(name), source)])
        self.model.setdefault(subject(name), set()).add(source)

    @rule(name=st.integers(0, 3), source=st.sampled_from(["api", "feed", None]))
    def withdraw(self, name: int, source: str | None) -> None:
        sources = self.model.get(subject(name), set())
        left = set() if source is None else sources - {source}
        ended = trio.run(self.announcer.withdraw, [subject(name)], source)
        assert ended == ([subject(name)] if sources and not left else [])
        if sources:
            self.model[subject(name)] = left

    @rule(name=st.integers(0, 3), ended=st.booleans())
    def round_ended(self, name: int, ended: bool) -> None:
        sources = self.model.get(subject(name))
        if sources is not None:
            self.announcer.progress(progress(subject(name), withdrawn=not sources, ended=ended and not sources))
            if ended and not sources:
                del self.model[subject(name)]

    @rule()
    def flush(self) -> None:
        assert trio.run(self.storage.flush)

    @rule()
    def killed(self) -> None:
        """Nothing lazy was written."""
        self.storage._lazy_progress.clear()
        rows = self.storage.load(0.0).announcements
        for row in rows:
            self.model.setdefault(row.subject, set())
        self.driver = FakeDriver()
        self.announcer = Announcer(self.driver, self.storage, "example.org")  # type: ignore[arg-type]
        trio.run(self.announcer.restore, rows)

    @invariant()
    def agree(self) -> None:
        shown = {each.subject: set(each.sources) for each in self.announcer.all_shown()}
        assert shown == self.model
        on_disk = {row.subject: set(row.sources) for row in self.storage.load(0.0).announcements}
        assert {s: v for s, v in on_disk.items() if v} == {s: v for s, v in self.model.items() if v}
        latest = {event.subject: event.payload is not None for event in self.driver.events}
        assert all(latest[each] == bool(sources) for each, sources in self.model.items())

    def teardown(self) -> None:
        self.storage.__exit__(None, None, None)
        self.folder.cleanup()


TestAnnouncerMachine = AnnouncerMachine.TestCase
TestAnnouncerMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
