"""Checker `routing`: nodes know those that are truly closest to them.

A node's health is the share of the k nodes truly closest to its own ID, up and honest, that it knows to be live. Some
nodes are sampled in each interval. Judged is their mean, once nothing has happened for `QUIET_S`: nobody came or went,
froze or thawed, and no cut was made or healed or stands; so never under churn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from mediadht_sim.adversaries import eclipsed
from mediadht_sim.checkers.checker import Checker, Rotation
from mediadht_sim.checkers.truth import Truth
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.scenario import Checks

__all__ = ["QUIET_S", "Routing", "routing_health"]

QUIET_S = 180.0
"""Sessions are pinged after 45 s, the neighbourhood is looked up a minute after joining, the lost are redialled each
20 s: with these, and whatever else is under way, a node has found its neighbours."""

_NODES_PER_TICK = 50
_NODES_AT_THE_END_MAX = 1_000


def routing_health(truth: Truth, node: SimulatedNode) -> float | None:
    """The share of the k honest nodes truly closest to this one that it knows to be live; None if it is the only one.

    Where the network is cut, only nodes of its own side are asked for.
    """

    def counts(other: SimulatedNode) -> bool:
        return other is not node and other.is_honest and not truth.are_apart(node.index, other.index)

    closest = truth.closest(node.node_id, node.node.state.settings.k, counts)
    if not closest:
        return None
    book = node.node.state.book
    return sum((peer := book.get(n)) is not None and peer.is_live for n in closest) / len(closest)


class Routing(Checker):
    """See the module's header."""

    name: ClassVar[str] = "routing"

    def __init__(self, network: SimulatedNetwork, checks: Checks, truth: Truth) -> None:
        super().__init__(network, checks, truth)
        self._rotation = Rotation(network)
        self.health: float | None = None
        """The mean over the nodes of the latest interval's sample, whatever happened."""

    def tick(self) -> None:
        self._judge(self._rotation.next(_NODES_PER_TICK))

    def finish(self) -> None:
        self._judge(Rotation(self.network).next(_NODES_AT_THE_END_MAX))

    def _judge(self, nodes: Iterable[SimulatedNode]) -> None:
        self.truth.look_around()
        victims = eclipsed(self.network)
        sample = [n for n in nodes if n.is_honest and n.node_id not in victims]
        rated = [(h, n.index) for n in sample if (h := routing_health(self.truth, n)) is not None]
        if not rated:
            return
        self.health = sum(health for health, _ in rated) / len(rated)
        now = self.network.engine.now
        is_quiet = now - self.truth.changed_s >= QUIET_S and now > self.truth.stood_apart_s
        if is_quiet and self.health < self.checks.routing_health_min:
            worst, index = min(rated)
            what = (
                f"{len(rated)} nodes know {self.health:.3f} of those closest to them, on average; this one, the "
                f"worst, {worst:.3f}; it should be {self.checks.routing_health_min:.3f}, nothing having happened for "
                f"{now - self.truth.changed_s:.0f} s"
            )
            self.violate(now, index, what)
