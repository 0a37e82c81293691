"""What all checkers share: they watch, judge once an interval and at the end, and report violations.

A checker never changes what it watches, and asks only what is cheap: truth is kept up by `Truth`, once for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from mediadht_sim.checkers.truth import Truth
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import Observer
from mediadht_sim.scenario import Checks

__all__ = ["Checker", "Rotation", "Violation"]

_VIOLATIONS_KEPT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not happen has happened."""

    checker: str
    at_s: float
    """Virtual seconds."""
    node: int | None
    """Index of the node concerned, if it is one."""
    what: str


class Checker(Observer):
    """The base of all checkers. `name` is its key in a scenario's `[checks]`."""

    name: ClassVar[str]

    def __init__(self, network: SimulatedNetwork, checks: Checks, truth: Truth) -> None:
        self.network = network
        self.checks = checks
        self.truth = truth
        self.violations: list[Violation] = []
        """At most `_VIOLATIONS_KEPT_MAX`; `violations_total` counts all."""
        self.violations_total = 0

    def tick(self) -> None:
        """An interval is over."""

    def finish(self) -> None:
        """The simulation is over."""

    def violate(self, at_s: float, node: SimulatedNode | int | None, what: str) -> None:
        """Report a violation."""
        self.violations_total += 1
        if len(self.violations) < _VIOLATIONS_KEPT_MAX:
            index = node.index if isinstance(node, SimulatedNode) else node
            self.violations.append(Violation(self.name, at_s, index, what))


class Rotation:
    """Some of the nodes at a time, so that all have had their turn after some ticks."""

    __slots__ = ("_at", "_network")

    def __init__(self, network: SimulatedNetwork) -> None:
        self._network = network
        self._at = -1

    def next(self, count: int) -> Iterator[SimulatedNode]:
        """The next `count` of them, each once at most; those that are up and answer."""
        nodes = self._network.nodes
        for _ in range(min(count, len(nodes))):
            self._at = (self._at + 1) % len(nodes)
            if nodes[self._at].hears:
                yield nodes[self._at]
