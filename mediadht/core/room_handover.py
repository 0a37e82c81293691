"""Votes and room records go with the keys: to a newcomer that is closer, and, when leaving, to whoever is next.

A vote that is handed over is honoured until its lease ends; a room record binds the newcomer if it is certified. At
most `ROOM_HANDOVER_MAX` of each go to one node, nearest keys first. Implements `docs/protocol.md`, section "Handing
over".
"""

from __future__ import annotations

from mediadht.core.claim_desk import rooms_shown
from mediadht.core.constants import HANDOVER_REPLICAS, ROOM_HANDOVER_IN_FLIGHT_MAX, ROOM_HANDOVER_MAX
from mediadht.core.messages import Claim, PutRoom, Request, Response
from mediadht.core.requests import Pending
from mediadht.core.state import NodeState

__all__ = ["RoomHandover"]


class RoomHandover:
    """Sends votes and rooms, so many at a time."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._queues: dict[int, list[Request]] = {}

    def newcomer(self, node_id: int) -> None:
        """A live node that is younger than this one was admitted."""
        state, k = self._state, self._state.settings.k

        def is_its(key: int) -> bool:
            return node_id in state.closest_live(key, k) and state.own_id in state.closest_live(
                key, HANDOVER_REPLICAS, exclude=node_id
            )

        votes: list[Request] = [
            Claim((claim.body, claim.signature), lease_s)
            for claim, lease_s in state.votes.votes(state.now)[:ROOM_HANDOVER_MAX]
            if node_id in state.closest_live(claim.key, k)
        ]
        keys = list(dict.fromkeys(held.room.record.key for held in state.rooms))
        keys.sort(key=node_id.__xor__)
        rooms: list[Request] = [
            PutRoom(room) for key in keys[:ROOM_HANDOVER_MAX] if is_its(key) for room in rooms_shown(state, key)
        ]
        self._send(node_id, votes + rooms)

    def leave(self) -> None:
        """This node shuts down: whoever takes its place is told."""
        state, k = self._state, self._state.settings.k
        plan: dict[int, list[Request]] = {}
        keys = list(dict.fromkeys(held.room.record.key for held in state.rooms))[:ROOM_HANDOVER_MAX]
        for claim, lease_s in state.votes.votes(state.now)[:ROOM_HANDOVER_MAX]:
            ids = state.closest_live(claim.key, k + 1)
            if state.own_id in ids[:k] and len(ids) > k:
                plan.setdefault(ids[k], []).append(Claim((claim.body, claim.signature), lease_s))
        for key in keys:
            ids = state.closest_live(key, k + 1)
            if state.own_id in ids[:k] and len(ids) > k:
                plan.setdefault(ids[k], []).extend(PutRoom(room) for room in rooms_shown(state, key))
        for node_id, requests in plan.items():
            self._send(node_id, requests)

    def _send(self, node_id: int, requests: list[Request]) -> None:
        if not requests:
            return
        is_idle = node_id not in self._queues
        self._queues.setdefault(node_id, []).extend(requests)
        if is_idle:
            for _ in range(ROOM_HANDOVER_IN_FLIGHT_MAX):
                self._next(node_id)

    def _next(self, node_id: int) -> None:
        queue = self._queues.get(node_id)
        if queue:
            self._state.ask(node_id, queue.pop(0), self)
        else:
            self._queues.pop(node_id, None)

    def on_answer(self, pending: Pending, response: Response) -> None:
        self._next(pending.node_id)

    def on_slow(self, pending: Pending) -> None:
        """It is a newcomer."""

    def on_lost(self, pending: Pending, code: str) -> None:
        self._queues.pop(pending.node_id, None)
