"""What the safety search does to a network: drawn from a seed, within what the protocol promises to bear.

A plan is a network and a list of steps; a step that makes no sense when its time comes (a restart of a node that is up)
is passed over, so that any part of a plan is a plan too, and a failing one can be cut down. Each plan uses some kinds
of faults and not others (swarm testing: what always happens hides what it prevents). What is borne, of k replicas:
a quarter that lost their records, a quarter newcomers, a sixth that misbehave; messages lost up to a fifth; clocks
that agree within the tolerance.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from mediadht.core.constants import BOOTSTRAP_INTERVAL_S, CLOCK_TOLERANCE_S, PUBLISH_RETRY_S_MAX, K
from mediadht.core.errors import CallerError

__all__ = ["NODES_MIN", "Plan", "Step", "StepKind", "draw", "plan_from_json", "plan_to_json"]

NODES_MIN = 5
LOSS_MAX = 0.2
JITTER_MAX = 0.5
LATENCY_MS = (5.0, 40.0)
"""Median of one way. Pairs are at most four times farther: a round trip of 320 ms, PlanetLab's 95th percentile.
A lookup's patience bears a dial and an answer there; where all of few replicas are farther, a cold one hears nobody."""
SAFETY_S = (60.0, 1_800.0)
SUBJECTS_MAX = 40
QUIET_S = PUBLISH_RETRY_S_MAX + 300.0
QUIET_AFTER_PARTITION_S = BOOTSTRAP_INTERVAL_S + QUIET_S
"""Who restarts while it is cut off forgets the other side; in time it comes across it again by the bootstrap nodes."""
_SKEW_S = CLOCK_TOLERANCE_S / 2 - 5
STRATEGIES = ("drop", "lie", "withhold", "replay")

