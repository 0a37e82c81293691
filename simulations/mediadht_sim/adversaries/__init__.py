"""Adversaries: nodes that misbehave in every way that a node can, by scenario."""

from mediadht_sim.adversaries.answers import Drop, Lie, Replay, Withhold
from mediadht_sim.adversaries.flood import Flood
from mediadht_sim.adversaries.mind import Company, Mind, Restless
from mediadht_sim.adversaries.place import eclipsed, place
from mediadht_sim.adversaries.surround import Eclipse, Sybil, Treason

__all__ = [
    "Company",
    "Drop",
    "Eclipse",
    "Flood",
    "Lie",
    "Mind",
    "Replay",
    "Restless",
    "Sybil",
    "Treason",
    "Withhold",
    "eclipsed",
    "place",
]
