"""Putting records where they belong: on the k nodes closest to their keys.

`StoreRecords` takes records whose keys lie close together. It converges on the first key and, on the way, stores at
once at every node that is near enough to be a replica, so that with a warm cache of contacts the finding and the
storing are one round trip. What convergence then shows to be missing is stored in a last round.
`PutBatches` sends records to given nodes and reports the end. Implements `docs/protocol.md`, section "Storing".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mediadht.core.constants import (
    ALPHA,
    LIKELY_TO_STORE,
    LOOKUP_DEADLINE_S,
    LOOKUP_PATIENCE_S,
    RECORDS_PER_PUT_MAX,
    STORE_PARALLELISM,
    WITHDRAWAL_SPREAD,
)
from mediadht.core.errors import Code
from mediadht.core.messages import Find, Found, Put, PutDone, Request, Response
from mediadht.core.operations import LookupOperation
from mediadht.core.records import Record
from mediadht.core.replica import keep
from mediadht.core.requests import Pending
from mediadht.core.state import NodeState
from mediadht.core.timers import Timer

__all__ = ["PutBatches", "StoreOutcome", "StoreRecords"]

_LAST_ROUNDS_MAX = 3
_CODES = frozenset(code.value for code in Code)


@dataclass(slots=True)
class StoreOutcome:
    """What became of one record."""

    replicas: set[int] = field(default_factory=set)
    """Nodes that acknowledged it, this one included."""
    wanted: int = 0
    """How many should have."""
    nearest: int = 0
    """Of `replicas`, other nodes that are among the k nearest when those count too which could not be reached now."""
    refusals: Counter[str] = field(default_factory=Counter)
    rooms: Counter[bytes] = field(default_factory=Counter)
    """First bytes of the digests of the key's room, as the replicas said."""
    newer_sequence: int = 0
    """The highest sequence that a replica says it holds of the same signer: its word, unproved."""
    requests: int = 0
    hops: int = 0
    """What the records' common lookup and storing cost, and how many answers led to their replicas."""


class StoreRecords(LookupOperation):
    """Store own records; `done` is called with an outcome per record, in their order."""

    def __init__(self, state: NodeState, records: Sequence[Record], done: Callable[[list[StoreOutcome]], None]) -> None:
        assert records
        self._records = records
        self._done = done
        self._outcomes = {record.key: StoreOutcome() for record in records}
        self._by_body = {record.body: record for record in records}
        self._sent: set[tuple[int, int]] = set()
        self._failed: set[int] = set()
        self._plan: dict[int, list[Record]] = {}
        self._last_rounds = 0
        self._last: PutBatches | None = None
        self._last_requests = 0
        near = state.book.live.closest(records[0].key, state.settings.k)
        likely_distance = state.likely_distance(LIKELY_TO_STORE)
        warm_start = bool(near) and near[-1] ^ records[0].key <= likely_distance
        super().__init__(
            state,
            records[0].key,
            deadline_s=LOOKUP_DEADLINE_S,
            likely=LIKELY_TO_STORE,
            parallelism=STORE_PARALLELISM if warm_start else ALPHA,
        )
        if len(records) > 1:
            self._plan = self._placement()

    def request_for(self, node_id: int) -> Request:
        if len(self._records) == 1:
            wanted = self._records if node_id ^ self.target <= self.likely_distance else ()
        else:
            wanted = self._plan.get(node_id, ())
        batch = [r for r in wanted if (r.key, node_id) not in self._sent][:RECORDS_PER_PUT_MAX]
        if not batch:
            return Find(self.target, self.state.settings.k, self.known_prefixes())
        # The first record's key is what the answer's contacts are near to: the target leads where it is in the batch.
        self._sent.update((record.key, node_id) for record in batch)
        return Put(
            tuple((r.body, r.signature) for r in batch),
            self.state.settings.k,
            self.known_prefixes(),
        )

    def take(self, pending: Pending, response: Response) -> None:
        node_id = pending.node_id
        match response:
            case Found(contacts):
                self.lookup.answered(node_id, self.state.learn(contacts))
            case PutDone(_, contacts):
                self._count(pending, response)
                self.lookup.answered(node_id, self.state.learn(contacts))
            case _:
                self._failed.add(node_id)
                self.lookup.failed(node_id)

    def has_ended(self) -> bool:
        if not super().has_ended():
            return False
        return self._last_round_is_over()

    def ended(self) -> None:
        self.state.table.looked_up(self.target, self.state.now)
        hops = self.lookup.hops
        for key, outcome in self._outcomes.items():
            outcome.nearest = self._nearest(key, outcome.replicas)
            outcome.requests, outcome.hops = self.lookup.requests + self._last_requests, hops
        self._done([self._outcomes[record.key] for record in self._records])

    def on_lost(self, pending: Pending, code: str) -> None:
        self._failed.add(pending.node_id)
        super().on_lost(pending, code)

    def _nearest(self, key: int, replicas: set[int]) -> int:
        # Who never answered does not count: a liar could invent as many neighbours as it likes.
        book = self.state.book
        missed = {n for n in self._failed - replicas if (peer := book.get(n)) is not None and peer.reachable}
        nearest = sorted(replicas | missed, key=key.__xor__)[: self.state.settings.k]
        return sum(node_id in replicas and node_id != self.state.own_id for node_id in nearest)

    def _placement(self) -> dict[int, list[Record]]:
        """Who should hold what, as far as is known now; own shares are taken in at once."""
        plan: dict[int, list[Record]] = {}
        k = self.state.settings.k
        for record in self._records:
            count = WITHDRAWAL_SPREAD * k if record.withdrawn else k
            candidates = set(self.state.closest_live(record.key, count + len(self._failed)))
            candidates.update(self.lookup.closest_answered())
            chosen = sorted(candidates - self._failed, key=record.key.__xor__)[:count]
            outcome = self._outcomes[record.key]
            outcome.wanted = min(k, len(chosen))
            for node_id in chosen:
                if node_id == self.state.own_id:
                    if keep(self.state, record).code is None:
                        outcome.replicas.add(node_id)
                elif (record.key, node_id) not in self._sent:
                    plan.setdefault(node_id, []).append(record)
        return plan

    def _last_round_is_over(self) -> bool:
        """Convergence has come: send what is missing, and say when that is answered."""
        if self._last is not None and not self._last.is_over:
            return False
        if self._last_rounds >= _LAST_ROUNDS_MAX:
            return True
        self._last_rounds += 1
        plan = self._placement()
        if not plan:
            return True
        self._sent.update((record.key, node_id) for node_id, records in plan.items() for record in records)
        self._last = PutBatches(self.state, plan, answered=self._count, lost=self._failed.add, done=self._last_ended)
        return False

    def _last_ended(self, requests: int) -> None:
        self._last_requests += requests
        self.proceed()

    def _count(self, pending: Pending, response: PutDone) -> None:
        assert isinstance(pending.request, Put)
        bodies = [body for body, _ in pending.request.records]
        shown = response.rooms or (b"",) * len(bodies)
        for body, outcome, room in zip(bodies, response.outcomes, shown, strict=False):
            record = self._by_body.get(body)
            if record is None:
                continue
            mine = self._outcomes[record.key]
            mine.rooms[room] += 1
            if not outcome.code:
                mine.replicas.add(pending.node_id)
            else:
                mine.refusals[outcome.code if outcome.code in _CODES else "other"] += 1
                mine.newer_sequence = max(mine.newer_sequence, outcome.sequence)


