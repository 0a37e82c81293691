"""What a node looks up: nodes, providers, places for records. Thin specialisations of the one lookup engine.

Each operation asks through `NodeState.ask`, feeds the engine, and ends exactly once: by convergence, by having enough,
or at its deadline. Implements `docs/protocol.md`, sections "Lookups" and "Storing".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from mediadht.core.claim_desk import best_room, known_rooms, rooms_shown
from mediadht.core.constants import (
    ALPHA,
    ANSWERS_ENOUGH,
    LIKELY_TO_HOLD,
    LOOKUP_DEADLINE_S,
    LOOKUP_PATIENCE_S,
    LOOKUP_PATIENCE_USEFUL_S,
    PROVIDERS_PER_ANSWER_MAX,
    STORE_RECORDS_PER_KEY_MAX,
)
from mediadht.core.errors import RemoteError
from mediadht.core.events import LookupEnded, PingEnded, ProviderFound, RoomsFound
from mediadht.core.identifiers import Subject
from mediadht.core.lookup import Lookup, State
from mediadht.core.messages import Find, Found, Get, Got, Ping, Pong, Request, Response, SignedRoom
from mediadht.core.records import Payload, Record, RecordKind, open_payload, parse_record
from mediadht.core.requests import Pending
from mediadht.core.state import NodeState, prefixes
from mediadht.core.timers import Timer

__all__ = ["FindNodes", "FindProviders", "LookupOperation", "PingOnce"]

_FAR_S = 1e6
_PAGES_MAX = STORE_RECORDS_PER_KEY_MAX // PROVIDERS_PER_ANSWER_MAX + 2


class LookupOperation(ABC):
    """A lookup under way: asks what the engine says, until it is done or its deadline has come."""

    def __init__(
        self, state: NodeState, target: int, *, deadline_s: float, likely: float | None = None, **engine: object
    ) -> None:
        self.state = state
        self.target = target
        self.is_over = False
        self.complete = True
        self.likely_distance = -1 if likely is None else state.likely_distance(likely)
        self._sent_s: dict[int, float] = {}
        self._patience: Timer | None = None
        self._known: tuple[int, bytes] = (-1, b"")
        """The lookup's changes, and the prefixes of its closest candidates then."""
        self.lookup = Lookup(
            target,
            state.book.closest_ids(target, state.settings.k),
            own_id=state.own_id,
            k=state.settings.k,
            likely_distance=self.likely_distance,
            **engine,  # type: ignore[arg-type]
        )
        state.operations += 1
        self._deadline_timer = state.after(deadline_s, self._deadline)

    @abstractmethod
    def request_for(self, node_id: int) -> Request:
        """What to ask this candidate."""

    @abstractmethod
    def take(self, pending: Pending, response: Response) -> None:
        """Use an answer, and tell the engine (`answered` or `failed`)."""

    @abstractmethod
    def ended(self) -> None:
        """The operation is over; called once."""

    def proceed(self) -> None:
        """Ask whom the engine wants asked; end if it is done. Called once at the start, then after every change."""
        if self.is_over:
            return
        for node_id in self.lookup.next():
            self._sent_s[node_id] = self.state.now
            self.state.ask(node_id, self.request_for(node_id), self)
        if self.has_ended():
            self.finish()
        elif self._patience is None and self.lookup.waits_for_slow_only:
            first_s = min(self._sent_s[node_id] for node_id in self.lookup.slow_ones())
            patience_ends_s = max(self.state.now, first_s + self._patience_s())
            self._patience = self.state.timers.set(patience_ends_s, self._lose_patience)

    def has_ended(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.lookup.is_done

    def finish(self) -> None:
        """End it, now."""
        if not self.is_over:
            self.cancel()
            self.ended()

    def cancel(self) -> None:
        """End it without a word."""
        if not self.is_over:
            self.is_over = True
            self.state.operations -= 1
            self._deadline_timer.cancel()
            if self._patience is not None:
                self._patience.cancel()

    def known_prefixes(self) -> bytes:
        """For a request: whom not to name, because this lookup knows them. The same for all that are asked at once."""
        if self._known[0] != self.lookup.changes:
            closest = self.lookup.closest_heard(self.state.settings.k)
            self._known = self.lookup.changes, prefixes(closest)
        return self._known[1]

    # --- Asker ---------------------------------------------------------------------------------------------------

    def on_answer(self, pending: Pending, response: Response) -> None:
        if not self.is_over:
            self.take(pending, response)
            self.proceed()

    def on_slow(self, pending: Pending) -> None:
        if not self.is_over:
            self.lookup.slow(pending.node_id)
            self.proceed()

    def on_lost(self, pending: Pending, code: str) -> None:
        if not self.is_over:
            self.lookup.failed(pending.node_id)
            self.proceed()

    # --- Time ----------------------------------------------------------------------------------------------------

    def _patience_s(self) -> float:
        return LOOKUP_PATIENCE_USEFUL_S if self.lookup.useful else LOOKUP_PATIENCE_S

    def _lose_patience(self) -> None:
        self._patience = None
        if not self.is_over:
            # The sum that set the timer, not a difference: rounding must not leave the one waited for just within it.
            patience_s = self._patience_s()
            for node_id in self.lookup.slow_ones():
                if self._sent_s[node_id] + patience_s <= self.state.now:
                    self.lookup.failed(node_id)
            self.proceed()

    def _deadline(self) -> None:
        if not self.is_over:
            self.complete = False
            self.finish()


class FindNodes(LookupOperation):
    """Find the k nodes closest to `target` that answer; `done` is called with their IDs, nearest first."""

    def __init__(self, state: NodeState, target: int, done: Callable[[list[int]], None]) -> None:
        super().__init__(state, target, deadline_s=LOOKUP_DEADLINE_S, parallelism=ALPHA)
        self._done = done

    def request_for(self, node_id: int) -> Request:
        return Find(self.target, self.state.settings.k, self.known_prefixes())

    def take(self, pending: Pending, response: Response) -> None:
        if isinstance(response, Found):
            self.lookup.answered(pending.node_id, self.state.learn(response.contacts))
        else:
            self.lookup.failed(pending.node_id)

    def ended(self) -> None:
        self.state.table.looked_up(self.target, self.state.now)
        self._done(self.lookup.closest_answered())


class FindProviders(LookupOperation):
    """Find providers of a key, handing each on as it is found.

    Ends with `providers_max` providers, or when enough replicas that hold some have answered, or when the k closest
    have and there is nothing. Replicas near in round-trip time and already connected are asked first. More than one
    page is fetched from one replica at a time.
    """

    def __init__(
        self, state: NodeState, operation: int, subject: Subject, providers_max: int, deadline_s: float
    ) -> None:
        key = subject.key
        self._subject = subject
        own = state.store.sample(key, key, STORE_RECORDS_PER_KEY_MAX, state.wall_s) if state.is_replica else []
        self._operation = operation
        self._providers_max = providers_max
        self._sample = state.random_point()
        self._bodies: set[bytes] = set()
        self._records: dict[int, Record] = {}
        self._handed_on: set[int] = set()
        self._holding = 0
        self._total = len(own)
        self._own_useful = bool(own)
        self._is_alone = state.is_replica and not state.settings.expects_peers and not len(state.book)
        """A network of one: what this node does not hold, nobody does."""
        self._rooms: dict[SignedRoom, None] = dict.fromkeys(rooms_shown(state, key) if state.is_replica else ())
        self._page_from: int | None = None
        self._pages = 0
        super().__init__(
            state,
            key,
            deadline_s=deadline_s,
            likely=LIKELY_TO_HOLD,
            parallelism=ALPHA,
            useful_enough=ANSWERS_ENOUGH - self._own_useful,
            preference=partial(_near_and_connected, state, key),
        )
        for record in own:
            self._take_record(record, self._opened(record))

    def request_for(self, node_id: int) -> Request:
        return Get(self.target, self._sample, self._page_size(), self.state.settings.k, None, self.known_prefixes())

    def take(self, pending: Pending, response: Response) -> None:
        node_id = pending.node_id
        is_page = self.lookup.state(node_id) is State.ANSWERED
        if is_page:
            self._page_from = None
        if not isinstance(response, Got):
            self.lookup.failed(node_id)
            return
        holding, useful, last_signer, live = False, False, None, 0
        for body, signature in response.records:
            record = self._checked(body, signature)
            payload = None if record is None else self._opened(record)
            if record is not None and (record.withdrawn or payload is not None):
                holding = True
                self._take_record(record, payload)
                if not record.withdrawn:
                    last_signer, live = record.node_id, live + 1
                    useful = useful or not self._records[record.node_id].withdrawn
        if not is_page:
            self._rooms.update(dict.fromkeys(response.rooms))
            # A withdrawal alone ends no search: it went to more nodes than a later announcement, and stays there.
            self.lookup.answered(node_id, self.state.learn(response.contacts), useful=useful)
            self._holding += holding
            if holding:
                self._total = max(self._total, min(response.total, STORE_RECORDS_PER_KEY_MAX))
        if live >= PROVIDERS_PER_ANSWER_MAX and last_signer is not None and self._page_from is None:
            self._next_page(node_id, last_signer)

    def on_lost(self, pending: Pending, code: str) -> None:
        if self._page_from == pending.node_id and self.lookup.state(pending.node_id) is State.ANSWERED:
            self._page_from = None
        super().on_lost(pending, code)

    def has_ended(self) -> bool:
        return len(self._handed_on) >= self._providers_max or (self._page_from is None and super().has_ended())

    def ended(self) -> None:
        self.state.table.looked_up(self.target, self.state.now)
        self._tell_rooms()
        self.state.tell(
            LookupEnded(
                self._operation,
                max(self._total, len(self._handed_on)),
                self.lookup.answers + (self._own_useful or self._is_alone),
                self._holding,
                self.lookup.requests + self._pages,
                self.lookup.hops,
                self.complete,
            )
        )

    def _tell_rooms(self) -> None:
        rooms = known_rooms(self.state, self._subject, self._rooms)
        if rooms:
            best, _ = best_room(self.target, rooms)
            rooms.sort(key=lambda room: (room.room_id != best.room_id, not room.certified, room.room_id))
            told = tuple((room.room_id, room.held.room.record.server_name, room.certified) for room in rooms)
            self.state.tell(RoomsFound(self._operation, told))
            self.state.rooms_seen(self._subject, rooms)

    def _page_size(self) -> int:
        return min(PROVIDERS_PER_ANSWER_MAX, self._providers_max)

    def _next_page(self, node_id: int, after: int) -> None:
        if len(self._records) < self._providers_max and self._pages < _PAGES_MAX:
            self._pages += 1
            self._page_from = node_id
            self.state.ask(node_id, Get(self.target, self._sample, self._page_size(), 0, after), self)

    def _checked(self, body: bytes, signature: bytes) -> Record | None:
        """The record, if it is a provider record of this key that holds now; seen ones are not verified again."""
        seen = body in self._bodies
        try:
            record = parse_record(body, signature, verify=not seen)
        except RemoteError:
            return None
        self._bodies.add(body)
        if record.key != self.target or record.kind != RecordKind.PROVIDER or record.expires_s <= self.state.wall_s:
            # One that expires too late was judged by the replica's clock: ours may be the wrong one.
            return None
        return record

    def _opened(self, record: Record) -> Payload | None:
        """What the record says; None for a withdrawal, and for what was not sealed by somebody who knows the ID."""
        try:
            return None if record.withdrawn else open_payload(record, self._subject)
        except RemoteError:
            return None

    def _take_record(self, record: Record, payload: Payload | None) -> None:
        held = self._records.get(record.node_id)
        if held is not None and not record.supersedes(held):
            return
        self._records[record.node_id] = record
        if payload is None or record.node_id in self._handed_on or len(self._handed_on) >= self._providers_max:
            return
        self._handed_on.add(record.node_id)
        peer = self.state.book.get(record.node_id)
        alive_s_ago = None
        if record.node_id == self.state.own_id:
            alive_s_ago = 0.0
        elif peer is not None and peer.is_live and peer.answered_s > float("-inf"):
            alive_s_ago = self.state.now - peer.answered_s
        self.state.tell(ProviderFound(self._operation, record, payload, alive_s_ago))


def _near_and_connected(state: NodeState, target: int, node_id: int) -> tuple[float, ...]:
    """The order in which replicas are asked. Not a method: the lookup that holds it would hold its own owner."""
    peer = state.book.get(node_id)
    if peer is None:
        # Forgotten since the lookup heard of it: asked last, it is reported lost like any that cannot be asked.
        return (True, True, _FAR_S, node_id ^ target)
    round_trip_s = _FAR_S if peer.round_trip_s is None else peer.round_trip_s
    return (peer.suspect_until_s > state.now, not peer.connected, round_trip_s, node_id ^ target)


class PingOnce:
    """Measure one round trip, dialling if need be."""

    def __init__(self, state: NodeState, operation: int, node_id: int, deadline_s: float) -> None:
        self._state = state
        self._operation = operation
        self._started_s = state.now
        self.is_over = False
        self._deadline = state.after(deadline_s, lambda: self._end(None, "timed_out"))
        state.ask(node_id, Ping(), self)

    def cancel(self) -> None:
        """End it without a word."""
        self.is_over = True
        self._deadline.cancel()

    def on_answer(self, pending: Pending, response: Response) -> None:
        took_s = self._state.now - self._started_s if isinstance(response, Pong) else None
        self._end(took_s, "" if took_s is not None else "malformed")

    def on_slow(self, pending: Pending) -> None:
        """Nobody else can answer for this peer."""

    def on_lost(self, pending: Pending, code: str) -> None:
        self._end(None, code)

    def _end(self, round_trip_s: float | None, code: str) -> None:
        if not self.is_over:
            self.cancel()
            self._state.tell(PingEnded(self._operation, round_trip_s, code))
