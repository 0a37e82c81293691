"""Puts the adversaries of a scenario into a network.

`sybil` and `eclipse` add nodes; the others turn honest nodes, drawn by the stream, at `starts_at_s`. Node 0, through
which others bootstrap, and the victims of an eclipse are never turned.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mediadht.core.identifiers import Subject
from mediadht_sim.adversaries.answers import Drop, Lie, Replay, Withhold
from mediadht_sim.adversaries.flood import Flood
from mediadht_sim.adversaries.identities import address_of, grind, invented, join_with
from mediadht_sim.adversaries.mind import Company, Mind
from mediadht_sim.adversaries.surround import Eclipse, Sybil, Treason
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.scenario_events import Adversary
from mediadht_sim.scenario_events import Drop as DropSettings
from mediadht_sim.scenario_events import Eclipse as EclipseSettings
from mediadht_sim.scenario_events import Flood as FloodSettings
from mediadht_sim.scenario_events import Lie as LieSettings
from mediadht_sim.scenario_events import Replay as ReplaySettings
from mediadht_sim.scenario_events import Sybil as SybilSettings
from mediadht_sim.scenario_events import Withhold as WithholdSettings

__all__ = ["eclipsed", "place"]

_INVENTED = 4_096
_TRIES_PER_NODE = 2
"""So many tries for each node of the network bring an identity nearer to its target than all honest ones, mostly."""

_TRIES_MIN = 64
_TRIES_IN_ALL_MAX = 2_000_000

_MakesMind = Callable[[SimulatedNode, int, random.Random], Mind]


def place(
    network: SimulatedNetwork,
    adversary: Adversary,
    stream: random.Random,
    *,
    subject_of: Callable[[int], Subject],
    measured_from_s: float = 0.0,
    is_spared: Callable[[int], bool] = lambda index: index == 0,
) -> list[SimulatedNode]:
    """Have these adversaries come at their time; returns them, in a list that is filled once they are there.

    `subject_of(number)` is a subject of the scenario's workloads. `is_spared(index)`: nodes that stay honest.
    """
    placed: list[SimulatedNode] = []

    def come() -> None:
        if isinstance(adversary, SybilSettings | EclipseSettings):
            placed.extend(_surround(network, adversary, stream, subject_of))
        else:
            placed.extend(_turn(network, adversary, stream, is_spared))

    starts_s = measured_from_s + adversary.starts_at_s
    if starts_s <= network.engine.now:
        come()
    else:
        network.engine.at(starts_s, come)
    return placed


def eclipsed(network: SimulatedNetwork) -> set[int]:
    """Node IDs of the victims of eclipses: nothing can be expected of them."""
    return {node.mind.victim.node_id for node in network.nodes if isinstance(node.mind, Eclipse)}


def _surround(
    network: SimulatedNetwork,
    adversary: SybilSettings | EclipseSettings,
    stream: random.Random,
    subject_of: Callable[[int], Subject],
) -> list[SimulatedNode]:
    honest = len(network.nodes)
    count = adversary.size(honest)
    tries = max(_TRIES_MIN, min(_TRIES_PER_NODE * honest, _TRIES_IN_ALL_MAX // max(1, count)))
    fellows = Company()
    name = f"{adversary.strategy}{stream.getrandbits(32):08x}-"
    if isinstance(adversary, EclipseSettings):
        victim = network.nodes[adversary.target].contact
        target = victim.node_id

        def mind(body: SimulatedNode) -> Mind:
            return Eclipse(body, _own(stream), victim, fellows)
    else:
        target = subject_of(adversary.target).key

        def mind(body: SimulatedNode) -> Mind:
            return Sybil(body, _own(stream), target, fellows, Treason.WITHHOLD)

    placed = []
    for number in range(count):
        keys = grind(network, target, tries, stream)
        address = address_of(number, name, domains=adversary.domains, prefixes=adversary.prefixes)
        node = join_with(network, keys, address, mind)
        fellows.add(node.contact)
        placed.append(node)
    return placed


def _turn(
    network: SimulatedNetwork, adversary: Adversary, stream: random.Random, is_spared: Callable[[int], bool]
) -> list[SimulatedNode]:
    honest = [node for node in network.nodes if node.is_honest]
    victims = eclipsed(network)
    candidates = [n for n in honest if not is_spared(n.index) and n.node_id not in victims and n.contact.endpoints]
    chosen = stream.sample(candidates, min(adversary.size(len(honest)), len(candidates)))
    chosen.sort(key=lambda node: node.index)
    make = _maker(adversary, stream, chosen)
    for number, node in enumerate(chosen):
        node.mind = make(node, number, _own(stream))
        node.is_honest = False
    return chosen


def _maker(adversary: Adversary, stream: random.Random, chosen: list[SimulatedNode]) -> _MakesMind:
    """What makes the mind of the n-th of them."""
    match adversary:
        case DropSettings(drop_share=share):
            return lambda body, _, randomness: Drop(body, randomness, share)
        case LieSettings(domains=domains, prefixes=prefixes):
            # Of two liars, one invents nodes and the other names accomplices.
            nobody = invented(_INVENTED, stream, name="nobody", domains=domains, prefixes=prefixes)
            friends = Company([node.contact for node in chosen])
            return lambda body, number, randomness: (
                Lie(body, randomness, friends) if number % 2 else Lie(body, randomness, nobody, is_varied=True)
            )
        case WithholdSettings():
            return lambda body, _, randomness: Withhold(body, randomness)
        case ReplaySettings():
            return lambda body, _, randomness: Replay(body, randomness)
        case FloodSettings(messages_per_s=rate):
            return lambda body, _, randomness: Flood(body, randomness, rate)
    raise AssertionError(f"{adversary.strategy} does not turn nodes, it adds some")


def _own(stream: random.Random) -> random.Random:
    """A stream of randomness for one adversary."""
    return random.Random(stream.getrandbits(256))
