"""Checkers: what must hold in every simulation, each in a file of its own, on unless the scenario says otherwise.

`watch` puts them in place. A further one is a subclass of `Checker` in its own file, a line in `watch.py`, and a switch
in the scenario's `[checks]`; those of the claims on media will come so.
"""

from mediadht_sim.checkers.bounds import Bounds
from mediadht_sim.checkers.checker import Checker, Violation
from mediadht_sim.checkers.deadlines import Deadlines
from mediadht_sim.checkers.live_found import LiveFound
from mediadht_sim.checkers.routing import Routing, routing_health
from mediadht_sim.checkers.truth import Truth
from mediadht_sim.checkers.watch import CHECKERS, watch
from mediadht_sim.checkers.withdrawn_gone import WithdrawnGone

__all__ = [
    "CHECKERS",
    "Bounds",
    "Checker",
    "Deadlines",
    "LiveFound",
    "Routing",
    "Truth",
    "Violation",
    "WithdrawnGone",
    "routing_health",
    "watch",
]
