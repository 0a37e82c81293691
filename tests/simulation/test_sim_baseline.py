"""The `kademlia` package on the simulated network: driven in virtual time, honestly, and to the byte the same again."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kademlia.protocol
import kademlia.routing
import kademlia.storage
import pytest
import rpcudp.protocol
from click.testing import CliRunner
from kademlia.network import Server
from sim_support import latency_s

from mediadht_sim.baseline import BaselineResult, run_baseline
from mediadht_sim.baseline.datagrams import DatagramNetwork, address_of
from mediadht_sim.baseline.loop import VirtualLoop
from mediadht_sim.baseline.pinned import pinned
from mediadht_sim.engine import Engine
from mediadht_sim.links import Links, LinkSettings

REQUESTS, HOPS, REPLICAS, COMPLETE, OUTCOME = 8, 9, 10, 11, 12


def story(seed: int) -> BaselineResult:
    return run_baseline(
        24, seed=seed, latency=latency_s, loss=0.03, jitter_share=0.1, lookups=30, announces=20, crash_share=0.25
    )


class Network:
    """Servers on links whose one-way latency is 20 ms."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.loop = VirtualLoop(self.engine)
        self.links = Links(self.engine, lambda a, b: 0.02, LinkSettings())
        self.datagrams = DatagramNetwork(self.engine, self.loop, self.links)
        self.servers = [Server(node_id=bytes([17 * n] * 20)) for n in range(count)]
        for index, server in enumerate(self.servers):
            host, port = address_of(index)
            self.run(server.listen(port, interface=host))
            if index:
                assert self.run(server.bootstrap([address_of(0)]))

    def run(self, work: object, limit_s: float = 60.0) -> object:
        task = self.loop.create_task(work)  # type: ignore[var-annotated, arg-type]
        assert self.engine.run_while(lambda: not task.done(), limit_s)
        return task.result()

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        self.loop.close()


@pytest.fixture
def pair() -> Iterator[Network]:
    engine = Engine(1)
    with pinned(engine):
        made = Network(engine, 2)
        yield made
        made.close()


# --- The loop ----------------------------------------------------------------------------------------------------


def test_coroutines_run_in_virtual_time_in_the_order_of_their_timers() -> None:
    engine = Engine(1)
    loop = VirtualLoop(engine)
    said: list[tuple[float, str]] = []

    async def say(what: str, after_s: float) -> str:
        await asyncio.sleep(after_s)
        said.append((loop.time(), what))
        return what

    async def story() -> list[str]:
        assert asyncio.get_running_loop() is loop
        never = loop.call_later(1.0, said.append, (0.0, "never"))
        late = asyncio.ensure_future(say("too late", 5_000.0))
        together = await asyncio.gather(say("b", 2.0), say("a", 1.5), say("c", 2.0))
        never.cancel()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late, 3_600.0)
        return together

    began = time.monotonic()
    task = loop.create_task(story())
    never_early = loop.call_later(1.0, said.append, (1.0, "cancelled"))
    never_early.cancel()
    assert engine.run_while(lambda: not task.done(), 10_000.0)
    assert task.result() == ["b", "a", "c"]
    assert said == [(0.0, "never"), (1.5, "a"), (2.0, "b"), (2.0, "c")]
    assert engine.now == 3_602.0
    assert time.monotonic() - began < 60
    loop.close()
    assert loop.faults == []


def test_a_loop_inside_another_leaves_it_running() -> None:
    async def outside() -> None:
        outer = asyncio.get_running_loop()
        engine = Engine(1)
        inner = VirtualLoop(engine)
        task = inner.create_task(asyncio.sleep(5.0))
        engine.run_until(10.0)
        assert task.done()
        assert asyncio.get_running_loop() is outer
        inner.close()

    asyncio.run(outside())


def test_what_would_leave_the_simulation_is_refused() -> None:
    loop = VirtualLoop(Engine(1))
    with pytest.raises(NotImplementedError):
        loop.run_in_executor(None, print)
    for refused in (loop.getaddrinfo("example.org", 1), loop.create_datagram_endpoint(asyncio.DatagramProtocol)):
        with pytest.raises(NotImplementedError):
            refused.send(None)
    loop.close()


