"""Networks for the tests: how to make one, announce in it, and look things up."""

from __future__ import annotations

import hashlib

from mediadht.core.events import AnnounceWish
from mediadht.core.identifiers import Subject, media
from mediadht.core.records import Offer, Payload
from mediadht_sim.engine import Engine
from mediadht_sim.links import LinkSettings
from mediadht_sim.network import LookupResult, NetworkSettings, SimulatedNetwork

PAYLOAD = Payload(None, frozenset({Offer.BYTES}))


def subject(number: object) -> Subject:
    """The media ID of file `number`."""
    return media("sha256." + hashlib.sha256(f"file {number}".encode()).hexdigest())


def latency_s(a: int, b: int) -> float:
    """One way, 5 to 49 ms: different for each pair, the same both ways."""
    return 0.005 + (min(a, b) * 31 + max(a, b) * 17) % 45 / 1_000


def network(
    count: int, *, seed: int = 1, loss: float = 0.0, settle_s: float = 30.0, **more: object
) -> SimulatedNetwork:
    """A network of `count` nodes that joined one after the other through node 0, and then had time to settle."""
    made = SimulatedNetwork(
        Engine(seed), latency_s=latency_s, links=LinkSettings(loss=loss), settings=NetworkSettings(**more)
    )  # type: ignore[arg-type]
    add(made, count, settle_s=settle_s)
    return made


def add(to: SimulatedNetwork, count: int, *, settle_s: float = 30.0, every_s: float = 0.2) -> list[int]:
    """Further nodes; returns their indices."""
    first = len(to.nodes)
    for _ in range(count):
        to.add()
        to.engine.run_until(to.engine.now + every_s)
    to.engine.run_until(to.engine.now + settle_s)
    return list(range(first, first + count))


def announce(in_: SimulatedNetwork, pairs: list[tuple[int, Subject]], *, wait_s: float = 20.0) -> None:
    """Have each node announce its subject, and wait until that is done."""
    for index, of in pairs:
        in_.handle(index, AnnounceWish(of, PAYLOAD))
    in_.engine.run_until(in_.engine.now + wait_s)


def withdraw(in_: SimulatedNetwork, pairs: list[tuple[int, Subject]], *, wait_s: float = 20.0) -> None:
    """Have each node withdraw its subject."""
    for index, of in pairs:
        in_.handle(index, AnnounceWish(of, None))
    in_.engine.run_until(in_.engine.now + wait_s)


def look_up(in_: SimulatedNetwork, pairs: list[tuple[int, Subject]], **more: int) -> list[LookupResult]:
    """Have each node look its subject up, all at once; every lookup must end."""
    results = [in_.look_up(index, of, **more) for index, of in pairs]
    assert in_.finish(results), "a lookup did not end"
    return results


def providers(of: LookupResult) -> set[str]:
    """The server names that a lookup found."""
    return {found.record.server_name for found in of.providers}


def name(of: SimulatedNetwork, index: int) -> str:
    """A node's server name."""
    found = of.nodes[index].contact.server_name
    assert found is not None
    return found


def alive(of: SimulatedNetwork) -> list[int]:
    """Nodes that run and answer."""
    return [n.index for n in of.nodes if n.is_up and not n.is_frozen]


def first_s(of: LookupResult) -> float:
    """Time to the first provider; infinity if there was none."""
    return float("inf") if of.first_s is None else of.first_s - of.started_s
