"""Records go where lookups will look for them: to a newcomer that is closer, and, when leaving, to whoever is next.

Only the few closest replicas hand a record to a newcomer, and only a node that has been up for a shorter time than
this one is a newcomer: a restarted node does not flood the network with what everybody has.
Implements `docs/protocol.md`, section "Handing over".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

from mediadht.core.constants import (
    HANDOVER_KEYS_MAX,
    HANDOVER_RECORDS_MAX,
    HANDOVER_REPLICAS,
    ID_BITS,
    NEWCOMER_UPTIME_S,
)
from mediadht.core.records import Record
from mediadht.core.room_handover import RoomHandover
from mediadht.core.state import NodeState
from mediadht.core.storing import PutBatches

__all__ = ["Handover"]

_KEYS_PER_STEP = 128
_STEP_S = 0.05


class Handover:
    """Looks through the store in small steps for what a newcomer should hold, and sends it."""

    def __init__(self, state: NodeState, started_s: float) -> None:
        self._state = state
        self._started_s = started_s
        self._newcomers: deque[tuple[int, deque[int]]] = deque()
        self._is_working = False
        self._rooms = RoomHandover(state)
        self.records_handed_over = 0

    def settle(self, started_s: float) -> None:
        """Take this node for one that was started then."""
        self._started_s = started_s

    def newcomer(self, node_id: int, uptime_s: int) -> None:
        """A live node was admitted. Nothing happens unless it is younger than this one."""
        own_uptime_s = self._state.now - self._started_s
        if uptime_s >= min(NEWCOMER_UPTIME_S, own_uptime_s) or not self._state.is_replica:
            return
        if any(node_id == queued for queued, _ in self._newcomers):
            return
        self._rooms.newcomer(node_id)
        places = HANDOVER_KEYS_MAX - sum(len(keys) for _, keys in self._newcomers)
        keys = deque(self._keys_near(node_id, places))
        if keys:
            self._newcomers.append((node_id, keys))
            self._work()

    def leave(self, deadline_s: float, done: Callable[[int], None]) -> None:
        """Hand every record to the node that becomes a replica once this one is gone; `done` gets their number.

        `done` is called once, after `deadline_s` seconds at the latest.
        """
        self._rooms.leave()
        plan: dict[int, list[Record]] = {}
        k, count = self._state.settings.k, 0
        if self._state.is_replica:
            for record in islice(self._state.store, HANDOVER_RECORDS_MAX):
                ids = self._state.closest_live(record.key, k + 1)
                if self._state.own_id in ids[:k] and len(ids) > k:
                    plan.setdefault(ids[k], []).append(record)
                    count += 1
        is_over = False

        def finish(_: int = 0) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                done(count)

        if plan:
            self._state.after(deadline_s, finish)
            self._send(plan, finish)
        else:
            finish()

    def _keys_near(self, node_id: int, limit: int) -> list[int]:
        """Keys of the store for which `node_id` can be among the k closest: those in its region."""
        bits = max(0, (self._state.network_size() // self._state.settings.k).bit_length() - 2)
        width = 1 << (ID_BITS - bits)
        low = node_id // width * width
        return self._state.store.keys_between(low, low + width, limit)

    def _work(self) -> None:
        if self._is_working or not self._newcomers:
            return
        self._is_working = True
        node_id, keys = self._newcomers[0]
        records = [
            record
            for _ in range(min(len(keys), _KEYS_PER_STEP))
            for record in self._records_for(node_id, keys.popleft())
        ]
        if not keys:
            self._newcomers.popleft()
        if records:
            self.records_handed_over += len(records)
            self._send({node_id: records}, self._step_over)
        else:
            self._state.after(_STEP_S, self._step_over)

    def _step_over(self, _: int = 0) -> None:
        self._is_working = False
        self._work()

    def _records_for(self, node_id: int, key: int) -> list[Record]:
        k = self._state.settings.k
        if node_id not in self._state.closest_live(key, k):
            return []
        if self._state.own_id not in self._state.closest_live(key, HANDOVER_REPLICAS, exclude=node_id):
            return []
        return self._state.store.records_of(key)

    def _send(self, plan: dict[int, list[Record]], done: Callable[[int], None]) -> None:
        PutBatches(self._state, plan, answered=lambda *_: None, lost=lambda _: None, done=done)
