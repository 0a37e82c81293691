"""What an adversary must pay for: node IDs near a point, registrable domains, IP prefixes.

A node ID is the hash of a key, so that a place in the key space costs tries; domains and prefixes cost money, and are
what the core's caps count. Both are budgets here.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mediadht.core.contacts import Contact
from mediadht.core.keys import SEED_BYTES, KeyPair, node_id_of
from mediadht_sim.adversaries.mind import Company
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import Handles, SimulatedNode

__all__ = ["address_of", "grind", "invented", "join_with"]

_HOSTS_PER_PREFIX = 254
_PORT = 8_448
_PORTS = 1_000


def grind(network: SimulatedNetwork, target: int, tries: int, randomness: random.Random) -> KeyPair:
    """Of `tries` key pairs, the one whose node ID is nearest to `target`."""
    best = network.keys_from_seed(randomness.randbytes(SEED_BYTES))
    for _ in range(tries - 1):
        keys = network.keys_from_seed(randomness.randbytes(SEED_BYTES))
        if keys.node_id ^ target < best.node_id ^ target:
            best = keys
    return best


def address_of(number: int, name: str, *, domains: int, prefixes: int) -> tuple[str, str]:
    """Endpoint and server name of identity `number` of the group `name`.

    With `domains`, its host is in one of so many registrable domains; with `prefixes`, an address in one of so many
    /24s. With both, every second identity has the one and the others the other; with neither, each a domain of its
    own.
    """
    if prefixes and (not domains or number % 2):
        turn = number // 2 if domains else number
        prefix, host = turn % prefixes, turn // prefixes
        port = _PORT + host // _HOSTS_PER_PREFIX % _PORTS
        # 45.0.0.0/8 and what follows is public space: 65,536 prefixes of each first byte.
        address = f"{45 + prefix // 65_536}.{prefix // 256 % 256}.{prefix % 256}.{1 + host % _HOSTS_PER_PREFIX}"
        return f"wss://{address}:{port}/", f"{address}:{port}"
    domain = number % domains if domains else number
    host_name = f"n{number}.{name}{domain}.net"
    return f"wss://{host_name}/", host_name


def join_with(
    network: SimulatedNetwork,
    keys: KeyPair,
    address: tuple[str, str],
    mind: Callable[[SimulatedNode], Handles],
) -> SimulatedNode:
    """A new node of the adversary's, started."""
    endpoint, server_name = address
    return network.add(keys=keys, endpoints=(endpoint,), server_name=server_name, mind=mind)


def invented(count: int, randomness: random.Random, *, name: str, domains: int = 0, prefixes: int = 0) -> Company:
    """Contacts of valid form behind which there is nobody."""
    company = Company()
    for number in range(count):
        public_key = randomness.randbytes(SEED_BYTES)
        endpoint, server_name = address_of(number, name, domains=domains, prefixes=prefixes)
        company.add(Contact(node_id_of(public_key), public_key, (endpoint,), server_name))
    return company
