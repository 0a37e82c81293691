"""Child processes that cannot outlive us, and loopback ports that nobody else can take.

What always holds: every process started through a `Children` is dead and reaped when its `with` block has been left,
however it was left; should this interpreter itself be killed with SIGKILL, the kernel kills them (Linux,
PR_SET_PDEATHSIG, which is bound to the thread that forked: start children from the thread that runs trio, never from a
worker thread, which is why `trio.run_process` is not used here). Each child has a session of its own, so that
Ctrl-C at the terminal reaches us alone and we stop the children in order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from mediadht.core.errors import EnvironmentFault

__all__ = ["Child", "Children", "LoopbackPorts", "Processes", "tail_of"]

LOOPBACK: Final = "127.0.0.1"
LOG_TAIL_LINES: Final = 15
"""Lines of a child's log that an error shows: enough for one traceback's end, few enough to read."""

LOG_TAIL_BYTES: Final = 16_384
POLL_INTERVAL_S: Final = 0.02
KILLED_DEADLINE_S: Final = 10.0
"""A process killed with SIGKILL that is still there after this hangs in the kernel; we say so instead of waiting."""

_LAUNCHER: Final = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent died before this process began")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel to be killed with its parent, then becomes the command. It runs in the child and not as a
`preexec_fn`, which may deadlock beside threads."""


class LoopbackPorts:
    """Free TCP ports on 127.0.0.1, kept reserved until closed.

    A port that is bound but never listened on is handed to nobody else by the kernel, and yet a child that sets
    SO_REUSEADDR, as Twisted, trio and hypercorn do, can listen on it, also after a restart. So there is no
    moment at which a stranger could take it between our choosing it and the child's using it.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for held in self._held:
            held.close()
        self._held.clear()

    def reserve(self) -> int:
        """A port that is nobody else's until this object is closed."""
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._held.append(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, 0))
        port: int = held.getsockname()[1]
        return port


@dataclass(eq=False)
class Child:
    """One process; its output goes to `log_path`, appended."""

    name: str
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process ID, which is also that of its process group."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """As in `subprocess`: negative for the signal that ended it, None while it runs."""
        return self.process.poll()

    def kill(self) -> None:
        """SIGKILL to it and its own children; returns once it is reaped. Does nothing if it has ended."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        try:
            self.process.wait(KILLED_DEADLINE_S)
        except subprocess.TimeoutExpired as late:
            raise EnvironmentFault(
                f"{self.name} (process {self.pid}) does not die of SIGKILL: its disk or the machine hangs"
            ) from late

    async def stop(self, deadline_s: float = 10.0) -> bool:
        """SIGTERM, then SIGKILL after `deadline_s`. Whether it ended by itself in time."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
            with trio.move_on_after(deadline_s):
                while self.running:  # noqa: ASYNC110 - a process is no trio.Event
                    await trio.sleep(POLL_INTERVAL_S)
        in_time = not self.running
        self.kill()
        return in_time

    async def wait_until(self, ready: Callable[[], Awaitable[bool]], *, deadline_s: float, what_to_do: str) -> float:
        """Poll `ready` until it answers true; the seconds that took.

        Raises EnvironmentFault, with the end of the log and `what_to_do`, if the process ends first or `deadline_s`
        passes.
        """
        began = time.perf_counter()
        while True:
            if not self.running:
                raise self.fault(f"ended with exit code {self.exit_code} instead of answering", what_to_do)
            if await ready():
                return time.perf_counter() - began
            if time.perf_counter() - began > deadline_s:
                raise self.fault(f"did not answer within {deadline_s:g} s", what_to_do)
            await trio.sleep(POLL_INTERVAL_S)

    def fault(self, happened: str, what_to_do: str) -> EnvironmentFault:
        """The error that says what happened to this process, with the end of its log."""
        return EnvironmentFault(
            f"{self.name} {happened}.\nThe end of its log, {self.log_path}:\n{tail_of(self.log_path)}\n{what_to_do}"
        )


class Children:
    """The owner of child processes: a context manager that leaves none of them running."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            if child.running:
                os.killpg(child.pid, signal.SIGKILL)
        for child in self._children:
            child.kill()

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C between the fork and our noting it would lose a process
    def start(self, name: str, command: Sequence[str], log_path: Path) -> Child:
        """Start `command` (its first word a full path), with output appended to `log_path`.

        The environment is ours without `MEDIADHT_*` (settings of the caller's own daemon) and without proxies (all
        traffic is loopback). Raises EnvironmentFault if the system refuses.
        """
        try:
            with log_path.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - the command is ours
                    [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_child_environment(os.environ),
                    start_new_session=True,
                )
        except OSError as refused:
            raise EnvironmentFault(f"{name} could not be started: {refused}") from refused
        child = Child(name, log_path, process)
        self._children.append(child)
        return child

    @property
    def running(self) -> list[Child]:
        """Those that have not ended."""
        return [child for child in self._children if child.running]

    @property
    def started(self) -> list[Child]:
        """All that were ever started here, in that order."""
        return list(self._children)


class Processes:
    """Children and their ports, owned together: the ports are given up once the children are dead."""

    def __init__(self) -> None:
        self.ports = LoopbackPorts()
        self.children = Children()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.ports, self.children:
            pass


def tail_of(log_path: Path, lines_max: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, each indented; a remark in brackets where there are none."""
    try:
        with log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError as unreadable:
        return f"    (cannot be read: {unreadable.strerror})"
    return "\n".join(f"    {line}" for line in lines[-lines_max:]) or "    (it is empty)"


def _child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in ours.items()
        if not name.startswith("MEDIADHT_") and not name.lower().endswith("_proxy")
    }