class PutBatches:
    """Send each node its records, in batches one after the other, many nodes at once.

    `done` is called with the number of requests once all is answered. Nodes slow beyond patience count as lost.
    """

    def __init__(
        self,
        state: NodeState,
        plan: dict[int, list[Record]],
        *,
        answered: Callable[[Pending, PutDone], None],
        lost: Callable[[int], None],
        done: Callable[[int], None],
    ) -> None:
        self._state = state
        self._answered = answered
        self._lost = lost
        self._done = done
        self._queues = {node_id: deque(records) for node_id, records in plan.items()}
        self._waiting = deque(plan)
        self._in_flight: set[int] = set()
        self._touched_s = state.now
        self._requests = 0
        self.is_over = False
        self._timer: Timer | None = None
        self._fill()
        self._watch()

    def on_answer(self, pending: Pending, response: Response) -> None:
        node_id = pending.node_id
        if self.is_over or node_id not in self._in_flight:
            return
        self._touched_s = self._state.now
        if isinstance(response, PutDone):
            self._answered(pending, response)
            if self._queues[node_id]:
                self._send(node_id)
                return
        else:
            self._lost(node_id)
        self._in_flight.discard(node_id)
        self._fill()

    def on_slow(self, pending: Pending) -> None:
        """Every node here has its own records: nobody else is asked instead."""

    def on_lost(self, pending: Pending, code: str) -> None:
        if not self.is_over and pending.node_id in self._in_flight:
            self._lost(pending.node_id)
            self._in_flight.discard(pending.node_id)
            self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._in_flight) < STORE_PARALLELISM:
            node_id = self._waiting.popleft()
            self._in_flight.add(node_id)
            self._send(node_id)
        if not self._in_flight and not self.is_over:
            self.is_over = True
            if self._timer is not None:
                self._timer.cancel()
            self._done(self._requests)

    def _send(self, node_id: int) -> None:
        queue = self._queues[node_id]
        batch = [queue.popleft() for _ in range(min(len(queue), RECORDS_PER_PUT_MAX))]
        self._requests += 1
        self._state.ask(node_id, Put(tuple((r.body, r.signature) for r in batch)), self)

    def _watch(self) -> None:
        """Give up those that hold everything up: nothing was answered for as long as patience lasts."""
        if self.is_over:
            return
        if self._state.now - self._touched_s >= LOOKUP_PATIENCE_S and self._in_flight:
            for node_id in sorted(self._in_flight):
                self._lost(node_id)
            self._in_flight.clear()
            self._touched_s = self._state.now
            self._fill()
        if not self.is_over:
            self._timer = self._state.after(LOOKUP_PATIENCE_S / 2, self._watch)
