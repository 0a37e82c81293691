"""A network that has been up for long, made at once: who knows whom, with which sessions, by global knowledge.

Every node is given what joining and refreshing would have given it: the k nodes closest to it, up to k random ones in
each wider bucket, and, where `contacts` allows, further ones that it has met. Sessions are with table members, as many
as both ends have room for, nearest first, so that the session count has the daemon's own limit. Round-trip times are
the latency model's. What is left out: stale contacts (churn makes them soon) and hearsay.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from mediadht.core.constants import ID_BITS, NEWCOMER_UPTIME_S, TICK_S
from mediadht.core.events import Start
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode

__all__ = ["settle"]

_SESSIONS_SHARE = 0.75
"""Of the session limit that a settled node uses: the rest is for those who come."""


def settle(
    network: SimulatedNetwork, nodes: Sequence[SimulatedNode], progress: Callable[[int], None] | None = None
) -> None:
    """Make a network of nodes that were added with `starts=False`, and start them, spread over one tick.

    `progress` is called with the number of nodes done.
    """
    engine, stream = network.engine, network.engine.stream("settled")
    ordered = sorted(nodes, key=lambda n: n.keys.node_id)
    reachable = [n for n in ordered if n.contact.endpoints]
    ids = [n.keys.node_id for n in reachable]
    # What each would have said to its peers by now: that it is no newcomer.
    hellos = {n.index: replace(network.sessions.hello(n), uptime_s=NEWCOMER_UPTIME_S) for n in ordered}
    tables = {n.index: _table(n, reachable, ids, network.settings.node.k, stream) for n in nodes}
    linked = _sessions(nodes, tables, network)
    for done, node in enumerate(nodes, 1):
        network.boot(node)
        mine, table = linked.pop(node.index), tables.pop(node.index)
        inbound = [i for i, outbound in mine.items() if not outbound]
        peers = []
        for peer in (*table, *(network.nodes[i] for i in inbound)):
            outbound = mine.pop(peer.index, None)
            round_trip_s = 2 * network.links.latency_s(node.index, peer.index)
            peers.append((hellos[peer.index], round_trip_s, outbound))
            if outbound is not None:
                node.sessions[peer.keys.node_id] = peer
        refused = node.node.settle(peers, engine.now)
        assert not refused, "the sessions were chosen within the limits"
        engine.at(engine.now + stream.random() * TICK_S, network.handle, node.index, Start())
        if progress is not None and done % 100 == 0:
            progress(done)


def _table(
    node: SimulatedNode, reachable: Sequence[SimulatedNode], ids: Sequence[int], k: int, stream: object
) -> list[SimulatedNode]:
    """Table members, nearest bucket first: all of the ranges that hold few, k random ones of the wider."""
    own_id = node.keys.node_id
    low, high, bits = 0, len(ids), ID_BITS
    ranges: list[tuple[int, int]] = []
    while high - low > k and bits:
        bits -= 1
        middle = bisect_left(ids, (own_id >> bits | 1) << bits, low, high)
        if own_id >> bits & 1:
            ranges.append((low, middle))
            low = middle
        else:
            ranges.append((middle, high))
            high = middle
    members = [reachable[i] for i in range(low, high) if ids[i] != own_id]
    members.sort(key=lambda n: n.keys.node_id ^ own_id)
    for start, stop in reversed(ranges):
        chosen = range(start, stop) if stop - start <= k else stream.sample(range(start, stop), k)  # type: ignore[attr-defined]
        members += [reachable[i] for i in chosen]
    return members


def _sessions(
    nodes: Sequence[SimulatedNode], tables: dict[int, list[SimulatedNode]], network: SimulatedNetwork
) -> dict[int, dict[int, bool]]:
    """For each node, with whom it has a session, and whether it dialled. Nearest first, round by round."""
    limit = max(1, int(_SESSIONS_SHARE * network.settings.node.sessions_max))
    linked: dict[int, dict[int, bool]] = {n.index: {} for n in nodes}
    for position in range(max((len(table) for table in tables.values()), default=0)):
        for node in nodes:
            table, mine = tables[node.index], linked[node.index]
            if position >= len(table) or len(mine) >= limit:
                continue
            peer = table[position].index
            theirs = linked[peer]
            if peer not in mine and len(theirs) < limit:
                mine[peer], theirs[node.index] = True, False
    return linked
