"""The owner's announcements: who wished for which, what is on disk, how far the DHT has it.

An announcement stands as long as one source wishes it. It is written to disk before anybody is told that it exists,
and before the node hears of it, so that what was acknowledged is never lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from mediadht.core.errors import CallerError
from mediadht.core.events import AnnouncementProgress, AnnounceWish
from mediadht.core.identifiers import Kind, Subject, room
from mediadht.core.records import Payload
from mediadht.daemon.driver import Driver
from mediadht.daemon.face import Announce, Announcement
from mediadht.daemon.storage import Storage, StoredAnnouncement

__all__ = ["Announcer"]

_SOURCES_MAX = 8


class Announcer:
    """Keeps the list of own announcements: memory, disk and node in step."""

    def __init__(self, driver: Driver, storage: Storage, server_name: str | None) -> None:
        self._driver = driver
        self._storage = storage
        self._server_name = server_name
        self._rows: dict[Subject, StoredAnnouncement] = {}
        self._next_s: dict[Subject, float] = {}
        self._trouble: dict[Subject, str] = {}
        self._writing: dict[Subject, trio.Event] = {}
        """Subjects whose rows are on their way to the disk; the event tells when that is over."""

    async def restore(self, rows: list[StoredAnnouncement]) -> None:
        """Take back what was on disk at the start."""
        for row in rows:
            self._rows[row.subject] = row
            if self._server_name is not None:
                await self._driver.step(_wish(row))

    async def announce(self, wishes: Sequence[Announce]) -> list[Announcement]:
        """See `DHT.announce`."""
        if self._server_name is None:
            raise CallerError(
                "this node serves no homeserver and so cannot announce anything: start it with --server-name"
            )
        changed: dict[Subject, StoredAnnouncement] = {}
        fresh: list[StoredAnnouncement] = []
        await self._nobody_writes([wish.subject for wish in wishes])
        for wish in wishes:
            row = changed.get(wish.subject) or self._rows.get(wish.subject)
            merged = _merged(row, wish)
            if merged != row:
                changed[wish.subject] = merged
                if row is None or not _says_the_same(row, merged):
                    fresh.append(merged)
        await self._write(changed)
        for row in fresh:
            await self._driver.step(_wish(row))
        return [self._shown(self._rows[wish.subject]) for wish in wishes]

    async def withdraw(self, subjects: Sequence[Subject], source: str | None) -> list[Subject]:
        """See `DHT.withdraw`."""
        changed: dict[Subject, StoredAnnouncement] = {}
        ended: list[Subject] = []
        await self._nobody_writes(subjects)
        for subject in subjects:
            row = self._rows.get(subject)
            if row is None or row.withdrawn or subject in changed:
                continue
            left = frozenset() if source is None else row.sources - {source}
            if left == row.sources:
                continue
            changed[subject] = StoredAnnouncement(
                subject,
                row.room_id,
                row.offers,
                left,
                row.sequence,
                row.replicas if left else 0,
                row.stored_at_s if left else 0.0,
                None if left else time.time(),
            )
            if not left:
                ended.append(subject)
        await self._write(changed)
        if self._server_name is not None:
            for subject in ended:
                await self._driver.step(_wish(changed[subject]))
        return ended

    async def _nobody_writes(self, subjects: Sequence[Subject]) -> None:
        """Wait until what is known of these subjects is what is on disk: a change must not be built on a past state."""
        while (busy := next((self._writing[each] for each in subjects if each in self._writing), None)) is not None:
            await busy.wait()

    async def _write(self, changed: dict[Subject, StoredAnnouncement]) -> None:
        """Bring the rows to the disk, then into memory. Raises EnvironmentFault, with neither changed."""
        if not changed:
            return
        with self._marked_as_written(list(changed)):
            await self._storage.write_announcements(list(changed.values()))
        for subject, row in changed.items():
            held = self._rows.get(subject)
            if held is not None and _says_the_same(held, row):
                # A round may have ended in the meantime.
                row.sequence, row.replicas, row.stored_at_s = held.sequence, held.replicas, held.stored_at_s
                self._storage.note_progress(row)
            self._rows[subject] = row

    @contextmanager
    def _marked_as_written(self, subjects: Sequence[Subject]) -> Iterator[None]:
        over = trio.Event()
        self._writing |= dict.fromkeys(subjects, over)
        try:
            yield
        finally:
            for subject in subjects:
                del self._writing[subject]
            over.set()

    def progress(self, notice: AnnouncementProgress) -> None:
        """The node ended a round of one of them."""
        row = self._rows.get(notice.subject)
        if row is None or row.withdrawn != notice.withdrawn:
            return
        if notice.ended:
            del self._rows[notice.subject]
            self._next_s.pop(notice.subject, None)
            self._trouble.pop(notice.subject, None)
            self._storage.forget_announcement(notice.subject)
            return
        row.sequence, row.replicas = notice.sequence, notice.replicas
        if notice.trouble is None:
            row.stored_at_s = time.time()
        self._next_s[notice.subject] = time.time() + notice.next_in_s
        if notice.trouble is None:
            self._trouble.pop(notice.subject, None)
        else:
            self._trouble[notice.subject] = notice.trouble
        self._storage.note_progress(row)

    def shown(self, subject: Subject) -> Announcement | None:
        """One announcement, for people."""
        row = self._rows.get(subject)
        return None if row is None else self._shown(row)

    def all_shown(self) -> list[Announcement]:
        """All of them, in the order of their keys."""
        return [self._shown(row) for row in sorted(self._rows.values(), key=lambda row: row.subject.key)]

    @property
    def standing(self) -> int:
        """How many are not withdrawn."""
        return sum(not row.withdrawn for row in self._rows.values())

    @property
    def pending(self) -> int:
        """How many stand and are held by no replica yet."""
        return sum(not row.withdrawn and row.replicas == 0 for row in self._rows.values())

    def troubles(self) -> list[str]:
        """The distinct reasons for which announcements fell short, most frequent first."""
        counts: dict[str, int] = {}
        for text in self._trouble.values():
            counts[text] = counts.get(text, 0) + 1
        return sorted(counts, key=lambda text: (-counts[text], text))

    def _shown(self, row: StoredAnnouncement) -> Announcement:
        now_s = time.time()
        return Announcement(
            subject=row.subject,
            sources=row.sources,
            room_id=row.room_id,
            offers=row.offers,
            sequence=row.sequence,
            replicas=row.replicas,
            withdrawn=row.withdrawn,
            stored_s_ago=max(0.0, now_s - row.stored_at_s) if row.stored_at_s else None,
            next_in_s=max(0.0, self._next_s.get(row.subject, now_s) - now_s),
            trouble=self._trouble.get(row.subject),
        )


def _merged(row: StoredAnnouncement | None, wish: Announce) -> StoredAnnouncement:
    """What is announced once `wish` is added to `row`: the latest wish says what, all sources say that."""
    if wish.room_id is not None:
        room(wish.room_id)
    room_id = wish.room_id if wish.subject.kind is Kind.MEDIA else None
    stands = row is not None and not row.withdrawn
    sources = (row.sources if row is not None and stands else frozenset()) | {wish.source}
    if len(sources) > _SOURCES_MAX:
        raise CallerError(f"an announcement has {_SOURCES_MAX} sources at most")
    merged = StoredAnnouncement(
        wish.subject,
        room_id,
        wish.offers,
        sources,
        sequence=row.sequence if row is not None else 0,
    )
    if row is not None and _says_the_same(row, merged):
        merged.replicas, merged.stored_at_s = row.replicas, row.stored_at_s
    return merged


def _says_the_same(one: StoredAnnouncement, other: StoredAnnouncement) -> bool:
    """Whether the DHT is told the same by both: who wished it is nobody else's business."""
    return (one.withdrawn, one.room_id, one.offers) == (other.withdrawn, other.room_id, other.offers)


def _wish(row: StoredAnnouncement) -> AnnounceWish:
    payload = None if row.withdrawn else Payload(row.room_id, row.offers)
    return AnnounceWish(row.subject, payload, row.sequence, row.stored_at_s, withdrawn_at_s=row.withdrawn_at_s)
