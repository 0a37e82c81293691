"""How many requests a lookup has in flight: `ALPHA`.

Question. Does a larger ALPHA make lookups faster, and what does it cost in requests?

Method. A settled network of 400 nodes, 80 ms median round trip. *Warm*: a node remembers everybody it heard of and
keeps up to 256 sessions. *Cold*: it remembers 150 contacts and keeps 32 sessions, so that lookups take hops and dials.
A fifth of the lookups are for keys that nobody has: those must be answered by all k replicas, and there ALPHA matters.
One message in fifty is lost.

Figures. Time to the first provider, time to the end, requests, hops.

Verdict. In docs/research.md, with the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from study import UNCHECKED, Part, play

from mediadht_sim.scenario import Links, Network, Scenario
from mediadht_sim.scenario_workloads import Mix

METRICS = (
    "success_share",
    "first_ms_p50",
    "first_ms_p95",
    "end_ms_p50",
    "end_ms_p99",
    "requests_mean",
    "requests_p99",
    "hops_mean",
    "announce_ms_p50",
    "announce_requests_mean",
)


def parts(quick: bool) -> Sequence[Part]:
    """A warm and a cold network."""
    nodes = 60 if quick else 400
    vary = {"constants.ALPHA": (1, 3) if quick else (1, 2, 3, 5, 10)}
    mix = Mix(subjects=nodes // 3, lookups_per_s=nodes / 50, announces_per_s=nodes / 1_000, absent_share=0.2)
    warm = Scenario(
        name="alpha-warm",
        duration_s=10.0 if quick else 60.0,
        network=Network(nodes=nodes, settle_s=20.0),
        links=Links(loss=0.02),
        workloads=(mix,),
        checks=UNCHECKED,
    )
    network = Network(nodes=nodes, settle_s=20.0, contacts_max=150, sessions_max=32)
    cold = warm.model_copy(update={"name": "alpha-cold", "network": network})
    return (
        Part(f"Warm, {nodes:,} nodes", warm, vary, METRICS),
        Part(f"Cold, {nodes:,} nodes", cold, vary, METRICS),
    )


if __name__ == "__main__":
    play(__doc__, parts)
