"""Checker `live_found`: a lookup finds a seeder that announced, is up and can be reached.

Judged are lookups that ran to their end, at honest nodes that have been up for `settle_s`, have a session, and are not
the victim of an eclipse, for subjects of which a seeder must be found (`Truth.must_be_found`). One live seeder is
enough. With `found_share_min` = 1 each lookup that fails is a violation; else their share is judged at the end.
"""

from __future__ import annotations

from typing import ClassVar

from mediadht_sim.adversaries import eclipsed
from mediadht_sim.checkers.checker import Checker
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import LookupResult

__all__ = ["LiveFound"]

_EXAMPLES = 3


class LiveFound(Checker):
    """See the module's header."""

    name: ClassVar[str] = "live_found"
    judged = 0
    found = 0
    _first_misses: tuple[str, ...] = ()
    _victims: frozenset[int] = frozenset()
    _victims_of = 0

    def looked_up(self, node: SimulatedNode, result: LookupResult) -> None:
        if not self._can_judge(node, result):
            return
        truth, subject = self.truth, result.subject
        for provider in result.providers:
            seeding = truth.seeding(subject, provider.record.node_id)
            if seeding is not None and truth.is_live(seeding, node.index):
                self.judged += 1
                self.found += 1
                return
        for seeding in truth.seedings(subject):
            if truth.must_be_found(seeding, subject, result, self.checks.settle_s):
                self.judged += 1
                self._missed(node, result, seeding.index)
                return

    def finish(self) -> None:
        share_min = self.checks.found_share_min
        if share_min < 1.0 and self.found < share_min * self.judged:
            what = (
                f"{self.found} of {self.judged} lookups found a seeder that was there, which is less than "
                f"{share_min:.4g}; among those that did not: " + "; ".join(self._first_misses)
            )
            self.violate(self.network.engine.now, None, what)

    def _can_judge(self, node: SimulatedNode, result: LookupResult) -> bool:
        if result.ended is None or not result.ended.complete or not node.is_honest or not node.sessions:
            return False
        self.truth.look_around()
        if self.truth.up_since_s(node.index) + self.checks.settle_s > result.started_s:
            return False
        return not self._is_eclipsed(node)

    def _is_eclipsed(self, node: SimulatedNode) -> bool:
        if self._victims_of != len(self.network.nodes):
            # An eclipse adds nodes: without new ones there are no new victims.
            self._victims_of = len(self.network.nodes)
            self._victims = frozenset(eclipsed(self.network))
        return node.node_id in self._victims

    def _missed(self, node: SimulatedNode, result: LookupResult, seeder: int) -> None:
        assert result.ended is not None
        what = (
            f"a lookup of {result.subject} asked {result.ended.requests} times and did not find node {seeder}, which "
            "is up and had announced it"
        )
        if self.checks.found_share_min >= 1.0:
            self.violate(self.network.engine.now, node, what)
        elif len(self._first_misses) < _EXAMPLES:
            self._first_misses += (f"at {self.network.engine.now:.1f} s node {node.index}: {what}",)