StepKind: TypeAlias = Literal[
    "announce",
    "withdraw",
    "look_up",
    "crash",
    "restart",
    "restart_empty",
    "leave",
    "freeze",
    "thaw",
    "join",
    "slow",
    "partition",
    "heal",
    "loss",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens. `nodes`: to which (of a partition, one side); `subjects`: what they announce or seek."""

    at_s: float
    kind: StepKind
    nodes: tuple[int, ...] = ()
    subjects: tuple[int, ...] = ()
    amount: float = 0.0
    """Of `loss`, the share from now on; of `slow`, the factor."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A network, and what happens to it. With the seed it decides everything."""

    seed: int
    nodes: int
    start: Literal["joined", "settled"]
    k: int
    latency_ms: float
    """Median one-way latency."""
    jitter_share: float
    codec: bool
    keepalive: bool
    """Whether pings are exchanged, or only their effect is simulated."""
    skews_s: tuple[float, ...]
    """By node; empty where all clocks are right."""
    adversaries: tuple[tuple[int, str], ...]
    unreachable: tuple[int, ...]
    safety_s: float
    quiet_s: float
    steps: tuple[Step, ...]

    def with_nodes(self, nodes: int) -> Plan:
        """The same with the first `nodes` nodes only."""
        steps = [replace(step, nodes=tuple(n for n in step.nodes if n < nodes)) for step in self.steps]
        return replace(
            self,
            nodes=nodes,
            skews_s=self.skews_s[:nodes],
            adversaries=tuple((n, how) for n, how in self.adversaries if n < nodes),
            unreachable=tuple(n for n in self.unreachable if n < nodes),
            steps=tuple(step for step in steps if step.nodes or step.kind in ("heal", "loss", "join")),
        )

    def said(self) -> str:
        """In a few lines, for people."""
        kinds: dict[str, int] = {}
        for step in self.steps:
            kinds[step.kind] = kinds.get(step.kind, 0) + 1
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        skew = max(map(abs, self.skews_s), default=0.0)
        hostile = ", ".join(f"{node} {how}" for node, how in self.adversaries) or "none"
        return (
            f"{self.nodes} nodes ({self.start}), k = {self.k}, latency {self.latency_ms:.0f} ms, jitter"
            f" {self.jitter_share:.0%}, clocks within {skew:.0f} s, {'codec' if self.codec else 'by reference'},"
            f" {'pings' if self.keepalive else 'no pings'}, {len(self.unreachable)} unreachable\n"
            f"adversaries: {hostile}\n"
            f"{self.safety_s:.0f} s with {counted or 'nothing'}; then {self.quiet_s:.0f} s of quiet"
        )


def plan_to_json(plan: Plan) -> str:
    """The plan as text; `plan_from_json` takes it back."""
    return json.dumps(asdict(plan))


def plan_from_json(text: str) -> Plan:
    """The plan that `plan_to_json` wrote."""
    values: dict[str, Any] = json.loads(text)
    steps = tuple(
        Step(s["at_s"], s["kind"], tuple(s["nodes"]), tuple(s["subjects"]), s["amount"]) for s in values.pop("steps")
    )
    adversaries = tuple((int(node), str(how)) for node, how in values.pop("adversaries"))
    values |= {"skews_s": tuple(values["skews_s"]), "unreachable": tuple(values["unreachable"])}
    return Plan(**values, adversaries=adversaries, steps=steps)


def draw(seed: int, nodes_max: int) -> Plan:
    """The plan of this seed, for networks of up to `nodes_max` nodes (at least `NODES_MIN`)."""
    if nodes_max < NODES_MIN:
        raise CallerError(f"a plan needs networks of up to {NODES_MIN} nodes or more, not {nodes_max}")
    return _Drawing(seed, nodes_max).plan()


class _Drawing:
    """One plan being drawn. Every part has a stream of its own: changing one leaves the others as they were."""

    def __init__(self, seed: int, nodes_max: int) -> None:
        self._seed = seed
        shape = self._stream("shape")
        self._nodes = min(nodes_max, int(NODES_MIN * (nodes_max / NODES_MIN) ** shape.random() + 0.5))
        self._k = K if shape.random() < 0.75 else shape.randint(4, 12)
        self._safety_s = _between(shape, *SAFETY_S)
        self._steps: list[Step] = []
        self._unreachable: tuple[int, ...] = ()
        self._adversaries: tuple[tuple[int, str], ...] = ()

    def plan(self) -> Plan:
        shape, nodes = self._stream("settings"), range(self._nodes)
        if shape.random() < 0.2:
            self._unreachable = tuple(sorted(shape.sample(nodes[1:], self._nodes // 5)))
        hostile_max = min(self._nodes // 10, self._k // 6)
        if hostile_max and shape.random() < 0.3:
            chosen = shape.sample([n for n in nodes[1:] if n not in self._unreachable], shape.randint(1, hostile_max))
            self._adversaries = tuple((n, shape.choice(STRATEGIES)) for n in sorted(chosen))
        skewed = shape.random() < 0.3
        made = Plan(
            seed=self._seed,
            nodes=self._nodes,
            start="joined" if shape.random() < 0.5 else "settled",
            k=self._k,
            latency_ms=round(_between(shape, *LATENCY_MS), 1),
            jitter_share=round(shape.random() * JITTER_MAX, 2) if shape.random() < 0.5 else 0.0,
            codec=shape.random() < 0.2,
            keepalive=shape.random() < 0.5,
            skews_s=tuple(round(shape.uniform(-_SKEW_S, _SKEW_S), 1) for _ in nodes) if skewed else (),
            adversaries=self._adversaries,
            unreachable=self._unreachable,
            safety_s=round(self._safety_s),
            quiet_s=QUIET_S,
            steps=(),
        )
        self._draw_workload()
        faults = self._stream("faults")
        kinds: list[Callable[[random.Random], None]] = [
            self._draw_loss,
            self._draw_crashes,
            self._draw_losses_of_state,
            self._draw_leaves,
            self._draw_freezes,
            self._draw_joins,
            self._draw_partitions,
            self._draw_slowness,
        ]
        for kind in kinds:
            if faults.random() < 0.4:
                kind(self._stream(kind.__name__))
        self._steps.sort(key=lambda step: step.at_s)
        happened = {step.kind for step in self._steps}
        forgotten = "partition" in happened and not happened.isdisjoint({"restart", "restart_empty", "join"})
        quiet_s = QUIET_AFTER_PARTITION_S if forgotten else QUIET_S
        return replace(made, steps=tuple(self._steps), quiet_s=quiet_s)

    # --- Workload ------------------------------------------------------------------------------------------------

    def _draw_workload(self) -> None:
        stream = self._stream("workload")
        count = stream.randint(1, SUBJECTS_MAX)
        for number in range(count):
            for node in self._some(stream, stream.choice((1, 1, 1, 2, 5))):
                at_s = self._when(stream)
                self._add(at_s, "announce", (node,), (number,))
                if stream.random() < 0.25:
                    at_s = stream.uniform(at_s, self._safety_s)
                    self._add(at_s, "withdraw", (node,), (number,))
                    if stream.random() < 0.3:
                        self._add(stream.uniform(at_s, self._safety_s), "announce", (node,), (number,))
        for _ in range(stream.randint(0, 3 * count)):
            number = min(count - 1, int(stream.expovariate(3.0 / count)))  # few are popular
            self._add(self._when(stream), "look_up", self._some(stream, 1), (number,))
        if stream.random() < 0.3:
            crowd = self._some(stream, stream.randint(1, self._nodes))
            self._add(self._when(stream), "look_up", crowd, (stream.randrange(count),))
        if stream.random() < 0.2:
            self._add(self._when(stream), "announce", self._some(stream, 3), (stream.randrange(count),))
        if stream.random() < 0.15:
            many = tuple(range(1_000, 1_000 + stream.randint(20, 300)))
            self._add(self._when(stream), "announce", self._some(stream, 1), many)

    # --- Faults --------------------------------------------------------------------------------------------------

    def _draw_loss(self, stream: random.Random) -> None:
        for _ in range(stream.randint(1, 3)):
            self._add(self._when(stream), "loss", amount=round(stream.uniform(0.01, LOSS_MAX), 3))
            if stream.random() < 0.5:
                self._add(self._when(stream), "loss")

    def _draw_crashes(self, stream: random.Random) -> None:
        for node in self._some(stream, stream.randint(1, self._nodes)):
            at_s = self._when(stream)
            self._add(at_s, "crash", (node,))
            if stream.random() < 0.7:
                self._add(stream.uniform(at_s, self._safety_s), "restart", (node,))
        if stream.random() < 0.2:  # all at once
            at_s = self._when(stream)
            some = self._some(stream, self._nodes)
            self._add(at_s, "crash", some)
            self._add(stream.uniform(at_s, self._safety_s), "restart", some)

    def _draw_losses_of_state(self, stream: random.Random) -> None:
        for node in self._some(stream, self._borne(4)):
            at_s = self._when(stream)
            self._add(at_s, "crash", (node,))
            self._add(stream.uniform(at_s, self._safety_s), "restart_empty", (node,))

    def _draw_leaves(self, stream: random.Random) -> None:
        for node in self._some(stream, stream.randint(1, max(1, self._nodes // 2))):
            at_s = self._when(stream)
            self._add(at_s, "leave", (node,))
            if stream.random() < 0.5:
                self._add(stream.uniform(at_s, self._safety_s), "restart", (node,))

    def _draw_freezes(self, stream: random.Random) -> None:
        for node in self._some(stream, stream.randint(1, max(1, self._nodes // 2))):
            at_s = self._when(stream)
            self._add(at_s, "freeze", (node,))
            if stream.random() < 0.7:
                self._add(stream.uniform(at_s, self._safety_s), "thaw", (node,))

    def _draw_joins(self, stream: random.Random) -> None:
        for _ in range(self._borne(4)):
            self._add(self._when(stream), "join")

    def _draw_partitions(self, stream: random.Random) -> None:
        for _ in range(stream.randint(1, 3)):
            at_s = self._when(stream)
            self._add(at_s, "partition", self._some(stream, stream.randint(1, max(1, self._nodes // 2))))
            if stream.random() < 0.7:
                self._add(stream.uniform(at_s, self._safety_s), "heal")

    def _draw_slowness(self, stream: random.Random) -> None:
        for node in self._some(stream, stream.randint(1, max(1, self._nodes // 4))):
            self._add(self._when(stream), "slow", (node,), amount=float(stream.choice((3, 10, 50))))

    # --- Pieces --------------------------------------------------------------------------------------------------

    def _stream(self, name: str) -> random.Random:
        digest = hashlib.sha256(f"fuzz/{self._seed}/{name}".encode()).digest()
        return random.Random(int.from_bytes(digest, "big"))

    def _add(
        self,
        at_s: float,
        kind: StepKind,
        nodes: tuple[int, ...] = (),
        subjects: tuple[int, ...] = (),
        amount: float = 0.0,
    ) -> None:
        self._steps.append(Step(round(at_s, 2), kind, nodes, subjects, amount))

    def _when(self, stream: random.Random) -> float:
        return stream.uniform(0.0, self._safety_s)

    def _some(self, stream: random.Random, count: int) -> tuple[int, ...]:
        """So many honest nodes, ascending."""
        hostile = {node for node, _ in self._adversaries}
        honest = [node for node in range(self._nodes) if node not in hostile]
        return tuple(sorted(stream.sample(honest, min(count, len(honest)))))

    def _borne(self, part: int) -> int:
        """This part of the replicas that a key has, at least where there are enough to bear one."""
        return min(self._nodes, self._k) // part


def _between(stream: random.Random, low: float, high: float) -> float:
    """Evenly on a logarithmic scale."""
    return low * math.exp(stream.random() * math.log(high / low))
