"""A WebSocket (RFC 6455) of binary messages on any trio stream, by wsproto: no task, no lock and no queue of its own.

Whoever waits for a message reads the stream; whoever sends writes to it, at once where the stream does not wait
(`PromptStream`). trio-websocket, which this replaces, has a task of its own read and hand messages on, and gives other
tasks a turn at every send: a round trip over it cost 60 microseconds more, a connection 12 KiB more (`docs/benchmarks.md`).
What always holds: messages are bounded, what the peer does wrong ends the connection, a close is answered.
"""

from __future__ import annotations

from collections import deque

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from mediadht.daemon.streams import PromptStream

__all__ = ["WebSocket", "WebSocketClosed", "WebSocketRefused", "accept_websocket", "connect_websocket"]

_RECEIVE_BYTES = 65_536
_TOO_BIG = 1009
_UNSUPPORTED = 1003


class WebSocketRefused(Exception):
    """The other end does not speak WebSocket, or will not with us."""


class WebSocketClosed(Exception):
    """The connection is over: by a close frame with `code` and `reason`, or without one (`code` None)."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class WebSocket:
    """One end of an open WebSocket. One task at a time may `receive`; any may `send`."""

    __slots__ = ("_closed", "_fragments", "_messages", "_protocol", "_sending", "_size_bytes", "_size_bytes_max", "_stream")

    def __init__(self, stream: trio.abc.Stream, protocol: WSConnection, *, message_bytes_max: int) -> None:
        self._stream = stream
        self._protocol = protocol
        self._size_bytes_max = message_bytes_max
        self._size_bytes = 0
        self._fragments: list[bytes] = []
        self._messages: deque[bytes] = deque()
        self._closed: WebSocketClosed | None = None
        self._sending: trio.Lock | None = None if isinstance(stream, PromptStream) else trio.Lock()

    def send_now(self, message: bytes) -> bool:
        """Send without waiting; False, with nothing sent, where this stream may have to wait: use `send`.

        A broken connection is noticed by whoever receives, not here.
        """
        if not isinstance(self._stream, PromptStream):
            return False
        try:
            self._stream.write(self._protocol.send(BytesMessage(message)))
        except (LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            return True
        return True

    async def send(self, message: bytes) -> None:
        """Send. A broken connection is noticed by whoever receives, not here."""
        await self._send_event(BytesMessage(message))

    async def receive(self) -> bytes:
        """The next message. Raises WebSocketClosed once there is none left and the connection is over."""
        while not self._messages:
            if self._closed is not None:
                raise self._closed
            await self._read()
        return self._messages.popleft()

    async def aclose(self, code: int, reason: str) -> None:
        """Say goodbye, wait for the peer to say so too, close the stream. Whoever waits in `receive` must be gone."""
        try:
            if self._closed is None:
                await self._send_event(CloseConnection(code, reason))
                while self._closed is None:
                    await self._read()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        """Take in what the stream has next."""
        try:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self._closed = WebSocketClosed()
            return
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                await self._take(event)
        except RemoteProtocolError as fault:
            await self._end(fault.event_hint, WebSocketClosed(reason=str(fault)))

    async def _take(self, event: Event) -> None:
        match event:
            case BytesMessage(data=data, message_finished=is_last):
                self._size_bytes += len(data)
                if self._size_bytes > self._size_bytes_max:
                    await self._end(CloseConnection(_TOO_BIG, "message too big"), WebSocketClosed(_TOO_BIG))
                elif self._closed is None:
                    self._add(bytes(data), is_last=is_last)
            case TextMessage():
                await self._end(CloseConnection(_UNSUPPORTED, "binary only"), WebSocketClosed(_UNSUPPORTED))
            case Ping():
                await self._send_event(event.response())
            case CloseConnection(code=code, reason=reason):
                answer = event.response() if self._protocol.state is ConnectionState.REMOTE_CLOSING else None
                await self._end(answer, WebSocketClosed(int(code), reason or ""))

    def _add(self, data: bytes, *, is_last: bool) -> None:
        if not is_last:
            self._fragments.append(data)
            return
        if self._fragments:
            data = b"".join((*self._fragments, data))
            self._fragments.clear()
        self._size_bytes = 0
        self._messages.append(data)

    async def _end(self, farewell: Event | None, closed: WebSocketClosed) -> None:
        if self._closed is None:
            self._closed = closed
        if farewell is not None:
            await self._send_event(farewell)

    async def _send_event(self, event: Event) -> None:
        try:
            data = self._protocol.send(event)
            if self._sending is None:
                await self._stream.send_all(data)
            else:
                async with self._sending:
                    await self._stream.send_all(data)
        except (LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            return


async def connect_websocket(
    stream: trio.abc.Stream, host: str, target: str, *, message_bytes_max: int
) -> WebSocket:
    """Ask the server at the other end of `stream` for a WebSocket. Raises WebSocketRefused."""
    protocol = WSConnection(ConnectionType.CLIENT)
    await stream.send_all(protocol.send(Request(host=host, target=target)))
    event = await _next_event(stream, protocol)
    if isinstance(event, RejectConnection):
        raise WebSocketRefused(f"it answered with HTTP status {event.status_code}")
    if not isinstance(event, AcceptConnection):
        raise WebSocketRefused("it did not answer as a WebSocket does")
    return await _opened(stream, protocol, message_bytes_max)


async def accept_websocket(stream: trio.abc.Stream, *, message_bytes_max: int) -> WebSocket:
    """Accept the WebSocket that the client at the other end of `stream` asks for. Raises WebSocketRefused."""
    protocol = WSConnection(ConnectionType.SERVER)
    event = await _next_event(stream, protocol)
    if not isinstance(event, Request):
        raise WebSocketRefused("it did not ask for a WebSocket")
    await stream.send_all(protocol.send(AcceptConnection()))
    return await _opened(stream, protocol, message_bytes_max)


async def _next_event(stream: trio.abc.Stream, protocol: WSConnection) -> Event:
    """The first event of the opening handshake."""
    while True:
        data = await stream.receive_some(_RECEIVE_BYTES)
        try:
            protocol.receive_data(data or None)
        except RemoteProtocolError as fault:
            if fault.event_hint is not None:
                await stream.send_all(protocol.send(fault.event_hint))
            raise WebSocketRefused(str(fault)) from fault
        # One event only: what came right behind the handshake stays in the protocol object for `_opened`.
        for event in protocol.events():
            return event
        if not data:
            raise WebSocketRefused("it hung up")


async def _opened(stream: trio.abc.Stream, protocol: WSConnection, message_bytes_max: int) -> WebSocket:
    websocket = WebSocket(stream, protocol, message_bytes_max=message_bytes_max)
    for event in protocol.events():
        await websocket._take(event)
    return websocket
