"""A process with several nodes of the `kademlia` package in one asyncio loop, for comparison.

Its `set` is our announce and its `get` our lookup. What it does less is in `docs/benchmarks.md`: nothing is signed,
encrypted or written to disk, and a key has one value.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from typing import Any

from kademlia.network import Server
from kademlia.utils import digest

from dhtbench.plan import node_seed
from dhtbench.worker import answered, freeze, process_figures, sliced

_LINE_BYTES_MAX = 1 << 26


class Worker:
    """The nodes of this process, by their numbers in the plan."""

    def __init__(self) -> None:
        self._servers: dict[int, Server] = {}
        self._messages = self._bytes = 0
        self._requests: dict[int, int] = {}
        self.commands = {
            name: getattr(self, name)
            for name in ("start", "status", "announce", "lookup", "holders", "figures", "freeze")
        }

    async def start(self, nodes: list[list[int]], bootstrap: list[int], folder: str, seed: int, total: int) -> None:
        """Start the nodes `[number, port]`, which join through those on the ports of `bootstrap`."""
        for number, port in nodes:
            node_id = hashlib.sha1(node_seed(seed, total, number)).digest()
            server = self._servers[number] = Server(node_id=node_id)
            self._requests[number] = 0
            await server.listen(port, interface="127.0.0.1")
            self._count(number, server)
            await server.bootstrap([("127.0.0.1", other) for other in bootstrap if other != port])

    def _count(self, number: int, server: Server) -> None:
        sendto = server.protocol.transport.sendto

        def counted(data: bytes, address: Any = None) -> None:
            self._messages += 1
            self._bytes += len(data)
            self._requests[number] += data[:1] == b"\x00"
            sendto(data, address)

        class Transport:
            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        transport = server.protocol.transport
        server.protocol.transport = Transport()
        server.protocol.transport.sendto = counted

    async def status(self) -> list[dict[str, Any]]:
        """How far each node has joined."""
        found = []
        for server in self._servers.values():
            contacts = sum(len(bucket) for bucket in server.protocol.router.buckets)
            found.append({"sessions": 0, "table": contacts, "known": contacts, "size": 0, "records": 0})
        return found

    async def freeze(self) -> None:
        """See `worker.freeze`."""
        freeze()

    async def figures(self) -> dict[str, float]:
        """Counters of this process."""
        return process_figures() | {"messages": self._messages, "dials": 0, "bytes": self._bytes}

    async def holders(self, operations: list[list[Any]]) -> list[list[int]]:
        """For each announce, which nodes of this process hold its key."""
        return [
            [number for number, server in self._servers.items() if server.storage.get(digest(identifier)) is not None]
            for _, identifier in operations
        ]

    async def announce(self, operations: list[list[Any]], at_once: int) -> dict[str, Any]:
        """`set` each; a result per operation."""

        async def one(node: int, identifier: str) -> dict[str, Any]:
            started = time.perf_counter()
            ok = await self._servers[node].set(identifier, f"s{node}.test{node}")
            return {"ok": bool(ok), "s": time.perf_counter() - started, "durable_s": None, "replicas": None}

        return await _in_turn(operations, at_once, one)

    async def lookup(self, operations: list[list[Any]], at_once: int, providers_max: int = 16) -> dict[str, Any]:
        """`get` each; a result per operation. The first value is the only one."""

        async def one(node: int, identifier: str) -> dict[str, Any]:
            server = self._servers[node]
            own = server.storage.get(digest(identifier)) is not None
            requests = self._requests[node]
            started = time.perf_counter()
            value = await server.get(identifier)
            ended = time.perf_counter() - started
            return {
                "at": started,
                "ok": value is not None,
                "s": ended,
                "first_s": ended if value is not None else None,
                "found": int(value is not None),
                "total": int(value is not None),
                # With several at once another lookup's requests would be counted too.
                "requests": self._requests[node] - requests if at_once == 1 else None,
                "own": own,
                "complete": True,
                "node": node,
                "id": identifier,
            }

        return await _in_turn(operations, at_once, one)


async def _in_turn(operations: list[list[Any]], at_once: int, one: Any) -> dict[str, Any]:
    """Run all, `at_once` under way at any time; results in the order of ending, and the time that all took."""
    results: list[dict[str, Any]] = []

    async def hand(share: list[list[Any]]) -> None:
        for node, identifier in share:
            results.append(await one(node, identifier))

    started = time.perf_counter()
    await asyncio.gather(*(hand(share) for share in sliced(operations, at_once)))
    return {"results": results, "s": time.perf_counter() - started}


async def main() -> None:
    logging.disable(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout.buffer)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    worker = Worker()
    while line := await reader.readline():
        writer.write(await answered(line, worker.commands))
        await writer.drain()


if __name__ == "__main__":
    asyncio.run(main())
