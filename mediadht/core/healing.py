"""Healing: whoever announces a media room learns that another is canonical, and that its own must be renewed.

Each round of an announcement brings, from every replica, the first bytes of the digest of the room it holds: no message
more than the round itself. Another's digest, or too few of the own, start one look at the key. A room that this node
established is renewed in time. Implements `docs/protocol.md`, section "Healing".
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from mediadht.core.claim_desk import KnownRoom, best_room, replicas_known
from mediadht.core.claim_rules import quorum, room_digest
from mediadht.core.constants import (
    CLOCK_TOLERANCE_S,
    HEALING_CHECKS_MAX,
    HEALING_WAITING_MAX,
    LOOKUP_DEADLINE_S,
    RECEIPT_S,
    ROOM_PREFIX_BYTES,
    ROOM_RENEW_S,
)
from mediadht.core.establishing import Established, Establishing
from mediadht.core.events import CanonicalChanged
from mediadht.core.identifiers import Kind, Subject
from mediadht.core.records import Payload
from mediadht.core.state import NodeState

__all__ = ["Healing"]


class Healing:
    """Looks after the rooms that this node announces."""

    def __init__(self, state: NodeState, establishing: Establishing) -> None:
        self._state = state
        self._establishing = establishing
        self._waiting: OrderedDict[int, tuple[Subject, str]] = OrderedDict()
        self._running = 0
        self._told: OrderedDict[int, bytes] = OrderedDict()
        """By key: the canonical room that the owner was told of, so that it is told once."""

    def round_ended(self, subject: Subject, payload: Payload | None, shown: Counter[bytes]) -> None:
        """A round of an announcement is over; `shown` counts the prefixes that its replicas sent along."""
        if payload is None or payload.room_id is None or subject.kind is not Kind.MEDIA:
            return
        own = room_digest(subject, payload.room_id)
        prefix = own[:ROOM_PREFIX_BYTES]
        enough = quorum(replicas_known(self._state))
        held = self._establishing.rooms.get(subject.key)
        is_due = held is not None and held[2].record.sequence / 1_000 + ROOM_RENEW_S < self._state.wall_s
        others = sum(shown[other] for other in shown if other not in (b"", prefix))
        if others or is_due or shown[prefix] < enough:
            self.check(subject, payload.room_id)

    def seen(self, subject: Subject, own_room_id: str, rooms: Iterable[KnownRoom]) -> None:
        """Somebody came by the room records of a key that this node announces with `own_room_id`."""
        known = list(rooms)
        if not known:
            return
        best, servers = best_room(subject.key, known)
        digest = best.held.room.digest
        if best.room_id == own_room_id:
            self._told.pop(subject.key, None)
        elif self._told.get(subject.key) != digest:
            self._told[subject.key] = digest
            if len(self._told) > HEALING_WAITING_MAX:
                self._told.popitem(last=False)
            self._state.tell(CanonicalChanged(subject, own_room_id, best.room_id, best.certified, servers))

    def check(self, subject: Subject, room_id: str) -> None:
        """Establish or renew the own room; if another is canonical, that is what comes out."""
        self._waiting[subject.key] = (subject, room_id)
        if len(self._waiting) > HEALING_WAITING_MAX:
            self._waiting.popitem(last=False)
        self._next()

    def _next(self) -> None:
        while self._waiting and self._running < HEALING_CHECKS_MAX and self._state.has_room_for_operation:
            _, (subject, room_id) = self._waiting.popitem(last=False)
            self._running += 1
            self._run(subject, room_id)

    def _run(self, subject: Subject, room_id: str) -> None:
        def done(result: Established, others: list[KnownRoom]) -> None:
            self._running -= 1
            self.seen(subject, room_id, others)
            if not result.certified and result.canonical_room_id == room_id:
                # Receipts given to a room that came to nothing are over by then.
                self._state.after(RECEIPT_S + CLOCK_TOLERANCE_S, lambda: self._again(subject, room_id))
            self._next()

        self._establishing.run(subject, room_id, done, deadline_s=LOOKUP_DEADLINE_S)

    def _again(self, subject: Subject, room_id: str) -> None:
        held = self._establishing.rooms.get(subject.key)
        if held is not None and held[1] == room_id:
            self.check(subject, room_id)
