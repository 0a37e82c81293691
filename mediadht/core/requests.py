"""Requests under way: whom we asked, for whom, and until when an answer counts.

A transaction number is used once, and belongs to one peer: an answer from anybody else, or to a request that is over,
is ignored. Implements `docs/protocol.md`, section "Requests and answers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mediadht.core.messages import Request, Response
from mediadht.core.timers import Timer

__all__ = ["Asker", "Pending", "RequestTable"]

_TRANSACTION_MASK = (1 << 32) - 1


class Asker(Protocol):
    """Whoever has asked. Exactly one of `on_answer` and `on_lost` follows each request; `on_slow` may come before."""

    def on_answer(self, pending: Pending, response: Response) -> None:
        """The peer answered; a `Failure` is an answer too."""
        ...

    def on_slow(self, pending: Pending) -> None:
        """The answer takes unusually long."""
        ...

    def on_lost(self, pending: Pending, code: str) -> None:
        """No answer will come."""
        ...


@dataclass(slots=True)
class Pending:
    """One open request."""

    transaction: int
    node_id: int
    request: Request
    asker: Asker
    sent_s: float
    warm: bool
    """Sent over an open session: its round trip is worth remembering."""
    timer: Timer | None = None
    """What happens if no answer comes; cancelled when the request is closed."""


class RequestTable:
    """Open requests by transaction and by peer."""

    def __init__(self) -> None:
        self._next = 0
        self._open: dict[int, Pending] = {}
        self._by_peer: dict[int, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, node_id: int, request: Request, asker: Asker, now: float, *, warm: bool) -> Pending:
        """Register a request that is about to be sent."""
        self._next = (self._next + 1) & _TRANSACTION_MASK
        pending = Pending(self._next, node_id, request, asker, now, warm)
        self._open[self._next] = pending
        mine = self._by_peer.get(node_id)
        if mine is None:
            self._by_peer[node_id] = {self._next: None}
        else:
            mine[self._next] = None
        return pending

    def is_open(self, pending: Pending) -> bool:
        """Whether this request still waits."""
        return self._open.get(pending.transaction) is pending

    def in_flight(self, node_id: int) -> int:
        """How many requests to this peer are open."""
        return len(self._by_peer.get(node_id, ()))

    def close(self, node_id: int, transaction: int) -> Pending | None:
        """The open request that `node_id` answers with this transaction; None if there is none."""
        pending = self._open.get(transaction)
        if pending is None or pending.node_id != node_id:
            return None
        del self._open[transaction]
        _cancel_timer(pending)
        mine = self._by_peer[node_id]
        del mine[transaction]
        if not mine:
            del self._by_peer[node_id]
        return pending

    def close_all(self, node_id: int) -> list[Pending]:
        """All open requests to this peer, in the order in which they were sent, now closed."""
        closed = [self._open.pop(transaction) for transaction in self._by_peer.pop(node_id, ())]
        for pending in closed:
            _cancel_timer(pending)
        return closed


def _cancel_timer(pending: Pending) -> None:
    if pending.timer is not None:
        pending.timer.cancel()
        pending.timer = None
