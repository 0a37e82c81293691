"""An asyncio event loop whose clock is the engine's: coroutines written for sockets run in virtual time, unmodified.

Timers are entries of the engine's heap. What is ready runs at once, in the order of `call_soon`, until nothing is: a
coroutine's steps take no virtual time. Virtual time passes in timers and in datagrams under way, nowhere else.

The loop has what asyncio's own tasks, futures and locks need, and datagram endpoints. Everything else that a loop can
do (threads, processes, streams, signals, name resolution) would leave the simulation and raises NotImplementedError,
as `asyncio.AbstractEventLoop` has it. One loop serves all nodes, as one process serves many in the loopback benchmark.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from mediadht_sim.engine import Engine, Entry

if TYPE_CHECKING:
    from mediadht_sim.baseline.datagrams import DatagramNetwork

__all__ = ["VirtualLoop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_FAULTS_MAX = 100


class _Timer(asyncio.TimerHandle):
    """A timer that knows its place in the engine's heap."""

    __slots__ = ("entry",)
    entry: Entry


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs inside `engine`: whoever moves the engine moves the loop. It is never "run" itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.datagrams: DatagramNetwork | None = None
        """Where `create_datagram_endpoint` opens its endpoints."""
        self.faults: list[str] = []
        """The first exceptions that nobody took: of callbacks, and of tasks that nobody awaits."""
        self._ready: deque[asyncio.Handle] = deque()
        self._is_running = False
        self._is_due = False
        self._is_closed = False
        # What arrives from outside runs in the context in which the loop was made, not in that of whoever sent it.
        self._context = contextvars.copy_context()

    # --- From the engine -----------------------------------------------------------------------------------------

    def arrive(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call `callback` from outside the loop, as a selector does for a readable socket, and all that gets ready."""
        self._ready.append(asyncio.Handle(callback, arguments, self, self._context))
        self._run_ready()

    def _run_ready(self) -> None:
        self._is_due = False
        outer = asyncio._get_running_loop()  # a notebook's, perhaps
        asyncio._set_running_loop(self)
        self._is_running = True
        ready = self._ready
        try:
            while ready:
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            self._is_running = False
            asyncio._set_running_loop(outer)

    def _ring(self, timer: _Timer) -> None:
        self._ready.append(timer)
        self._run_ready()

    # --- What asyncio asks of a loop -----------------------------------------------------------------------------

    def time(self) -> float:
        return self.engine.now

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._is_running and not self._is_due:
            self._is_due = True
            self.engine.after(0.0, self._run_ready)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.engine.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        timer.entry = self.engine.at(when, self._ring, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, _Timer)
        self.engine.cancel(handle.entry)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[_T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
        **options: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """An endpoint of the simulated network; its node is found by `local_addr`. No other option is known."""
        if self.datagrams is None or local_addr is None or remote_addr is not None or options:
            raise NotImplementedError("the virtual loop opens endpoints of its network, by their local address only")
        protocol = protocol_factory()
        transport = self.datagrams.open(local_addr, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what happened in `faults`; the simulation goes on, as a server would."""
        if len(self.faults) < _FAULTS_MAX and not self._is_closed:
            self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Cancel every task that is not done, and let them end: nothing of the run is left to be collected later."""
        self._is_closed = True
        for task in asyncio.all_tasks(self):
            task.cancel()
        self._run_ready()
