"""A node's own announcements: stored on time, renewed by sweep, withdrawn for as long as anybody could remember.

Announcements that fall due are taken in the order of their keys, a region of the key space at a time: one lookup finds
the region's nodes, and its records travel many to a message. A withdrawal is told like a record, and again, until what
it withdraws would have expired. Implements `docs/protocol.md`, section "Publishing".
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mediadht.core.constants import (
    CLOCK_TOLERANCE_S,
    ID_BITS,
    NETWORK_GREW,
    PUBLISH_RETRY_S_MAX,
    PUBLISH_RETRY_S_MIN,
    RECORD_VALIDITY_S,
    REPLICAS_ENOUGH,
    REPUBLISH_INTERVAL_S,
    REPUBLISH_JITTER,
    SWEEP_AHEAD_SHARE,
    SWEEP_KEYS_PER_REGION_MAX,
    SWEEP_KEYS_SCANNED_MAX,
    SWEEP_REGIONS_MAX,
)
from mediadht.core.errors import Code
from mediadht.core.events import AnnouncementProgress, AnnounceWish
from mediadht.core.identifiers import Subject
from mediadht.core.records import Payload, Record, sign_record
from mediadht.core.state import NodeState
from mediadht.core.storing import StoreOutcome, StoreRecords
from mediadht.core.xor_index import XorIndex

__all__ = ["Publisher"]


@dataclass(slots=True)
class _Announcement:
    """One own announcement. Times are monotonic seconds, sequences milliseconds of Unix time."""

    subject: Subject
    payload: Payload | None
    sequence: int
    next_s: float
    told_until_s: float
    """A withdrawal is told until then; a canary lives until then; infinity for what is renewed."""
    lifetime_s: int
    attempts: int = 0
    is_storing: bool = False
    changed: bool = False
    """The wish, or the network to be seen, changed while a round was under way."""
    network_size: int = 0
    """Nodes to be seen when it was stored, 0 where that is not known."""
    overtaken: bool = False
    """The latest round was the second try with a sequence above one that a replica held."""


class Publisher:
    """Keeps the node's own announcements stored. Driven by `AnnounceWish` events and its own timer."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._announcements: dict[int, _Announcement] = {}
        self._index = XorIndex()
        self._queue: list[tuple[float, int]] = []
        self._due = XorIndex()
        self._cursor = 0
        self._regions = 0
        self._is_sweeping = self._is_waiting = False
        self._timer_s = float("inf")
        self._was_alone = True
        self.round_ended: Callable[[Subject, Payload | None, Counter[bytes]], None] = lambda *_: None
        """Called with what the replicas said of the key's room."""
        self._size_min: float = float("inf")
        """No announcement was stored when fewer nodes were to be seen."""

    def __len__(self) -> int:
        return len(self._announcements)

    def payload_of(self, key: int) -> Payload | None:
        """What this node announces at a key; None if nothing, or a withdrawal."""
        held = self._announcements.get(key)
        return None if held is None else held.payload

    def wish(self, wish: AnnounceWish) -> None:
        """Take a new or changed wish; what was stored recently enough is left for its time."""
        key, now = wish.subject.key, self._state.now
        told_until_s = float("inf")
        if wish.payload is None:
            age_s = 0.0 if wish.withdrawn_at_s is None else max(0.0, self._state.wall_s - wish.withdrawn_at_s)
            told_until_s = now + max(0.0, RECORD_VALIDITY_S - age_s)
        elif wish.lifetime_s is not None:
            told_until_s = now + wish.lifetime_s
        next_s = now
        if wish.stored_at_s:
            age_s = max(0.0, self._state.wall_s - wish.stored_at_s)
            next_s = now + max(0.0, self._interval_s() - age_s)
        held = self._announcements.get(key)
        if held is None:
            held = _Announcement(wish.subject, wish.payload, wish.sequence, next_s, told_until_s, RECORD_VALIDITY_S)
            self._announcements[key] = held
            self._index.add(key)
        held.payload, held.told_until_s, held.attempts = wish.payload, told_until_s, 0
        held.lifetime_s = RECORD_VALIDITY_S if wish.lifetime_s is None else wish.lifetime_s
        held.sequence = max(held.sequence, wish.sequence)
        held.changed = held.is_storing
        self._schedule(held, next_s)

    def somebody_is_there(self) -> None:
        """The first peer was reached: what only this node holds is told now."""
        if self._was_alone:
            self._was_alone = False
            for held in self._announcements.values():
                if held.next_s > self._state.now and held.attempts:
                    held.attempts = 0
                    self._schedule(held, self._state.now)

    def look_around(self) -> None:
        """The neighbourhood was looked up: what was stored when far fewer nodes were to be seen is stored again."""
        size = self._state.network_size()
        if size < NETWORK_GREW * self._size_min:
            return
        self._size_min = float("inf")
        for held in self._announcements.values():
            if held.network_size and size >= NETWORK_GREW * held.network_size:
                held.network_size = 0
                if held.is_storing:
                    held.changed = True
                elif held.next_s > self._state.now:
                    self._schedule(held, self._state.now)
            elif held.network_size:
                self._size_min = min(self._size_min, held.network_size)

    def _schedule(self, held: _Announcement, at_s: float) -> None:
        held.next_s = at_s
        heapq.heappush(self._queue, (at_s, held.subject.key))
        if len(self._queue) > 2 * len(self._announcements) + 64:
            self._queue = [(a.next_s, key) for key, a in self._announcements.items() if not a.is_storing]
            heapq.heapify(self._queue)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._queue and self._queue[0][0] < self._timer_s:
            self._timer_s = self._queue[0][0]
            self._state.timers.set(self._timer_s, self._on_timer)

    def _on_timer(self) -> None:
        if self._state.now < self._timer_s:
            return
        self._timer_s = float("inf")
        self._sweep()
        self._set_timer()

    def _sweep(self) -> None:
        """Start regions in the order of their keys, from where the last one ended.

        A region may end before this returns (where nobody can be asked): that must not start the next from within.
        """
        if not self._is_sweeping:
            self._is_sweeping = True
            self._start_regions()
            self._is_sweeping = False

    def _start_regions(self) -> None:
        while self._queue and self._queue[0][0] <= self._state.now:
            at_s, key = heapq.heappop(self._queue)
            held = self._announcements.get(key)
            if held is not None and held.next_s == at_s and not held.is_storing:
                self._due.add(key)
        while self._regions < SWEEP_REGIONS_MAX and self._state.has_room_for_operation:
            first_key = self._due.following(self._cursor)
            if first_key is None:
                return
            self._start_region(first_key)
        if not self._regions and not self._is_waiting:
            # Lookups have taken all the room: nothing of our own will end and call this again.
            self._is_waiting = True
            self._state.after(PUBLISH_RETRY_S_MIN, self._on_room)

    def _on_room(self) -> None:
        self._is_waiting = False
        self._sweep()
        self._set_timer()

    def _start_region(self, first_key: int) -> None:
        batch = list(self._region(first_key))
        self._cursor = batch[-1].subject.key + 1
        self._regions += 1
        size = self._state.network_size()
        self._size_min = min(self._size_min, size)
        for held in batch:
            self._due.discard(held.subject.key)
            held.is_storing, held.changed, held.network_size = True, False, size
        records = [self._signed(held) for held in batch]

        def done(outcomes: list[StoreOutcome]) -> None:
            self._regions -= 1
            for held, record, outcome in zip(batch, records, outcomes, strict=True):
                self._round_ended(held, record, outcome)
            self._sweep()
            self._set_timer()

        StoreRecords(self._state, records, done).proceed()

    def _region(self, first_key: int) -> Iterator[_Announcement]:
        """Announcements near `first_key` that are due, or nearly so.

        A region holds k nodes or fewer, so the k closest to any key in it are found by one lookup.
        """
        size, k = self._state.network_size(), self._state.settings.k
        bits = max(0, (2 * size // k).bit_length())
        high = ((first_key >> (ID_BITS - bits)) + 1) << (ID_BITS - bits) if bits else 1 << ID_BITS
        ahead_s = self._state.now + SWEEP_AHEAD_SHARE * REPUBLISH_INTERVAL_S
        count = 0
        for key in self._index.between(first_key, high, SWEEP_KEYS_SCANNED_MAX):
            held = self._announcements[key]
            if held.is_storing or not (key in self._due or held.next_s <= ahead_s):
                continue
            yield held
            count += 1
            if count >= SWEEP_KEYS_PER_REGION_MAX:
                return

    def _signed(self, held: _Announcement) -> Record:
        assert self._state.contact.server_name is not None, "the driver refuses announcements without a server name"
        wall_s = self._state.wall_s
        held.sequence = max(held.sequence + 1, int(wall_s * 1000))
        return sign_record(
            self._state.keys,
            held.subject,
            server_name=self._state.contact.server_name,
            sequence=held.sequence,
            expires_s=int(wall_s) + held.lifetime_s,
            payload=held.payload,
        )

    def _round_ended(self, held: _Announcement, record: Record, outcome: StoreOutcome) -> None:
        now = self._state.now
        held.is_storing = False
        held.overtaken = self._is_overtaken(held, record, outcome)
        if held.overtaken:
            held.sequence = max(held.sequence, outcome.newer_sequence)
        if held.changed or held.overtaken:
            held.changed = False
            self._schedule(held, now)
            return
        others = len(outcome.replicas - {self._state.own_id})
        trouble = self._trouble(outcome, others)
        if trouble is None:
            held.attempts = 0
            next_s = now + self._interval_s()
        else:
            held.attempts += 1
            floor_s = PUBLISH_RETRY_S_MIN if others == 0 else PUBLISH_RETRY_S_MAX / 10
            next_s = now + min(PUBLISH_RETRY_S_MAX, floor_s * 2 ** min(held.attempts - 1, 10))
        ended = now >= held.told_until_s or (next_s > held.told_until_s and (record.withdrawn or trouble is None))
        if ended:
            del self._announcements[held.subject.key]
            self._index.discard(held.subject.key)
        else:
            self._schedule(held, next_s)
        self._was_alone = self._was_alone or others == 0
        if not record.withdrawn:
            self.round_ended(held.subject, held.payload, outcome.rooms)
        self._state.tell(
            AnnouncementProgress(
                held.subject,
                record.withdrawn,
                ended,
                held.sequence,
                others,
                outcome.requests,
                outcome.hops,
                next_s - now,
                trouble,
            )
        )

    def _is_overtaken(self, held: _Announcement, record: Record, outcome: StoreOutcome) -> bool:
        """Whether to store again at once, above the sequence that a replica says it holds.

        Our clock may have been set back. But it is one replica's word: a sequence from beyond any honest clock would
        leave us no higher one, and a replica that always says so would keep us busy. So it counts once a round, up to
        the end of what a record's times may be.
        """
        ceiling = int((self._state.wall_s + RECORD_VALIDITY_S + CLOCK_TOLERANCE_S) * 1000)
        return not held.overtaken and record.sequence < outcome.newer_sequence <= ceiling

    def _trouble(self, outcome: StoreOutcome, others: int) -> str | None:
        if outcome.refusals.get(Code.CLOCK, 0) + outcome.refusals.get(Code.EXPIRED, 0) > len(outcome.replicas):
            return "replicas refuse its times: this machine's clock is wrong; set it by NTP"
        if others == 0 and not self._state.sessions:
            return "no other node is reachable; it is told as soon as one is"
        enough = min(REPLICAS_ENOUGH, max(1, outcome.wanted - 1))
        if others < enough:
            refusals = ", ".join(f"{code} ({count})" for code, count in sorted(outcome.refusals.items()))
            return f"{others} of {outcome.wanted} replicas took it" + (f"; refused: {refusals}" if refusals else "")
        if outcome.nearest < enough:
            return f"only {outcome.nearest} of its nearest nodes could be reached, where it will be looked for"
        return None

    def _interval_s(self) -> float:
        return REPUBLISH_INTERVAL_S * (1 - REPUBLISH_JITTER * self._state.random_share())
