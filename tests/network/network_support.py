"""Real daemons on loopback: in this process, or in processes of their own that can be killed and stopped.

Nothing here sleeps to synchronise. What happens in other processes, or in the network, is waited for by `until`, which
looks again and again until its deadline and then says what it was waiting for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import trio

from mediadht.core.identifiers import Subject, media
from mediadht.daemon import open_daemon
from mediadht.daemon.config import DaemonConfig
from mediadht.daemon.daemon import Daemon
from mediadht.daemon.face import Announce

PROCESS_SCRIPT = Path(__file__).with_name("daemon_process.py")
# Below the range from which the kernel takes the ports of outgoing connections: hundreds of those would otherwise
# sit on the port of a daemon that is just being restarted.
_PORTS = range(20_000, 32_000)
_given_out: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that was not given out before."""
    while True:
        port = random.choice(_PORTS)
        if port in _given_out:
            continue
        _given_out.add(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def subject(name: object) -> Subject:
    return media("sha256." + hashlib.sha256(str(name).encode()).hexdigest())


def wish(name: object, source: str = "api") -> Announce:
    return Announce(subject(name), source)


def config_of(data_dir: Path, port: int, bootstrap: tuple[str, ...] = (), **more: Any) -> DaemonConfig:
    """The configuration of the node that lives in `data_dir` and is reached at `port`."""
    values: dict[str, Any] = {
        "data_dir": data_dir,
        "server_name": f"s{port}.example{port}",
        "peer_listen": (f"127.0.0.1:{port}",),
        "peer_url": (url_of(port),),
        "bootstrap": bootstrap,
    }
    return DaemonConfig(**(values | more))


def url_of(port: int) -> str:
    return f"ws://127.0.0.1:{port}/"


async def until(
    what: str, holds: Callable[[], object | Awaitable[object]], *, within_s: float = 20.0, every_s: float = 0.02
) -> Any:
    """What `holds` gives once that is true. Fails, saying `what`, when it is not within so many seconds."""
    deadline = trio.current_time() + within_s
    while True:
        value = holds()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert trio.current_time() < deadline, f"not within {within_s} s: {what}; at last {value!r}"
        await trio.sleep(every_s)


async def providers_of(daemon: Daemon, sought: Subject, *, deadline_s: float = 10.0) -> set[str | None]:
    """The servers that a complete lookup finds."""
    async with daemon.lookup(sought, deadline_s=deadline_s) as lookup:
        return {provider.server_name async for provider in lookup}


@dataclass
class Running:
    """A daemon of this process, and how to end it."""

    config: DaemonConfig
    daemon: Daemon
    _end: trio.Event
    _ended: trio.Event

    async def stop(self) -> None:
        """Graceful; returns once it is gone."""
        self._end.set()
        await self._ended.wait()


@dataclass
class Network:
    """Daemons that joined through the first of them."""

    nursery: trio.Nursery
    folder: Path
    running: list[Running] = field(default_factory=list)

    @property
    def daemons(self) -> list[Daemon]:
        return [each.daemon for each in self.running]

    async def run(self, config: DaemonConfig) -> Running:
        """Start a daemon in this process."""

        async def task(task_status: trio.TaskStatus[Running]) -> None:
            end, ended = trio.Event(), trio.Event()
            try:
                async with open_daemon(config) as daemon:
                    task_status.started(Running(config, daemon, end, ended))
                    await end.wait()
            finally:
                ended.set()

        running: Running = await self.nursery.start(task)
        return running

    async def add(self, name: str | None = None, **more: Any) -> Running:
        """One more daemon; it joins through the first."""
        number = len(self.running)
        if "bootstrap" not in more and self.running:
            more["bootstrap"] = self.running[0].config.peer_url
        running = await self.run(config_of(self.folder / (name or f"node-{number}"), free_port(), **more))
        self.running.append(running)
        return running

    async def rejoin(self, config: DaemonConfig) -> None:
        """Start one that was there before."""
        self.running.append(await self.run(config))

    async def grow(self, count: int) -> None:
        for _ in range(count):
            await self.add()

    async def joined(self, *, sessions: int | None = None, within_s: float = 45.0) -> None:
        """Wait until everybody has all others, or `sessions` of them, in the table, with a session."""
        wanted = len(self.running) - 1 if sessions is None else sessions

        def all_joined() -> bool:
            return all(d.status().table_contacts >= wanted and d.status().sessions >= wanted for d in self.daemons)

        await until(f"{len(self.running)} nodes with {wanted} others in their tables", all_joined, within_s=within_s)

    async def stop(self) -> None:
        async with trio.open_nursery() as nursery:
            for each in self.running:
                nursery.start_soon(each.stop)
        self.running.clear()


async def announced(daemon: Daemon, names: list[object], *, replicas: int = 1) -> list[Subject]:
    """Announce and wait until so many other nodes hold each."""
    subjects = [subject(name) for name in names]
    await daemon.announce([Announce(each, "api") for each in subjects])

    def stored() -> bool:
        shown = [daemon.announcement(each) for each in subjects]
        return all(each is not None and each.replicas >= replicas for each in shown)

    await until(f"{len(subjects)} announcements on {replicas} other nodes", stored)
    return subjects


class Process:
    """Daemons in a process of their own, told what to do line by line (`daemon_process.py`)."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log
        self.pid = process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout
        self._received = bytearray()
        os.set_blocking(self._output.fileno(), False)

    @classmethod
    def start(cls, configs: list[DaemonConfig], log: Path, *, clock_offset_s: float = 0.0) -> Process:
        """Start it; `ready` waits for it."""
        told = {
            "configs": [config.model_dump(mode="json") for config in configs],
            "clock_offset_s": clock_offset_s,
        }
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, str(PROCESS_SCRIPT), json.dumps(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        return cls(process, log)

    async def ready(self) -> None:
        assert await self.line() == {"ready": True}

    def tell(self, **command: Any) -> None:
        """Send a command; answers come by `line`."""
        self._input.write(json.dumps(command).encode() + b"\n")
        self._input.flush()

    async def ask(self, **command: Any) -> Any:
        """Send a command and return its answer."""
        self.tell(**command)
        return await self.line()

    async def line(self, *, within_s: float = 30.0) -> Any:
        """The next answer; None at the end of the output."""
        with trio.fail_after(within_s):
            while b"\n" not in self._received:
                await trio.lowlevel.wait_readable(self._output.fileno())
                piece = os.read(self._output.fileno(), 65_536)
                if not piece:
                    assert not self._received or self._process.poll() is not None
                    return None
                self._received += piece
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        return json.loads(line)

    def lines_left(self) -> list[Any]:
        """After the end: every answer that was written in full."""
        self._process.wait()
        os.set_blocking(self._output.fileno(), True)
        while piece := os.read(self._output.fileno(), 65_536):
            self._received += piece
        return [json.loads(line) for line in bytes(self._received).split(b"\n")[:-1]]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: nobody is told anything."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it if need be, and close its pipes."""
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._output.close()


StartProcess: TypeAlias = Callable[..., Process]
