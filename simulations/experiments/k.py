"""How many replicas a record has: `K`.

Question. What do 8, 14, 20 or 28 replicas buy when half of the network dies, and over two days of churn; what do they
cost in storage and in messages?

Method. *Killed*: 500 nodes, half of them crash at once, and what the other half announced is looked up at once and for
the next two minutes, when nobody has noticed much. *Churn*: 60 nodes over 48 hours, sessions as IPFS measured them
(Weibull, shape 0.6, scale 8,450 s: 88 % shorter than 8 hours, 2 % longer than a day; Trautwein et al. 2022), absences
of about an hour, a tenth of the returns without the disk. Maintenance looks around once a minute instead of every five
seconds there, which saves nine tenths of the computing and leaves dead contacts in the tables longer.

Figures. Lookups that find a live provider, of those for which there was one; requests; records kept by a node.

Verdict. In docs/research.md, with the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from study import UNCHECKED, Part, play

from mediadht_sim.scenario import Lives, LogNormal, Network, Scenario, Weibull
from mediadht_sim.scenario_events import Crash
from mediadht_sim.scenario_workloads import Mix

KILLED = ("success_share", "first_ms_p50", "first_ms_p99", "end_ms_p99", "requests_mean", "records_mean")
CHURN = (
    "success_share",
    "first_ms_p95",
    "requests_mean",
    "announce_requests_mean",
    "records_mean",
    "messages_per_node_s",
)
HOUR_S = 3_600.0

IPFS_LIVES = Lives(
    session=Weibull(shape=0.6, scale_s=8_450.0),
    absence=LogNormal(median_s=HOUR_S, sigma=1.0),
    graceful_share=0.3,
    keep_state_share=0.9,
)


def churn(name: str, nodes: int, duration_s: float) -> Scenario:
    """A small network over days."""
    return Scenario(
        name=name,
        duration_s=duration_s,
        interval_s=min(duration_s, HOUR_S),
        network=Network(nodes=nodes, settle_s=120.0),
        lives=IPFS_LIVES,
        workloads=(Mix(subjects=2 * nodes, lookups_per_s=0.05, announces_per_s=0.0005),),
        checks=UNCHECKED,
        constants={"TICK_S": 60.0},
    )


def parts(quick: bool) -> Sequence[Part]:
    """Killed at once, and churn."""
    vary = {"network.k": (8, 20) if quick else (8, 14, 20, 28)}
    nodes = 60 if quick else 500
    killed = Scenario(
        name="k-killed",
        duration_s=20.0 if quick else 120.0,
        network=Network(nodes=nodes, settle_s=20.0),
        events=(Crash(at_s=1.0, share=0.5),),
        workloads=(Mix(subjects=nodes, starts_at_s=2.0, lookups_per_s=10.0, announces_per_s=0.0),),
        checks=UNCHECKED,
    )
    hours = 1 if quick else 48
    few = 30 if quick else 60
    return (
        Part(f"Half of {nodes} nodes killed", killed, vary, KILLED, seeds=4),
        Part(f"{hours} h of churn, {few} nodes", churn("k-churn", few, hours * HOUR_S), vary, CHURN, 2),
    )


if __name__ == "__main__":
    play(__doc__, parts)
