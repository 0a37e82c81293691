"""How long a record lives and how often it is renewed: `RECORD_VALIDITY_S`, `REPUBLISH_INTERVAL_S`.

Question. How seldom may providers store their records again without being lost from sight, and what does it cost?

Method. 60 nodes over two days, with the churn of `k.py` (sessions as IPFS measured them, far shorter than a
homeserver's). Every validity is combined with every interval. Lookups go on all the time.

Figures. Lookups that find a live provider; lookups that find only dead ones, which a shorter validity would have
cleared away; lookups that find nothing: there every record has expired. (The share of success does not show that: where
no record is valid, none is expected to be found.) Messages of a node a second.

Verdict. In docs/research.md, with the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from k import HOUR_S, churn
from study import Part, play

METRICS = (
    "success_share",
    "lookups",
    "lookups_found",
    "lookups_stale",
    "lookups_absent",
    "requests_mean",
    "records_mean",
    "messages_per_node_s",
)


def parts(quick: bool) -> Sequence[Part]:
    """All pairs."""
    hours, nodes = (1, 30) if quick else (48, 60)
    vary = {
        "constants.RECORD_VALIDITY_S": [int(h * HOUR_S) for h in ((24,) if quick else (12, 24, 48))],
        "constants.REPUBLISH_INTERVAL_S": [int(h * HOUR_S) for h in ((0.2, 22) if quick else (11, 22))],
    }
    return (Part(f"{hours} h of churn, {nodes} nodes", churn("validity", nodes, hours * HOUR_S), vary, METRICS, 2),)


if __name__ == "__main__":
    play(__doc__, parts)
