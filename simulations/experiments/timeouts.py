"""When a request counts as slow, hopeless or lost.

The constants: `SLOW_FACTOR`, `SLOW_UNKNOWN_S`, `LOOKUP_PATIENCE_S`, `REQUEST_TIMEOUT_S`.

Question. How soon should a lookup ask somebody else, and how long should it wait for who is late?

Method. 300 nodes, 80 ms median round trip, a fifth of them freeze (no answer, no closed connection: a machine switched
off), one message in twenty is lost, one node in twenty is ten times slower. One constant is varied at a time, the
others stay. A tenth of the lookups are for keys that nobody has.

Figures. Time to the first provider, median and tail; time to the end; requests, which too little patience wastes.

Verdict. In docs/research.md, with the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from study import UNCHECKED, Part, play

from mediadht_sim.scenario import Links, Network, Scenario
from mediadht_sim.scenario_events import Freeze
from mediadht_sim.scenario_workloads import Mix

METRICS = (
    "success_share",
    "first_ms_p50",
    "first_ms_p95",
    "first_ms_p99",
    "end_ms_p50",
    "end_ms_p99",
    "requests_mean",
    "requests_p99",
)
VALUES = {
    "SLOW_FACTOR": (1.0, 1.5, 2.0, 3.0, 5.0),
    "SLOW_UNKNOWN_S": (0.1, 0.2, 0.4, 0.8, 1.6),
    "LOOKUP_PATIENCE_S": (0.5, 1.0, 1.5, 3.0),
    "REQUEST_TIMEOUT_S": (2.0, 5.0, 10.0),
}


def parts(quick: bool) -> Sequence[Part]:
    """One constant after the other."""
    nodes = 50 if quick else 300
    scenario = Scenario(
        name="timeouts",
        duration_s=15.0 if quick else 120.0,
        network=Network(nodes=nodes, settle_s=20.0),
        links=Links(loss=0.05, slow_share=0.05, slow_factor=10.0),
        events=(Freeze(at_s=1.0, share=0.2),),
        workloads=(Mix(subjects=nodes, starts_at_s=2.0, lookups_per_s=20.0, announces_per_s=0.2, absent_share=0.1),),
        checks=UNCHECKED,
    )
    chosen = list(VALUES.items())[:2] if quick else list(VALUES.items())
    return [
        Part(f"{name}, {nodes} nodes", scenario, {f"constants.{name}": values[:2] if quick else values}, METRICS, 6)
        for name, values in chosen
    ]


if __name__ == "__main__":
    play(__doc__, parts)