def test_an_exception_that_nobody_takes_is_kept_and_the_rest_goes_on() -> None:
    engine = Engine(1)
    loop = VirtualLoop(engine)
    said: list[str] = []
    loop.call_later(1.0, lambda: 1 / 0)
    loop.call_later(2.0, said.append, "still here")
    engine.run_until(3.0)
    assert said == ["still here"]
    assert len(loop.faults) == 1
    assert "ZeroDivisionError" in loop.faults[0]


# --- The package's own behaviour ------------------------------------------------------------------------------------


def test_a_request_to_a_dead_node_is_sent_once_and_given_up_after_five_seconds(pair: Network) -> None:
    one, other = pair.servers
    assert pair.run(one.set("key", "value"))
    assert other.storage.get(kademlia.network.digest("key")) == "value"
    assert pair.run(one.get("key")) == "value"
    other.stop()
    before, began_s = pair.datagrams.messages, pair.engine.now
    assert pair.run(one.get("another key")) is None
    assert pair.engine.now - began_s == 5.0
    assert pair.datagrams.messages - before == 1
    assert one.protocol.router.find_neighbors(other.node) == []
    assert pair.run(one.get("a third key")) is None
    assert pair.datagrams.messages - before == 1


def test_a_cut_link_carries_nothing_until_it_is_healed(pair: Network) -> None:
    one, other = pair.servers
    pair.links.partition([0, 1])
    assert pair.run(one.bootstrap([address_of(1)])) == []
    pair.links.heal()
    assert [node.id for node in pair.run(one.bootstrap([address_of(1)]))] == [other.node.id]  # type: ignore[attr-defined]


def test_values_and_refreshes_age_by_the_virtual_clock(pair: Network) -> None:
    holder, setter = pair.servers
    assert pair.run(setter.set("key", "value"))
    stored_s = pair.engine.now
    assert list(holder.storage.data.values()) == [(pytest.approx(stored_s - 0.02), "value")]
    quiet = pair.datagrams.messages
    pair.engine.run_until(3_599.0)
    assert pair.datagrams.messages == quiet
    pair.engine.run_until(2 * 3_600.0 + 10)
    assert pair.datagrams.messages > quiet, "the hourly refresh looked up and republished"
    assert next(iter(holder.storage.data.values()))[0] > 3_600.0
    assert pair.loop.faults == []


def test_clock_and_entropy_are_the_machines_again_afterwards() -> None:
    def fail() -> None:
        with pinned(Engine(1)):
            assert rpcudp.protocol.os.urandom(32) == Engine(1).stream("baseline/message ids").randbytes(32)
            assert kademlia.routing.time.monotonic() == 0.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert rpcudp.protocol.os is os
    assert kademlia.protocol.random is kademlia.network.random is random
    assert kademlia.routing.time is kademlia.storage.time is time


# --- The comparison -------------------------------------------------------------------------------------------------


