"""mediadht beside the `kademlia` package on the same simulated network: the table of docs/research.md.

```sh
python simulations/experiments/baseline_kademlia.py                    # 100, 400 and 1,000 nodes; minutes
python simulations/experiments/baseline_kademlia.py --nodes 100 --only kademlia --lookups 200
```

The same for both: the latency model and its draws (node `i` is at the same place), jitter, the share of lost messages,
the number of keys, announces and lookups and their rates, the share of nodes that crashes, the metrics. Not the same,
because the systems are not: the package speaks UDP and a lost datagram is lost, mediadht speaks TCP and a lost segment
comes later; its connections are dialled first. The package's keys have one value, which the last announcer sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from mediadht_sim.baseline import run_baseline
from mediadht_sim.engine import Engine
from mediadht_sim.latency import latency_model
from mediadht_sim.metrics import metrics
from mediadht_sim.run import run
from mediadht_sim.scenario import Scenario

Row = tuple[Any, ...]

JITTER_SHARE = 0.05
RTT_MEDIAN_MS = 140.0
"""As between PlanetLab's hosts."""
EVERY_S = 0.1
"""Between two operations, in the whole network."""
JOIN_EVERY_S = 0.2
SETTLE_S = 60.0

FIGURES: tuple[tuple[str, str, str], ...] = (
    # phase, metric, words
    ("announce", "stored_share", "announces stored, share"),
    ("announce", "announce_ms_p50", "announce, p50 ms"),
    ("announce", "announce_ms_p99", "announce, p99 ms"),
    ("announce", "announce_requests_mean", "requests per announce, mean"),
    ("before", "success_share", "lookups: found, share of those whose announcer lives"),
    ("before", "first_ms_p50", "first provider, p50 ms"),
    ("before", "first_ms_p99", "first provider, p99 ms"),
    ("before", "end_ms_p99", "lookup's end, p99 ms"),
    ("before", "requests_mean", "requests per lookup, mean"),
    ("before", "requests_p99", "requests per lookup, p99"),
    ("before", "hops_mean", "hops per lookup, mean"),
    ("after", "success_share", "after the crash: found, share of those whose announcer lives"),
    ("after", "first_ms_p50", "first provider, p50 ms"),
    ("after", "first_ms_p95", "first provider, p95 ms"),
    ("after", "first_ms_p99", "first provider, p99 ms"),
    ("after", "end_ms_p99", "lookup's end, p99 ms"),
    ("after", "requests_mean", "requests per lookup, mean"),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What both systems do."""

    nodes: int
    seed: int
    announces: int
    lookups: int
    loss: float
    crash_share: float


def of_kademlia(work: Work) -> dict[str, list[Row]]:
    """The package's rows, by phase."""
    # The stream has the name that mediadht's runs use, so that node i is at the same place in both.
    model = latency_model("synthetic", Engine(work.seed).stream("latency"), rtt_median_ms=RTT_MEDIAN_MS)
    result = run_baseline(
        work.nodes,
        seed=work.seed,
        latency=model.one_way_s,
        loss=work.loss,
        jitter_share=JITTER_SHARE,
        lookups=work.lookups,
        announces=work.announces,
        crash_share=work.crash_share,
        join_every_s=JOIN_EVERY_S,
        settle_s=SETTLE_S,
        every_s=EVERY_S,
    )
    click.echo(
        f"kademlia, {work.nodes} nodes: trace {result.trace[:16]}, {result.messages:,} datagrams, the largest of "
        f"{result.bytes_largest} bytes, {len(result.faults)} exceptions that nobody took"
        + (f"; FLOODED, stopped at {result.flooded_s:.1f} s" if result.flooded_s is not None else ""),
        err=True,
    )
    return {name: result.phases[name].rows for name in ("announce", "before", "after") if name in result.phases}


def scenario_of(work: Work) -> Scenario:
    """The same work as a scenario: half of the measured time is before the crash."""
    phase_s = work.lookups * EVERY_S
    lookups = {"kind": "mix", "subjects": work.announces, "seeded_share": 1.0, "announces_per_s": 0.0}
    lookups |= {"lookups_per_s": 1 / EVERY_S, "announcers_share": 1.0}
    announces = {"kind": "mix", "subjects": work.announces, "seeded_share": 0.0, "announcers_share": 1.0}
    announces |= {"announces_per_s": 1 / EVERY_S, "lookups_per_s": 0.0, "ends_at_s": work.announces * EVERY_S}
    return Scenario.model_validate(
        {
            "name": "beside-kademlia",
            "seed": work.seed,
            "duration_s": max(2 * phase_s, work.announces * EVERY_S),
            "interval_s": min(10.0, phase_s),
            "network": {
                "nodes": work.nodes,
                "start": "joined",
                "join_every_s": JOIN_EVERY_S,
                "settle_s": SETTLE_S,
                "keepalive": "exchanged",
            },
            "latency": {"model": "synthetic", "median_ms": RTT_MEDIAN_MS, "jitter_share": JITTER_SHARE},
            "links": {"loss": work.loss, "retransmits": True},
            "events": [{"kind": "crash", "at_s": phase_s, "share": work.crash_share}] if work.crash_share else [],
            "workloads": [lookups, announces],
        }
    )


def of_mediadht(work: Work) -> dict[str, list[Row]]:
    """Our rows, by phase."""
    phase_s = work.lookups * EVERY_S
    rows = run(scenario_of(work)).lookups
    return {
        "announce": [row for row in rows if row[1] == "announce"],
        "before": [row for row in rows if row[1] == "lookup" and row[0] < phase_s],
        "after": [row for row in rows if row[1] == "lookup" and row[0] >= phase_s],
    }


SYSTEMS: dict[str, Callable[[Work], dict[str, list[Row]]]] = {"kademlia": of_kademlia, "mediadht": of_mediadht}


def table(columns: dict[str, dict[str, list[Row]]]) -> Iterator[str]:
    """Lines of a Markdown table: a column for each named system's phases."""
    yield f"| | {' | '.join(columns)} |"
    yield f"| --- |{' --- |' * len(columns)}"
    figures = {
        name: {phase: metrics(rows, [], []) for phase, rows in phases.items()} for name, phases in columns.items()
    }
    for phase, metric, words in FIGURES:
        values = [figures[name].get(phase, {}).get(metric) for name in columns]
        if any(value is not None for value in values):
            yield f"| {words} | {' | '.join(map(written, values))} |"


def written(value: float | None) -> str:
    """Three figures, without an exponent."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@click.command(help=__doc__.split("\n", 1)[0])
@click.option("--nodes", type=click.IntRange(2), multiple=True, default=(100, 400, 1_000), show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--announces", type=click.IntRange(1), default=500, show_default=True, help="Keys, each announced once.")
@click.option("--lookups", type=click.IntRange(1), default=1_000, show_default=True, help="Before the crash and after.")
@click.option("--loss", type=click.FloatRange(0, 0.9), default=0.0, show_default=True)
@click.option("--crash-share", type=click.FloatRange(0, 0.9), default=0.2, show_default=True)
@click.option("--only", type=click.Choice(sorted(SYSTEMS)), multiple=True, default=tuple(sorted(SYSTEMS)))
def main(nodes: tuple[int, ...], only: tuple[str, ...], **work: Any) -> None:
    """Run each system at each size, and print the table."""
    columns = {}
    for count in nodes:
        for system in only:
            columns[f"{system}, {count:,} nodes"] = SYSTEMS[system](Work(count, **work))
    click.echo("\n".join(table(columns)))


if __name__ == "__main__":
    main()
