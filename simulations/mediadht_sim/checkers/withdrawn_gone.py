"""Checker `withdrawn_gone`: a lookup does not find what was withdrawn, nor what has expired.

A withdrawal is judged `settle_s` after replicas acknowledged it. A replica that was away at that time may not have
heard of it (`docs/protocol.md`, "Limits of trust"): where only such nodes, and no adversary, can have handed the record
out, nobody is blamed. With `gone_share_min` = 1 each finding is a violation; else their share of the lookups for
subjects that somebody has withdrawn is judged at the end. An expired record is a violation in any case.
"""

from __future__ import annotations

from typing import ClassVar

from mediadht_sim.checkers.checker import Checker
from mediadht_sim.checkers.truth import Seeding
from mediadht_sim.nodes import EPOCH_S, SimulatedNode
from mediadht_sim.observers import LookupResult

__all__ = ["WithdrawnGone"]

_EXAMPLES = 3
_CLOCK_S = 1.0
"""Records expire at whole seconds."""


class WithdrawnGone(Checker):
    """See the module's header."""

    name: ClassVar[str] = "withdrawn_gone"
    judged = 0
    gone = 0
    _first_finds: tuple[str, ...] = ()

    def looked_up(self, node: SimulatedNode, result: LookupResult) -> None:
        if not node.is_honest:
            return
        self._check_expiry(node, result)
        if result.ended is None or not self.truth.is_withdrawn_by_some(result.subject):
            return
        self.truth.look_around()
        seeding = self._found_withdrawn(result)
        if seeding is None:
            self.judged += 1
            self.gone += 1
        elif self._is_anybodys_fault(seeding, result):
            self.judged += 1
            self._found(node, result, seeding)

    def finish(self) -> None:
        share_min = self.checks.gone_share_min
        if share_min < 1.0 and self.gone < share_min * self.judged:
            what = (
                f"{self.gone} of {self.judged} lookups of what was withdrawn rightly did not find that, which is less "
                f"than {share_min:.4g}; among those that did: " + "; ".join(self._first_finds)
            )
            self.violate(self.network.engine.now, None, what)

    def _check_expiry(self, node: SimulatedNode, result: LookupResult) -> None:
        wall_s = EPOCH_S + result.started_s + node.clock_skew_s
        for provider in result.providers:
            if provider.record.expires_s + _CLOCK_S <= wall_s:
                late_s = wall_s - provider.record.expires_s
                what = f"a lookup of {result.subject} gave a record that had expired {late_s:.0f} s before it began"
                self.violate(self.network.engine.now, node, what)

    def _found_withdrawn(self, result: LookupResult) -> Seeding | None:
        for provider in result.providers:
            seeding = self.truth.seeding(result.subject, provider.record.node_id)
            if (
                seeding is not None
                and not seeding.announced
                and seeding.acknowledged_s + self.checks.settle_s <= result.started_s
            ):
                return seeding
        return None

    def _is_anybodys_fault(self, seeding: Seeding, result: LookupResult) -> bool:
        """Whether somebody hands out the record who should know better."""
        if self.truth.stood_apart_s >= seeding.wished_s:
            return False
        key = result.subject.key
        signer = self.network.nodes[seeding.index].node_id
        holders = [
            node
            for node in self.network.nodes
            if node.is_honest
            and node.hears
            and (held := node.node.state.store.held(key, signer)) is not None
            and not held.withdrawn
        ]
        away = [node for node in holders if self.truth.up_since_s(node.index) > seeding.wished_s]
        return not holders or len(away) < len(holders)

    def _found(self, node: SimulatedNode, result: LookupResult, seeding: Seeding) -> None:
        now = self.network.engine.now
        what = (
            f"a lookup of {result.subject} found node {seeding.index}, whose withdrawal replicas had acknowledged "
            f"{now - seeding.acknowledged_s:.1f} s before"
        )
        if self.checks.gone_share_min >= 1.0:
            self.violate(now, node, what)
        elif len(self._first_finds) < _EXAMPLES:
            self._first_finds += (f"at {now:.1f} s node {node.index}: {what}",)
