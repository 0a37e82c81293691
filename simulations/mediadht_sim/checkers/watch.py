"""Puts the checkers of a scenario into a network."""

from __future__ import annotations

from mediadht_sim.checkers.bounds import Bounds
from mediadht_sim.checkers.checker import Checker
from mediadht_sim.checkers.deadlines import Deadlines
from mediadht_sim.checkers.live_found import LiveFound
from mediadht_sim.checkers.routing import Routing
from mediadht_sim.checkers.truth import Truth
from mediadht_sim.checkers.withdrawn_gone import WithdrawnGone
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.scenario import Checks

__all__ = ["CHECKERS", "watch"]

CHECKERS: tuple[type[Checker], ...] = (LiveFound, WithdrawnGone, Bounds, Routing, Deadlines)
"""All of them, in the order in which they watch; each by its name in `[checks]`."""


def watch(network: SimulatedNetwork, checks: Checks) -> tuple[Truth, list[Checker]]:
    """Have truth kept, and everything checked that `checks` switches on.

    Call each checker's `tick` once an interval, and `finish` at the end. `Truth` watches before them, and stays useful
    where all of them are off.
    """
    truth = Truth(network)
    network.watch(truth)
    chosen = [kind(network, checks, truth) for kind in CHECKERS if getattr(checks, kind.name)]
    for checker in chosen:
        network.watch(checker)
    return truth, chosen
