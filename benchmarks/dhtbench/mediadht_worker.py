"""A process with several mediadht daemons in one trio loop. Run as `python -m dhtbench.mediadht_worker`.

An announce counts from the call until the node reports the end of its first round with replicas that acknowledged; a
lookup from the call until its iteration ends. Bytes are what goes into TCP sockets: WebSocket framing and encryption
included, TCP's and IP's own headers not.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from dhtbench.plan import node_seed
from dhtbench.worker import answered, freeze, process_figures, sliced
from mediadht.core.events import AnnouncementProgress, Notice
from mediadht.core.identifiers import Subject, media
from mediadht.daemon import streams
from mediadht.daemon.config import DaemonConfig
from mediadht.daemon.daemon import Daemon, open_daemon
from mediadht.daemon.face import Announce

ANNOUNCE_S_MAX = 60.0
LOOKUP_S_MAX = 15.0


class _Bytes:
    sent = 0


def count_bytes() -> None:
    """Count what all streams of this process send, closed ones included."""
    send_all = streams.PromptStream.send_all

    def counted(self: streams.PromptStream, data: bytes) -> Any:
        _Bytes.sent += len(data)
        return send_all(self, data)

    streams.PromptStream.send_all = counted  # type: ignore[method-assign,assignment]


class Worker:
    """The daemons of this process, by their numbers in the plan."""

    def __init__(self, exits: AsyncExitStack) -> None:
        self._exits = exits
        self._daemons: dict[int, Daemon] = {}
        self._stored: dict[Subject, trio.Event] = {}
        self.commands = {
            name: getattr(self, name)
            for name in ("start", "status", "announce", "lookup", "holders", "figures", "freeze")
        }

    async def start(self, nodes: list[list[int]], bootstrap: list[int], folder: str, seed: int, total: int) -> None:
        """Start the daemons `[number, port]`, which join through those on the ports of `bootstrap`."""
        for number, port in nodes:
            data_dir = Path(folder) / str(number)
            data_dir.mkdir(mode=0o700)
            key = data_dir / "node.key"
            key.touch(mode=0o600)
            key.write_text(node_seed(seed, total, number).hex() + "\n")
            config = DaemonConfig(
                data_dir=data_dir,
                server_name=f"s{number}.test{number}",
                peer_listen=(f"127.0.0.1:{port}",),
                peer_url=(f"ws://127.0.0.1:{port}/",),
                bootstrap=tuple(f"ws://127.0.0.1:{other}/" for other in bootstrap if other != port),
            )
            daemon = await self._exits.enter_async_context(open_daemon(config))
            self._daemons[number] = daemon
            self._listen_in(daemon)

    def _listen_in(self, daemon: Daemon) -> None:
        told = daemon.driver._told

        def heard(notice: Notice) -> None:
            told(notice)
            if isinstance(notice, AnnouncementProgress) and notice.replicas and notice.subject in self._stored:
                self._stored[notice.subject].set()

        daemon.driver._told = heard

    async def status(self) -> list[dict[str, Any]]:
        """How far each daemon has joined."""
        found = []
        for daemon in self._daemons.values():
            status = daemon.status()
            found.append(
                {
                    "sessions": status.sessions,
                    "table": status.table_contacts,
                    "known": status.known_contacts,
                    "size": status.network_size_estimate,
                    "records": status.records_held,
                }
            )
        return found

    async def freeze(self) -> None:
        """See `worker.freeze`."""
        freeze()

    async def figures(self) -> dict[str, float]:
        """Counters of this process."""
        drivers = [daemon.driver for daemon in self._daemons.values()]
        return process_figures() | {
            "messages": sum(driver.traffic.messages_sent for driver in drivers),
            "dials": sum(driver.traffic.dials for driver in drivers),
            "bytes": _Bytes.sent,
        }

    async def holders(self, operations: list[list[Any]]) -> list[list[int]]:
        """For each announce, which nodes of this process hold its key."""
        now_s = time.time()
        keys = [media(identifier).key for _, identifier in operations]
        return [[number for number, daemon in self._daemons.items() if _holds(daemon, key, now_s)] for key in keys]

    async def announce(self, operations: list[list[Any]], at_once: int) -> dict[str, Any]:
        """Announce each; a result per operation."""
        return await _in_turn(operations, at_once, self._announce_one)

    async def _announce_one(self, node: int, identifier: str) -> dict[str, Any]:
        daemon, subject = self._daemons[node], media(identifier)
        stored = self._stored[subject] = trio.Event()
        started = time.perf_counter()
        await daemon.announce([Announce(subject, "api")])
        durable = time.perf_counter()
        with trio.move_on_after(ANNOUNCE_S_MAX):
            await stored.wait()
        ended = time.perf_counter()
        del self._stored[subject]
        shown = daemon.announcement(subject)
        replicas = 0 if shown is None else shown.replicas
        return {"ok": replicas > 0, "s": ended - started, "durable_s": durable - started, "replicas": replicas}

    async def lookup(self, operations: list[list[Any]], at_once: int, providers_max: int = 16) -> dict[str, Any]:
        """Look up each; a result per operation."""

        async def one(node: int, identifier: str) -> dict[str, Any]:
            daemon, subject = self._daemons[node], media(identifier)
            own = _holds(daemon, subject.key, time.time())
            servers: set[str] = set()
            first: float | None = None
            started = time.perf_counter()
            async with daemon.lookup(subject, providers_max=providers_max, deadline_s=LOOKUP_S_MAX) as lookup:
                async for provider in lookup:
                    first = first if servers else time.perf_counter() - started
                    servers.add(provider.server_name)
                ended = time.perf_counter()
            summary = lookup.summary
            return {
                "at": started,
                "ok": bool(servers),
                "s": ended - started,
                "first_s": first,
                "found": len(servers),
                "total": summary.providers_total,
                "requests": summary.requests,
                "own": own,
                "complete": summary.complete,
                "node": node,
                "id": identifier,
            }

        return await _in_turn(operations, at_once, one)


def _holds(daemon: Daemon, key: int, now_s: float) -> bool:
    return daemon.driver.node.state.store.live_count(key, now_s) > 0


async def _in_turn(operations: list[list[Any]], at_once: int, one: Any) -> dict[str, Any]:
    """Run all, `at_once` under way at any time; results in the order of ending, and the time that all took."""
    results: list[dict[str, Any]] = []

    async def hand(share: list[list[Any]]) -> None:
        for node, identifier in share:
            results.append(await one(node, identifier))

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for share in sliced(operations, at_once):
            nursery.start_soon(hand, share)
    return {"results": results, "s": time.perf_counter() - started}


async def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    count_bytes()
    source, sink = trio.lowlevel.FdStream(os.dup(0)), trio.lowlevel.FdStream(os.dup(1))
    async with AsyncExitStack() as exits:
        worker, buffer = Worker(exits), bytearray()
        while data := await source.receive_some():
            buffer += data
            while (end := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                await sink.send_all(await answered(line, worker.commands))


if __name__ == "__main__":
    trio.run(main)
