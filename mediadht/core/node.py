"""One DHT node: `handle(event, now) -> effects`.

The node is a function of its state, the event and the time; it does no I/O, reads no clock and draws no randomness of
its own. This file only leads each event to the part that it concerns. What always holds: every request that was sent
ends exactly once (answered or lost), every operation ends with exactly one notice unless cancelled, and every table,
queue and answer is within the bound that `constants` states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from mediadht.core.claim_desk import KnownRoom, restore_claims
from mediadht.core.claim_votes import Promise
from mediadht.core.claims import Claims
from mediadht.core.constants import LOOKUPS_WAITING_MAX, NEWCOMER_UPTIME_S
from mediadht.core.contacts import Contact
from mediadht.core.establishing import Establishing
from mediadht.core.events import (
    AnnounceWish,
    Cancel,
    ClockSet,
    DialFailed,
    Effect,
    EstablishRoom,
    Event,
    Leave,
    Left,
    LookupEnded,
    ProbeEnded,
    Received,
    ReleaseClaim,
    Send,
    SessionClosed,
    SessionOpened,
    Start,
    StartClaim,
    StartLookup,
    StartPing,
    WakeAt,
    Woke,
)
from mediadht.core.handover import Handover
from mediadht.core.healing import Healing
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair
from mediadht.core.maintenance import Maintenance
from mediadht.core.messages import Answer, Ping, Query, SignedRoom, UnknownRequest
from mediadht.core.operations import FindProviders, PingOnce
from mediadht.core.publisher import Publisher
from mediadht.core.records import Record
from mediadht.core.replica import answer
from mediadht.core.room_records import parse_room
from mediadht.core.session import Hello
from mediadht.core.state import NodeSettings, NodeState

__all__ = ["Node"]

_IDLE_REQUESTS = (Ping, UnknownRequest)
_NEVER = float("inf")


class Node:
    """A DHT node. `entropy(n)` gives n random bytes; `registrable_domain` maps a DNS name by the public-suffix list."""

    def __init__(
        self,
        keys: KeyPair,
        contact: Contact,
        settings: NodeSettings,
        *,
        entropy: Callable[[int], bytes],
        registrable_domain: Callable[[str], str | None],
        now: float,
    ) -> None:
        assert contact.node_id == keys.node_id
        self.state = NodeState(keys, contact, settings, entropy, registrable_domain, now=now)
        self._handover = Handover(self.state, now)
        self._publisher = Publisher(self.state)
        self._establishing = Establishing(self.state)
        self._claims = Claims(self.state, self._establishing)
        self._healing = Healing(self.state, self._establishing)
        if settings.claims:
            self._publisher.round_ended = self._healing.round_ended
        self.state.rooms_seen = self._rooms_seen
        self._maintenance = Maintenance(self.state, self._publisher, self._handover)
        self._operations: dict[int, FindProviders | PingOnce] = {}
        self._waiting: dict[int, tuple[StartLookup, float]] = {}
        self._wake_s = _NEVER

    def restore(self, contacts: Iterable[Contact], records: Iterable[Record]) -> None:
        """Take back what was on disk, before `Start`. Contacts are hearsay until they answer."""
        self.state.learn(contacts)
        for record in records:
            self.state.store.put(record)

    def settle(
        self,
        peers: Iterable[tuple[Hello, float | None, bool | None]],
        now: float,
        *,
        uptime_s: float = NEWCOMER_UPTIME_S,
    ) -> list[int]:
        """Begin in the midst of a network instead of joining it: for simulations. After `ClockSet`, before `Start`.

        Each of `peers` is what the peer would say in a handshake, its round trip in seconds (None: never measured),
        and whether there is a session with it: True outbound, False inbound, None without one. They are believed to
        have answered at their endpoints just now; they come into the table in this order, as far as there is room. No
        effect follows, no lookup starts: the buckets' and the neighbourhood's refreshes are due at random times within
        their intervals. The node takes itself for up since `uptime_s`. Returns the IDs of those whose session (or who
        themselves) found no room: the driver must not keep a session with them.
        """
        self.state.now = now
        self._handover.settle(now - uptime_s)
        return self._maintenance.settle(peers)

    def restore_claims(
        self,
        promises: Iterable[Promise],
        rooms: Iterable[SignedRoom] = (),
        own_rooms: Iterable[tuple[Subject, str, SignedRoom]] = (),
    ) -> None:
        """Take back what was promised, kept and established before a restart; after the first `ClockSet`."""
        restore_claims(self.state, promises, rooms)
        for subject, room_id, raw in own_rooms:
            self._establishing.restore(subject, room_id, parse_room(raw, verify=False))

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event` at the monotonic time `now`, in seconds."""
        state = self.state
        state.now = now
        # Nearly all events are these two: they do not wait for the others' turn.
        kind = type(event)
        if kind is Received:
            self._received(event)  # type: ignore[arg-type]
        elif kind is Woke:
            self._wake_s = _NEVER
        else:
            self._lead(event)
        next_s = state.timers.call_due(now)
        if self._waiting:
            self._next_in_turn()
            next_s = state.timers.next_s
        if next_s < self._wake_s:
            self._wake_s = next_s
            state.effects.append(WakeAt(next_s))
        effects, state.effects = state.effects, []
        return effects

    def clock_offset_s(self) -> float | None:
        """Median of the peers' clocks minus ours, in seconds; None without sessions."""
        return self._maintenance.clock_offset_s()

    def _rooms_seen(self, subject: Subject, rooms: Sequence[KnownRoom]) -> None:
        payload = self._publisher.payload_of(subject.key)
        if payload is not None and payload.room_id is not None:
            self._healing.seen(subject, payload.room_id, rooms)

    def _lead(self, event: Event) -> None:
        match event:
            case Received():
                self._received(event)
            case Woke():
                self._wake_s = _NEVER
            case StartLookup():
                self._start_lookup(event)
            case SessionOpened():
                self._maintenance.opened(event)
            case SessionClosed(node_id, code):
                self._maintenance.closed(node_id, code)
            case DialFailed(node_id, code):
                self._maintenance.dial_failed(node_id, code)
            case ProbeEnded():
                self._maintenance.probe_ended(event)
            case AnnounceWish():
                self._publisher.wish(event)
            case StartClaim():
                self._claims.start(event)
            case EstablishRoom():
                self._claims.establish(event)
            case ReleaseClaim(subject):
                self._claims.release(subject)
            case StartPing(operation, node_id, deadline_s):
                self._forget_ended()
                self._operations[operation] = PingOnce(self.state, operation, node_id, deadline_s)
            case Cancel(operation):
                self._waiting.pop(operation, None)
                self._claims.cancel(operation)
                started = self._operations.pop(operation, None)
                if started is not None:
                    started.cancel()
            case ClockSet(offset_s):
                step_s, self.state.wall_offset_s = offset_s - self.state.wall_offset_s, offset_s
                for session in self.state.sessions.values():
                    session.clock_offset_s -= step_s
            case Start():
                self._maintenance.start()
            case Leave(deadline_s):
                self._handover.leave(deadline_s, lambda count: self.state.tell(Left(count)))
            case _:
                assert_never(event)

    def _received(self, event: Received) -> None:
        state, node_id, message = self.state, event.node_id, event.message
        session = state.sessions.get(node_id)
        if session is None:
            return
        now = state.now
        session.heard_s = now
        if isinstance(message, Query):
            request = message.request
            if not isinstance(request, _IDLE_REQUESTS):
                session.used_s = now
            response = answer(state, node_id, request)
            state.effects.append(Send(state.book[node_id].contact, Answer(message.transaction, response)))
        else:
            pending = state.requests.close(node_id, message.transaction)
            if pending is not None:
                state.answered_any_s = now
                state.book.answered(node_id, now, now - pending.sent_s if pending.warm else None)
                pending.asker.on_answer(pending, message.response)

    # --- The owner's lookups: so many at a time, the rest in turn ---------------------------------------------------

    def _start_lookup(self, event: StartLookup) -> None:
        if self.state.has_room_for_operation and not self._waiting:
            self._look_up(event, event.deadline_s)
        elif len(self._waiting) < LOOKUPS_WAITING_MAX:
            self._waiting[event.operation] = (event, self.state.now + event.deadline_s)
            self.state.after(event.deadline_s, lambda: self._waited_too_long(event))
        else:
            self.state.tell(_unheard(event.operation))

    def _next_in_turn(self) -> None:
        while self._waiting and self.state.has_room_for_operation:
            event, deadline = self._waiting.pop(next(iter(self._waiting)))
            self._look_up(event, max(0.0, deadline - self.state.now))

    def _waited_too_long(self, event: StartLookup) -> None:
        waiting = self._waiting.get(event.operation)
        if waiting is not None and waiting[0] is event:
            del self._waiting[event.operation]
            self.state.tell(_unheard(event.operation))

    def _look_up(self, event: StartLookup, deadline_s: float) -> None:
        self._forget_ended()
        lookup = FindProviders(self.state, event.operation, event.subject, event.providers_max, deadline_s)
        self._operations[event.operation] = lookup
        lookup.proceed()

    def _forget_ended(self) -> None:
        for number in [n for n, started in self._operations.items() if started.is_over]:
            del self._operations[number]


def _unheard(operation: int) -> LookupEnded:
    """The end of a lookup for which nobody was asked."""
    return LookupEnded(
        operation, providers_total=0, replicas_answered=0, replicas_holding=0, requests=0, hops=0, complete=False
    )
