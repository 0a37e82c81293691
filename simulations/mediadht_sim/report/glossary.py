"""The terms that the report uses, explained to a reader who does not work with DHTs."""

from __future__ import annotations

__all__ = ["GLOSSARY"]

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("absent", "A lookup for what no live node had announced, and that rightly found nothing."),
    (
        "announcement",
        "A node tells the network that it has something: it stores a record at the nodes closest to its key.",
    ),
    ("checker", "A part of the simulator that watches the run and reports every moment in which a promise is broken."),
    ("churn", "Nodes that come and go all the time."),
    ("closest nodes", "The nodes whose IDs differ least from a key; they keep its records."),
    ("found, missed", "A lookup for which a live announced provider was there, and that was told one, or was not."),
    ("Gini coefficient", "Inequality as one number: 0 when all have as much, towards 1 when one has everything."),
    ("hop", "One step further from the asker: nodes that it knew are hop 1, nodes that these named are hop 2."),
    ("interval", "A stretch of virtual time over which figures are summed or averaged: one point in a plot over time."),
    ("k", "How many nodes are meant to keep a record, and how many contacts fit in one part of a routing table."),
    (
        "lookup",
        "A node asks the network who has something: first the nodes nearest to the key that it knows, then the nearer "
        "ones that these name, until nobody knows a nearer one.",
    ),
    (
        "Lorenz curve",
        "For the idlest share of nodes, the share of all work that they did; the diagonal is perfectly even.",
    ),
    ("median, 95 of 100 within", "Half of all values are at most the median; 95 of 100 at most the 95th percentile."),
    ("partition", "A cut of the network into parts between which no message passes."),
    ("provider, seeder", "A node that has announced something and serves it."),
    ("replica", "One of the nodes that keep a copy of a record."),
    ("routing health", "Of the k nodes truly closest to a node, the share that it knows and that is live."),
    ("seed", "The number from which everything random in a run is drawn: same scenario and seed, same run."),
    ("session", "An open, authenticated connection between two nodes."),
    ("stale", "A lookup that was told only providers that are down, have withdrawn, or are cut off from the asker."),
    ("subject", "What is announced and looked up: the hash of a medium, or a room's ID."),
    (
        "Sybil, eclipse",
        "Many false nodes of one attacker; false nodes that surround a victim so that it sees only them.",
    ),
    ("trace", "A fingerprint of everything that happened in a run. Two runs with equal traces are the same run."),
    ("virtual time", "The simulated network's own clock. It does not depend on how fast the computer is."),
)
