"""A made-up run of a network that is cut in two in the middle: what tables, report and comparisons are tested on."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, field
from typing import Any

from mediadht_sim.metrics import metrics
from mediadht_sim.tables import Violated

DURATION_S, INTERVAL_S = 600.0, 10.0
CUT_S, HEALED_S = 200.0, 350.0


@dataclass
class FakeScenario:
    values: dict[str, Any]

    def model_dump(self, *, mode: str = "python", exclude_none: bool = False) -> dict[str, Any]:
        return dict(self.values)


@dataclass
class FakeRun:
    scenario: FakeScenario
    seed: int
    trace: str
    lookups: list[tuple[Any, ...]]
    intervals: list[tuple[Any, ...]]
    nodes: list[tuple[Any, ...]]
    violations: list[Violated]
    metrics: dict[str, float | None]
    events: int = 1_234_567
    messages: int = 456_789
    virtual_s: float = 720.0
    wall_s: float = 12.5
    phases: dict[str, Any] = field(default_factory=lambda: {"warm-up": 120.0, "measured": 600.0})


def scenario_values(name: str = "partition-heal") -> dict[str, Any]:
    return {
        "name": name,
        "about": "A network is cut into two halves for 150 seconds and joined again. Providers that only the other "
        "half knows cannot be found while the cut lasts; within a minute after it everything must be found again.",
        "seed": 7,
        "duration_s": DURATION_S,
        "interval_s": INTERVAL_S,
        "network": {"nodes": 500, "start": "settled", "k": 20, "unreachable_share": 0.1, "codec": "bytes"},
        "latency": {"model": "synthetic", "median_ms": 45.0, "jitter_share": 0.1},
        "links": {"loss": 0.01, "slow_share": 0.0, "dial_round_trips": 4},
        "lives": {"session": {"kind": "weibull", "shape": 0.6, "scale_s": 3600.0}, "graceful_share": 0.5},
        "events": [
            {"at_s": CUT_S, "kind": "partition", "groups": 2},
            {"at_s": HEALED_S, "kind": "heal"},
            {"at_s": 450.0, "kind": "crash", "share": 0.2},
        ],
        "workloads": [{"kind": "mix", "announces_per_s": 2.0, "lookups_per_s": 8.0, "subjects": 300}],
    }


def lookup_row(draw: random.Random, at_s: float, nodes: int, slower: float = 1.0) -> tuple[Any, ...]:
    is_cut = CUT_S <= at_s < HEALED_S
    if draw.random() < 0.2:
        outcome = "too_few" if is_cut and draw.random() < 0.3 else "stored"
        end_ms = draw.lognormvariate(math.log(400 * slower), 0.5)
        requests, hops, replicas = draw.randint(18, 30), draw.randint(2, 4), 20 if outcome == "stored" else 4
        return (
            at_s, "announce", draw.randrange(nodes), f"media:{draw.randrange(300)}", None, end_ms, 0, 0,
            requests, hops, replicas, True, outcome,
        )  # fmt: skip
    missed = draw.random() < (0.35 if is_cut else 0.004)
    outcome = "missed" if missed else draw.choices(["found", "absent", "stale"], [0.92, 0.06, 0.02])[0]
    first_ms = draw.lognormvariate(math.log(120 * slower), 0.7) if outcome in ("found", "stale") else None
    end_ms = (first_ms or 0) + draw.lognormvariate(math.log(250 * slower), 0.6) + (4000 if missed else 0)
    providers = draw.randint(1, 5) if first_ms is not None else 0
    return (
        at_s, "lookup", draw.randrange(nodes), f"media:{draw.randrange(300)}", first_ms, end_ms, providers, providers,
        max(3, int(draw.gauss(14, 4))), draw.choices([1, 2, 3, 4], [3, 10, 6, 1])[0], draw.randint(1, 14),
        True, outcome,
    )  # fmt: skip


def interval_row(draw: random.Random, end_s: float, nodes: int, rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    inside = [row for row in rows if end_s - INTERVAL_S <= row[0] < end_s]
    lookups = [row for row in inside if row[1] == "lookup"]
    firsts = sorted(row[4] for row in lookups if row[4] is not None)
    is_cut = CUT_S < end_s <= HEALED_S
    health = (0.62 if is_cut else 0.96) + draw.uniform(-0.02, 0.02)
    messages = int(draw.gauss(7600, 500))
    return (
        end_s, nodes if end_s <= 450 else int(nodes * 0.8), messages, messages * 310, draw.randint(20, 60),
        len(lookups), sum(row[-1] == "found" for row in lookups), sum(row[-1] == "missed" for row in lookups),
        len(inside) - len(lookups), firsts[len(firsts) // 2] if firsts else None,
        firsts[int(len(firsts) * 0.95)] if firsts else None, health, 61.0 + draw.random(), 24.0 + draw.random() * 3,
        int(6000 * (1 - math.exp(-end_s / 200))), 1 if end_s == 360 else 0,
    )  # fmt: skip


def node_row(draw: random.Random, index: int) -> tuple[Any, ...]:
    received = int(draw.lognormvariate(math.log(900), 0.6))
    sent = int(draw.lognormvariate(math.log(900), 0.5))
    return (
        index, index % 50 != 0, draw.random() > 0.1, 600.0 if draw.random() > 0.2 else draw.uniform(20, 600),
        received, sent, received * 310, sent * 310, draw.randint(0, 40), draw.randint(40, 80), draw.randint(60, 200),
        draw.randint(5, 60), received / 450_000,
    )  # fmt: skip


def made_up_run(seed: int = 7, nodes: int = 500, slower: float = 1.0, name: str = "partition-heal") -> FakeRun:
    """Everything about it is drawn; nothing was simulated."""
    draw = random.Random(seed)
    times = sorted(draw.uniform(0, DURATION_S) for _ in range(6000))
    lookups = [lookup_row(draw, at_s, nodes, slower) for at_s in times]
    ends = [INTERVAL_S * step for step in range(1, int(DURATION_S / INTERVAL_S) + 1)]
    intervals = [interval_row(draw, end_s, nodes, lookups) for end_s in ends]
    hosts = [node_row(draw, index) for index in range(nodes)]
    return FakeRun(
        FakeScenario(scenario_values(name)),
        seed,
        hashlib.sha256(repr((seed, slower)).encode()).hexdigest(),
        lookups,
        intervals,
        hosts,
        [Violated("findable", 355.25, 42, "media:17 has a live provider (node 8), told to nobody for 60 s")],
        metrics(lookups, intervals, hosts),
    )


def empty_run() -> FakeRun:
    """A run in which nothing happened: no nodes, no operations, no intervals."""
    scenario = FakeScenario({"name": "nothing", "seed": 1, "duration_s": 0.0})
    return FakeRun(scenario, 1, "0" * 64, [], [], [], [], metrics([], [], []), 0, 0, 0.0, 0.0, {})