def test_one_seed_gives_one_trace_whatever_the_order_of_hashes_and_another_seed_another() -> None:
    here = story(1)
    assert story(2).trace != here.trace
    for hash_seed in ("1", "77"):
        there = subprocess.run(
            [sys.executable, __file__, "1"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert there.stdout.split() == [here.trace, str(here.events)]


def test_lookups_and_announces_cost_what_they_cost_on_loopback() -> None:
    """docs/benchmarks.md, N = 128: 3 requests a lookup, 82 messages an announce."""
    result = run_baseline(
        64, seed=1, latency=lambda a, b: 0.01, lookups=100, announces=50, warm_lookups_per_node=4, settle_s=5.0
    )
    announced, looked_up = result.phases["announce"], result.phases["before"]
    assert {row[OUTCOME] for row in announced.rows} == {"stored"}
    assert {row[REPLICAS] for row in announced.rows} == {20}
    assert 80 <= announced.messages / len(announced.rows) <= 88
    asked = [row for row in looked_up.rows if row[REQUESTS]]
    assert len(asked) > 50
    assert {row[OUTCOME] for row in looked_up.rows} == {"found"}
    assert sum(row[REQUESTS] == 3 and row[HOPS] == 1 for row in asked) > 0.9 * len(asked)
    # One round trip of 20 ms, a second where one of the three had to be given its copy.
    assert {round(row[5]) for row in asked} <= {20, 40, 60}
    assert result.bytes_largest < 1_472 - 28
    assert result.faults == []


def test_requests_are_counted_to_the_operation_that_sent_them_also_where_many_run_at_once() -> None:
    result = run_baseline(32, seed=3, latency=latency_s, lookups=40, announces=40, every_s=0.0, warm_lookups_per_node=2)
    for name in ("announce", "before"):
        phase = result.phases[name]
        requests = sum(row[REQUESTS] for row in phase.rows)
        # Every request is answered where nothing is lost; what nodes ask on their own account is the small rest.
        assert 0.95 * phase.messages <= 2 * requests <= phase.messages


def test_after_a_crash_outcomes_tell_live_announcers_from_dead_ones_and_timeouts_show() -> None:
    result = run_baseline(
        32, seed=5, latency=latency_s, lookups=80, announces=40, crash_share=0.5, warm_lookups_per_node=2
    )
    announcers = {row[3]: row[2] for row in result.phases["announce"].rows}
    after = result.phases["after"].rows
    assert len(result.crashed) == 16
    assert len(after) == 80
    for row in after:
        assert row[2] not in result.crashed
        assert row[COMPLETE]
        is_live = announcers[row[3]] not in result.crashed
        assert row[OUTCOME] in (("found", "missed") if is_live else ("stale", "absent"))
        assert (row[4] is None) == (row[6] == 0)
    assert max(row[5] for row in after) >= 5_000
    assert max(row[5] for row in result.phases["before"].rows) < 1_000


def test_a_loss_of_half_of_all_datagrams_leaves_no_call_without_a_row() -> None:
    result = run_baseline(12, seed=7, latency=latency_s, loss=0.5, lookups=20, announces=20)
    assert len(result.phases["announce"].rows) == len(result.phases["before"].rows) == 20
    assert len(result.lookups) == 40
    assert {row[OUTCOME] for row in result.lookups} <= {"stored", "too_few", "found", "missed", "unfinished"}


def test_a_package_that_floods_its_network_is_stopped_and_the_rows_say_it() -> None:
    """Small buckets are full in a small network: what 1,000 nodes do with k = 20."""
    result = run_baseline(64, seed=1, k=2, latency=latency_s, lookups=10, announces=100, messages_max=5_000)
    assert result.flooded_s is not None
    assert 5_000 <= result.messages < 5_200
    assert "before" not in result.phases
    unfinished = [row for row in result.lookups if not row[COMPLETE]]
    assert all(row[5] is None and row[OUTCOME] == "unfinished" for row in unfinished)


def test_the_study_prints_a_table_and_gives_both_systems_the_same_work() -> None:
    file = Path(__file__).parents[2] / "simulations" / "experiments" / "baseline_kademlia.py"
    spec = importlib.util.spec_from_file_location("baseline_kademlia", file)
    assert spec is not None
    assert spec.loader is not None
    study = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = study  # dataclasses look their module up
    spec.loader.exec_module(study)
    told = CliRunner().invoke(
        study.main, ["--only", "kademlia", "--nodes", "12", "--announces", "5", "--lookups", "8", "--loss", "0.01"]
    )
    assert told.exit_code == 0, told.output
    assert "| | kademlia, 12 nodes |" in told.stdout
    assert sum(line.startswith("| ") for line in told.stdout.splitlines()) > 10
    scenario = study.scenario_of(study.Work(12, 1, 5, 8, 0.01, 0.25))
    assert (scenario.network.nodes, scenario.links.loss, scenario.events[0].share) == (12, 0.01, 0.25)


if __name__ == "__main__":
    made = story(int(sys.argv[1]))
    sys.stdout.write(f"{made.trace} {made.events}\n")
