"""Checker `deadlines`: whatever has a deadline ends by it, and ends once.

A request is answered or lost within `REQUEST_TIMEOUT_S`. A timer that is due is served, and every lookup under way has
one for its deadline: so it ends by it. A lookup ends with one notice, after which nothing is told of it; one whose core
has forgotten it will never end. Down and frozen nodes serve nothing; adversaries do as they please.
"""

from __future__ import annotations

from typing import ClassVar

from mediadht.core import constants
from mediadht.core.events import LookupEnded, Notice, PingEnded, ProviderFound
from mediadht.core.operations import FindProviders
from mediadht_sim.checkers.checker import Checker
from mediadht_sim.checkers.truth import Truth
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import LookupResult
from mediadht_sim.scenario import Checks

__all__ = ["Deadlines"]

_TOLERANCE_S = 0.5


class Deadlines(Checker):
    """See the module's header."""

    name: ClassVar[str] = "deadlines"

    def __init__(self, network: SimulatedNetwork, checks: Checks, truth: Truth) -> None:
        super().__init__(network, checks, truth)
        self._over: set[int] = set()
        """Operations that have ended: their numbers are the whole network's."""
        self._reported: set[tuple[str, int, int]] = set()
        """What is late was reported once: kind, node, and which of them."""

    def told(self, node: SimulatedNode, notice: Notice) -> None:
        kind = type(notice)
        if kind is not ProviderFound and kind is not LookupEnded and kind is not PingEnded:
            return
        assert isinstance(notice, ProviderFound | LookupEnded | PingEnded)
        if notice.operation in self._over:
            what = f"{kind.__name__} was told of operation {notice.operation}, which had ended"
            self.violate(self.network.engine.now, node, what)
        elif kind is not ProviderFound:
            self._over.add(notice.operation)

    def tick(self) -> None:
        for node in self.network.nodes:
            if node.hears and node.is_honest:
                self._check_requests(node)
                self._check_timers(node)
                if node.lookups:
                    self._check_lookups(node)

    def finish(self) -> None:
        self.tick()

    def _check_requests(self, node: SimulatedNode) -> None:
        oldest = next(iter(node.node.state.requests._open.values()), None)
        if oldest is not None:
            late_s = self._late_s(node, oldest.sent_s + constants.REQUEST_TIMEOUT_S)
            if late_s > 0:
                asked = type(oldest.request).__name__
                what = f"a {asked} to {oldest.node_id:064x} is neither answered nor lost {late_s:.1f} s after its time"
                self._report("request", node, oldest.transaction, what)

    def _check_timers(self, node: SimulatedNode) -> None:
        heap = node.node.state.timers._heap
        if heap and heap[0][2].call is not None:
            late_s = self._late_s(node, heap[0][0])
            if late_s > 0:
                self._report("timer", node, heap[0][1], f"a timer is due since {late_s:.1f} s")

    def _check_lookups(self, node: SimulatedNode) -> None:
        for operation, result in node.lookups.items():
            if self.truth.was_up(node.index, result.started_s):
                fault = self._fault_of(node, operation, result)
                if fault:
                    self._report("lookup", node, operation, f"the lookup of {result.subject} {fault}")

    def _fault_of(self, node: SimulatedNode, operation: int, result: LookupResult) -> str:
        core = node.node
        if operation in core._waiting:
            deadline_s = core._waiting[operation][1]
            return "waits for its turn beyond its deadline" if self._late_s(node, deadline_s) > 0 else ""
        started = core._operations.get(operation)
        if not isinstance(started, FindProviders) or started.is_over:
            return "has ended, or was forgotten, without a word"
        return "has no deadline any more" if started._deadline_timer.call is None else ""

    def _late_s(self, node: SimulatedNode, due_s: float) -> float:
        """For how long this is overdue beyond the tolerance; a node that was frozen counts from its return."""
        return self.network.engine.now - max(due_s, self.truth.up_since_s(node.index)) - _TOLERANCE_S

    def _report(self, kind: str, node: SimulatedNode, number: int, what: str) -> None:
        if (kind, node.index, number) not in self._reported:
            self._reported.add((kind, node.index, number))
            self.violate(self.network.engine.now, node, what)
