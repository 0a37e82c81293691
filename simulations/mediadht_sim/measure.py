"""What is measured while a simulation runs: a row for each operation, interval and node, as `columns` says.

Counts cover the measured time: what happens in the warm-up is subtracted. Times in rows count from its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mediadht.core.events import AnnouncementProgress, Notice
from mediadht.core.identifiers import Subject
from mediadht_sim.checkers import Checker, Truth, routing_health
from mediadht_sim.metrics import percentile
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import LookupResult, Observer

__all__ = ["Measure"]

_HEALTH_SAMPLE = 50
"""Nodes looked at in an interval, another part of them each time."""


@dataclass(slots=True)
class _Before:
    """Counters of a node when measuring began."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Measure(Observer):
    """Collects rows from `begin` to `finish`; `tick` ends an interval."""

    def __init__(self, network: SimulatedNetwork, truth: Truth, checkers: list[Checker]) -> None:
        self.lookups: list[tuple[Any, ...]] = []
        self.intervals: list[tuple[Any, ...]] = []
        self.nodes: list[tuple[Any, ...]] = []
        self._network = network
        self._truth = truth
        self._checkers = checkers
        self._began_s = float("inf")
        self._open: dict[tuple[int, int], tuple[float, str, Subject]] = {}
        """Wishes not yet told: by node and key, since when, what and of what."""
        self._before: dict[int, _Before] = {}
        self._totals = (0, 0, 0, 0)
        self._ended: list[LookupResult] = []
        self._outcomes: list[str] = []
        self._announces = 0
        self._health_at = 0

    def begin(self) -> None:
        """Measuring begins."""
        self._began_s = self._network.engine.now
        self._totals = self._totals_now()
        self._open.clear()
        for node in self._network.nodes:
            counts = (node.messages_in, node.messages_out, node.bytes_in, node.bytes_out)
            self._before[node.index] = _Before(*counts)

    # --- Observer ------------------------------------------------------------------------------------------------

    def wished(self, node: SimulatedNode, subject: Subject, announced: bool) -> None:
        kind = "announce" if announced else "withdraw"
        self._open[node.index, subject.key] = (self._network.engine.now, kind, subject)

    def told(self, node: SimulatedNode, notice: Notice) -> None:
        if type(notice) is not AnnouncementProgress:
            return
        self._announces += 1
        since = self._open.get((node.index, notice.subject.key))
        if since is None or (since[1] == "withdraw") != notice.withdrawn:
            return
        del self._open[node.index, notice.subject.key]
        if since[0] >= self._began_s:
            took_ms = 1_000 * (self._network.engine.now - since[0])
            outcome = "stored" if notice.trouble is None else "too_few"
            self._row(
                node.index,
                since,
                took_ms,
                outcome,
                requests=notice.requests,
                hops=notice.hops,
                replicas=notice.replicas,
            )

    def looked_up(self, node: SimulatedNode, result: LookupResult) -> None:
        if result.started_s < self._began_s or not node.is_honest:
            return
        outcome = self._truth.outcome(result, self._network.engine.now)
        self._ended.append(result)
        self._outcomes.append(outcome)
        self._lookup_row(result, outcome)

    # --- Intervals and the end -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """An interval is over."""
        up = [node for node in self._network.nodes if node.hears]
        totals = self._totals_now()
        messages, sizes, dials, violations = (now - b for now, b in zip(totals, self._totals, strict=True))
        self._totals = totals
        first_ms = sorted(1_000 * (r.first_s - r.started_s) for r in self._ended if r.first_s is not None)
        self.intervals.append(
            (
                self._network.engine.now - self._began_s,
                len(up),
                messages,
                sizes,
                dials,
                len(self._ended),
                self._outcomes.count("found"),
                self._outcomes.count("missed"),
                self._announces,
                percentile(first_ms, 0.5),
                percentile(first_ms, 0.95),
                self._health(up),
                _mean([len(n.node.state.table) for n in up]),
                _mean([len(n.sessions) for n in up]),
                sum(len(n.node.state.store) for n in up),
                violations,
            )
        )
        self._ended, self._outcomes, self._announces = [], [], 0

    def finish(self) -> None:
        """The simulation is over: what is still open has not ended, and every node gets its row."""
        for node in self._network.nodes:
            for result in node.lookups.values():
                if result.started_s >= self._began_s and node.is_honest:
                    self._lookup_row(result, "unfinished")
        for (index, _), since in self._open.items():
            if since[0] >= self._began_s:
                outcome = "unfinished" if self._network.nodes[index].is_up else "untold"
                self._row(index, since, None, outcome)
        self.lookups.sort(key=lambda row: (row[0], row[2], row[3]))
        self._node_rows()

    def _node_rows(self) -> None:
        counted = []
        for node in self._network.nodes:
            before = self._before.get(node.index, _Before())
            counted.append((node, before, node.messages_in - before.messages_in))
        everything = sum(received for _, _, received in counted) or 1
        for node, before, received in counted:
            state = node.node.state
            self.nodes.append(
                (
                    node.index,
                    node.is_honest,
                    bool(node.contact.endpoints),
                    self._truth.up_s(node.index, self._began_s),
                    received,
                    node.messages_out - before.messages_out,
                    node.bytes_in - before.bytes_in,
                    node.bytes_out - before.bytes_out,
                    len(state.store) if node.is_up else 0,
                    len(state.table) if node.is_up else 0,
                    len(state.book) if node.is_up else 0,
                    len(node.sessions),
                    received / everything,
                )
            )

    def _totals_now(self) -> tuple[int, int, int, int]:
        network = self._network
        violations = sum(checker.violations_total for checker in self._checkers)
        return network.messages, network.bytes, network.sessions.dials, violations

    def _health(self, up: list[SimulatedNode]) -> float:
        sample = [up[(self._health_at + n) % len(up)] for n in range(min(_HEALTH_SAMPLE, len(up)))] if up else []
        self._health_at += len(sample)
        rated = (routing_health(self._truth, node) for node in sample)
        return _mean([health for health in rated if health is not None])

    def _row(
        self,
        index: int,
        since: tuple[float, str, Subject],
        took_ms: float | None,
        outcome: str,
        *,
        requests: int = 0,
        hops: int = 0,
        replicas: int = 0,
    ) -> None:
        at_s, kind, subject = since
        self.lookups.append(
            (at_s - self._began_s, kind, index, subject.id, None, took_ms, 0, 0, requests, hops, replicas,
             took_ms is not None, outcome)
        )  # fmt: skip

    def _lookup_row(self, result: LookupResult, outcome: str) -> None:
        ended = result.ended
        first_ms = None if result.first_s is None else 1_000 * (result.first_s - result.started_s)
        counts = (0, 0, 0, 0) if ended is None else (
            ended.providers_total, ended.requests, ended.hops, ended.replicas_answered
        )  # fmt: skip
        end_ms = None if ended is None else 1_000 * (result.ended_s - result.started_s)
        self.lookups.append(
            (result.started_s - self._began_s, "lookup", result.index, result.subject.id, first_ms, end_ms,
             len(result.providers), *counts, ended is not None and ended.complete, outcome)
        )  # fmt: skip


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
