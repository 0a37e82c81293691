"""A network of one system: its worker processes, and what is asked of all or of one of them.

Every process is started by us and ended by its own handle when the context is left, stopped ones included. What their
CPU time is counted with is the process's own clock, of all its threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

from dhtbench.plan import Operation, Plan

__all__ = ["SYSTEMS", "BenchmarkFault", "Fleet", "free_ports", "open_fleet"]

SYSTEMS = {"mediadht": "dhtbench.mediadht_worker", "kademlia": "dhtbench.kademlia_worker"}
_START_S_MAX = 600.0
_ASK_S_MAX = 900.0
_PORTS = range(12_000, 30_000)
"""Below the range from which the kernel takes ports for outgoing connections."""


class BenchmarkFault(Exception):
    """A part of the benchmark could not be done, or its result is wrong."""


class _Worker:
    """One process."""

    def __init__(self, process: trio.Process, nodes: list[int]) -> None:
        self.process = process
        self.nodes = nodes
        self.alive = True
        self._buffer = bytearray()

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Have the process do something. Raises BenchmarkFault if it cannot."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        await self.process.stdin.send_all(json.dumps({"do": do, **arguments}).encode() + b"\n")
        while (end := self._buffer.find(b"\n")) < 0:
            data = await self.process.stdout.receive_some(1 << 20)
            if not data:
                raise BenchmarkFault(f"a worker process ended during {do!r}")
            self._buffer += data
        reply = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        if "fault" in reply:
            raise BenchmarkFault(f"{do!r} failed in a worker:\n{reply['fault']}")
        return reply["ok"]


class Fleet:
    """The workers of a network that has started."""

    def __init__(self, system: str, plan: Plan, workers: list[_Worker]) -> None:
        self.system = system
        self.plan = plan
        self.bootstrap_port = 0
        self.empty: list[dict[str, float]] = []
        """Each process's figures before it had a node."""
        self._workers = workers

    @property
    def living_nodes(self) -> list[int]:
        """Nodes whose processes have not been killed."""
        return sorted(node for worker in self._workers if worker.alive for node in worker.nodes)

    async def start_nodes(self, folder: str) -> None:
        """Start all nodes; they join through the first one."""
        plan = self.plan
        self.empty = await self.ask_all("figures")
        ports = free_ports(plan.nodes)
        self.bootstrap_port = ports[0]
        common: dict[str, Any] = {"bootstrap": [ports[0]], "folder": folder, "seed": plan.seed, "total": plan.nodes}
        with trio.fail_after(_START_S_MAX):
            await self._workers[0].ask("start", nodes=[[0, ports[0]]], **common)
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    nodes = [[node, ports[node]] for node in worker.nodes if node]
                    nursery.start_soon(lambda w=worker, n=nodes: w.ask("start", nodes=n, **common))

    async def ask_all(self, do: str, **arguments: Any) -> list[Any]:
        """The same of every living worker, at once; answers in their order."""
        living = [worker for worker in self._workers if worker.alive]
        return await self._ask_each(living, do, [arguments] * len(living))

    async def one_after_the_other(self, do: str, operations: list[Operation], **arguments: Any) -> dict[str, Any]:
        """All operations, one at a time."""
        results, took_s = [], 0.0
        for worker, share in self._shares(operations):
            part = await self._ask_each([worker], do, [{"operations": share, "at_once": 1, **arguments}])
            results += part[0]["results"]
            took_s += part[0]["s"]
        return {"results": results, "s": took_s}

    async def at_once(self, do: str, operations: list[Operation], total: int, **arguments: Any) -> dict[str, Any]:
        """All operations, `total` at a time, evenly over the living workers."""
        shares = self._shares(operations)
        hands = [total // len(shares) + (number < total % len(shares)) for number in range(len(shares))]
        tasks = [{"operations": share, "at_once": n, **arguments} for (_, share), n in zip(shares, hands, strict=True)]
        parts = await self._ask_each([worker for worker, _ in shares], do, tasks)
        return {"results": [r for part in parts for r in part["results"]], "s": max(part["s"] for part in parts)}

    async def figures(self) -> dict[str, float]:
        """Sums over the living workers."""
        found = await self.ask_all("figures")
        return {name: sum(part[name] for part in found) for name in found[0]}

    async def status(self) -> list[dict[str, Any]]:
        """One per living node."""
        return [status for part in await self.ask_all("status") for status in part]

    async def holders(self, operations: list[Operation]) -> list[set[int]]:
        """For each operation, the living nodes that hold its key."""
        found = await self.ask_all("holders", operations=[[o.node, o.id] for o in operations])
        return [{node for part in found for node in part[number]} for number in range(len(operations))]

    def kill(self, workers: Iterable[int], number: signal.Signals) -> list[int]:
        """Send the signal to these workers' processes, all at once; returns the nodes that were in them."""
        chosen = [self._workers[index] for index in workers]
        for worker in chosen:
            worker.process.send_signal(number)
            worker.alive = False
        return [node for worker in chosen for node in worker.nodes]

    def _shares(self, operations: list[Operation]) -> list[tuple[_Worker, list[list[Any]]]]:
        shares = [
            (worker, [[o.node, o.id] for o in operations if o.node in worker.nodes])
            for worker in self._workers
            if worker.alive
        ]
        return [(worker, share) for worker, share in shares if share]

    async def _ask_each(self, workers: list[_Worker], do: str, arguments: list[dict[str, Any]]) -> list[Any]:
        answers: list[Any] = [None] * len(workers)

        async def ask(index: int) -> None:
            answers[index] = await workers[index].ask(do, **arguments[index])

        try:
            with trio.fail_after(_ASK_S_MAX):
                async with trio.open_nursery() as nursery:
                    for index in range(len(workers)):
                        nursery.start_soon(ask, index)
        except* BenchmarkFault as faults:
            raise BenchmarkFault(str(faults.exceptions[0])) from None
        except* trio.TooSlowError:
            raise BenchmarkFault(f"{do!r} took longer than {_ASK_S_MAX:.0f} s") from None
        return answers


@asynccontextmanager
async def open_fleet(system: str, plan: Plan) -> AsyncIterator[Fleet]:
    """Start the processes and the nodes of a network; kill them in the end."""
    folders = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    with tempfile.TemporaryDirectory(prefix="dhtbench-") as folder:
        workers: list[_Worker] = []
        try:
            for number in range(plan.workers):
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-m", SYSTEMS[system]], stdin=PIPE, stdout=PIPE, env=environment
                )
                workers.append(_Worker(process, list(range(number, plan.nodes, plan.workers))))
            fleet = Fleet(system, plan, workers)
            await fleet.start_nodes(folder)
            yield fleet
        finally:
            with trio.CancelScope(shield=True):
                for worker in workers:
                    worker.process.kill()
                for worker in workers:
                    await worker.process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, for TCP and UDP."""
    start, found = random.Random().choice(_PORTS), list[int]()
    for offset in range(len(_PORTS)):
        port = _PORTS[(start + offset) % len(_PORTS)]
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise BenchmarkFault(f"no {count} free ports of {_PORTS.start} to {_PORTS.stop} on 127.0.0.1")
