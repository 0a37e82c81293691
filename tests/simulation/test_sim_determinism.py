"""Same seed, same trace: in this process, and in another with another order of hashes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from sim_support import announce, latency_s, look_up, subject

from mediadht.core.codec import encode
from mediadht.core.contacts import Contact
from mediadht.core.messages import Message
from mediadht_sim.engine import Engine
from mediadht_sim.links import LinkSettings
from mediadht_sim.network import SimulatedNetwork, SimulatedNode


class TracedNetwork(SimulatedNetwork):
    """Hashes every message with its time, sender and receiver."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, latency_s=latency_s, links=LinkSettings(loss=0.05))
        self.bytes_trace = hashlib.sha256()

    def send(self, sender: SimulatedNode, contact: Contact, message: Message) -> None:
        self.bytes_trace.update(f"{self.engine.now!r} {sender.index} {contact.node_id:x} ".encode() + encode(message))
        super().send(sender, contact, message)


def story(seed: int) -> str:
    """Joins, announcements, crashes, a partition, lookups; returns the digest of all that was said, and counts."""
    net = TracedNetwork(Engine(seed))
    for _ in range(30):
        net.add()
        net.engine.run_until(net.engine.now + 0.2)
    announce(net, [(n, subject(n)) for n in range(30)])
    announce(net, [(3, subject(f"more {n}")) for n in range(200)])
    for index in (4, 9, 11):
        net.crash(index)
    net.freeze(5)
    net.links.is_cut = lambda a, b: (a < 15) != (b < 15)
    net.engine.run_until(net.engine.now + 120)
    net.links.is_cut = lambda a, b: False
    net.restart(9)
    net.engine.run_until(net.engine.now + 60)
    results = look_up(net, [(20, subject(n)) for n in range(30)])
    found = [(len(r.providers), r.ended.requests if r.ended else None, r.ended_s) for r in results]
    return f"{net.engine.events} {net.trace.hexdigest()} {net.bytes_trace.hexdigest()} {found}"


def test_one_seed_gives_one_trace_whatever_the_order_of_hashes_and_another_seed_another() -> None:
    here = story(1)
    assert story(1) == here
    assert story(2) != here
    there = subprocess.run(
        [sys.executable, __file__, "1"],
        env=os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert there.stdout.strip() == here


def test_the_engine_orders_equal_times_by_scheduling_and_streams_by_name() -> None:
    engine = Engine(7)
    said: list[int] = []
    for n in range(5):
        engine.at(1.0, lambda n=n: said.append(n))  # type: ignore[misc]
    engine.at(0.5, lambda: engine.at(0.2, lambda: said.append(-1)))
    engine.run_until(2.0)
    assert said == [-1, 0, 1, 2, 3, 4]
    assert engine.now == 2.0
    assert engine.stream("a").random() == Engine(7).stream("a").random()
    assert engine.stream("a").random() != engine.stream("b").random()
    assert not engine.run_while(lambda: True, 3.0)
    assert engine.now == 5.0


if __name__ == "__main__":
    sys.stdout.write(story(int(sys.argv[1])) + "\n")
