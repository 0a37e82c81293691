"""A peer that a test drives by hand: a real session over a real WebSocket, and whatever bytes one wants in it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from mediadht.core.codec import decode, encode
from mediadht.core.constants import NETWORK_DEFAULT
from mediadht.core.contacts import Contact
from mediadht.core.errors import RemoteError
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Answer, Message, Ping, Pong, Query, Request, Response
from mediadht.core.session import Hello, PeerSession, Role


class Hostile:
    """The dialer's end."""

    def __init__(self, websocket: WebSocketConnection, keys: KeyPair, session: PeerSession) -> None:
        self.websocket = websocket
        self.keys = keys
        self.session = session
        self._transaction = 0
        self._messages: list[bytes] = []

    async def shake_hands(self) -> None:
        """Raises RemoteError with the code that the daemon gives."""
        await self.websocket.send_message(self.session.outgoing())
        while not self.session.is_open:
            self.session.receive(await self._bytes())
            await self.send_raw(self.session.outgoing())

    async def send_raw(self, data: bytes) -> None:
        """Send, or not if the daemon has hung up: `receive` and `reason` say so."""
        if data:
            with contextlib.suppress(ConnectionClosed):
                await self.websocket.send_message(data)

    async def send(self, message: Message) -> None:
        await self.send_raw(self.session.seal(encode(message)))

    async def receive(self) -> Message:
        while not self._messages:
            self._messages += self.session.receive(await self._bytes())
        return decode(self._messages.pop(0))

    async def ask(self, request: Request) -> Response:
        """The answer to this request; what the daemon asks in the meantime is not answered."""
        self._transaction += 1
        await self.send(Query(self._transaction, request))
        with trio.fail_after(10):
            while True:
                match await self.receive():
                    case Answer(transaction, response) if transaction == self._transaction:
                        return response

    async def answer(self, respond: Callable[[Request], Response]) -> None:
        """Answer what the daemon asks until it hangs up."""
        with trio.CancelScope():
            while True:
                match await self.receive():
                    case Query(transaction, request):
                        await self.send(Answer(transaction, respond(request)))

    async def is_served(self) -> bool:
        return isinstance(await self.ask(Ping()), Pong)

    async def reason(self, *, within_s: float = 15.0) -> str:
        """The code with which the daemon hangs up."""
        with trio.fail_after(within_s):
            try:
                while True:
                    await self._bytes()
            except RemoteError as fault:
                return fault.code

    async def _bytes(self) -> bytes:
        try:
            data = await self.websocket.get_message()
        except ConnectionClosed as closed:
            reason = closed.reason
            code = reason.reason if reason is not None and reason.code == 4000 else None
            raise RemoteError(code or f"closed {reason.code if reason else None}") from None
        assert isinstance(data, bytes)
        return data


@contextlib.asynccontextmanager
async def tcp_to(port: int, *, receive_buffer_bytes: int | None = None) -> AsyncIterator[trio.SocketStream]:
    """A TCP connection, closed without ceremony."""
    connecting = trio.socket.socket()
    if receive_buffer_bytes is not None:
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    await connecting.connect(("127.0.0.1", port))
    stream = trio.SocketStream(connecting)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


@contextlib.asynccontextmanager
async def hostile_to(
    port: int,
    *,
    endpoints: tuple[str, ...] = (),
    network: str = NETWORK_DEFAULT,
    keys: KeyPair | None = None,
    shake: bool = True,
    tls: ssl.SSLContext | None = None,
    receive_buffer_bytes: int | None = None,
    clock_offset_s: float = 0.0,
    probe: bool = False,
) -> AsyncIterator[Hostile]:
    """A peer connected to the daemon at `port`, with its handshake done unless `shake` is off."""
    keys = keys or KeyPair.from_seed(os.urandom(32))
    contact = Contact.of(keys.public_key, endpoints, "hostile.example")
    hello = Hello(contact, os.urandom(8), 5, int(time.time() + clock_offset_s), "hostile", probe)
    session = PeerSession(Role.DIALER, keys, hello, network=network, ephemeral_seed=os.urandom(32))
    async with tcp_to(port, receive_buffer_bytes=receive_buffer_bytes) as tcp, trio.open_nursery() as nursery:
        stream: Any = tcp
        if tls is not None:
            stream = trio.SSLStream(tcp, tls, server_hostname="127.0.0.1", https_compatible=True)
        with trio.fail_after(15):
            websocket = await wrap_client_stream(nursery, stream, f"127.0.0.1:{port}", "/", max_message_size=1 << 22)
            peer = Hostile(websocket, keys, session)
            if shake:
                await peer.shake_hands()
        yield peer
        nursery.cancel_scope.cancel()
