"""Connections to peers: WebSocket in and out, the handshake, and bytes in both directions.

A `Connection` is one WebSocket whose binary messages carry the byte stream of a `PeerSession`, cut anywhere. Dialling
resolves names itself, so that an address the configuration forbids is never connected to, whatever a peer's contact
or its DNS says. Handshakes have a deadline. Nothing here knows what messages mean.
The WebSocket itself is trio-websocket's, by the project's choice: a well-kept library before a faster one of our own.
Implements `docs/protocol.md`, section "Transport".
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

from mediadht.core.constants import FRAME_BYTES_MAX
from mediadht.core.errors import Code, RemoteError
from mediadht.core.keys import KeyPair
from mediadht.core.session import Hello, PeerSession, Role, refusal_frame
from mediadht.daemon.streams import PromptStream

__all__ = ["Connection", "Credentials", "accept", "dial", "explain", "shake_hands"]

HANDSHAKE_S = 10.0
"""From an accepted or started TCP connection to an open session."""
CONNECT_S = 5.0
"""For one address of a host."""
CLOSE_S = 1.0
SUPERSEDED_S = 5.0
"""How long the lesser of two connections may still deliver what was on its way."""
_ADDRESSES_MAX = 3
_MESSAGE_BYTES_MAX = 4 * FRAME_BYTES_MAX
_UNSENT_BYTES_MAX = 1 << 20
_MESSAGES_QUEUED_MAX = 4
_RECEIVE_BYTES = 65_536
_CLOSE_CODE = 4000
_REASON_BYTES_MAX = 100


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are in a handshake. `hello()` gives the current description of this node."""

    keys: KeyPair
    hello: Callable[[], Hello]
    network: str


class Connection:
    """A WebSocket whose handshake is done or under way. `address`: the peer's IP, where we dialled `endpoint`."""

    __slots__ = (
        "_outbox",
        "_stream",
        "address",
        "close_code",
        "endpoint",
        "opened_s",
        "outbound",
        "scope",
        "session",
        "websocket",
    )

    def __init__(
        self, websocket: WebSocketConnection, stream: trio.abc.Stream, session: PeerSession, *, outbound: bool
    ) -> None:
        self.websocket = websocket
        self._stream = stream
        self.session = session
        self.outbound = outbound
        self.address: str | None = None
        self.endpoint: str | None = None
        self.opened_s = trio.current_time()
        self.scope = trio.CancelScope()
        """Surrounds the connection's reading: whoever cancels it ends the connection."""
        self.close_code: str = Code.IDLE
        """What the peer is told when it ends."""
        self._outbox: list[bytes] = []

    @property
    def peer(self) -> Hello:
        """Who is at the other end. Only once the handshake is done."""
        assert self.session.peer is not None
        return self.session.peer

    def supersede(self) -> None:
        """Another connection to the same peer has taken over: read what is on its way, then end."""
        self.close_code = Code.DUPLICATE
        self.scope.deadline = trio.current_time() + SUPERSEDED_S

    def hang_up(self, code: str) -> None:
        """End the connection, giving this reason."""
        self.close_code = code
        self.scope.cancel()

    def queue(self, message: bytes) -> None:
        """Seal a message, to be sent by the next `flush`. A session that a fault has ended says nothing more."""
        if self.session.is_open:
            self._outbox.append(self.session.seal(message))

    async def flush(self) -> None:
        """Send what is queued. A broken connection is noticed by its reader, not here."""
        if self._outbox:
            data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
            self._outbox.clear()
            await self.send(data)

    async def send(self, data: bytes) -> None:
        """Send raw bytes, if there are any."""
        if data:
            try:
                await self.websocket.send_message(data)
            except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def receive(self) -> bytes:
        """The next bytes. Raises RemoteError with the peer's reason once it has hung up."""
        try:
            data = await self.websocket.get_message()
        except ConnectionClosed as closed:
            reason = closed.reason
            code = reason.reason if reason is not None and reason.code == _CLOSE_CODE else None
            raise RemoteError(code or Code.UNREACHABLE, "the peer closed the connection") from None
        if not isinstance(data, bytes):
            raise RemoteError(Code.MALFORMED, "a text message; peers talk in binary ones")
        return data

    async def close(self, code: str) -> None:
        """Hang up, saying why, within a second."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(CLOSE_S):
                await self.flush()
                await self.websocket.aclose(_CLOSE_CODE, code[:_REASON_BYTES_MAX])
            # Where the peer was first, `aclose` leaves the socket to the garbage collector.
            await trio.aclose_forcefully(self._stream)


async def dial(
    endpoint: str,
    credentials: Credentials,
    nursery: trio.Nursery,
    *,
    tls: ssl.SSLContext,
    private_allowed: bool,
    expected_node_id: int | None,
    probe: bool = False,
) -> Connection:
    """A connection to `endpoint`, its handshake done. Its background tasks run in `nursery`.

    Raises RemoteError: `unreachable`, `timed_out`, or what the handshake says.
    """
    url = urlsplit(endpoint)
    secure = url.scheme == "wss"
    port = url.port or (443 if secure else 80)
    host = url.hostname or ""
    try:
        with trio.fail_after(HANDSHAKE_S):
            tcp, address = await _connect(host, port, private_allowed=private_allowed)
            stream: trio.abc.Stream
            try:
                stream = prompt = _prompt(tcp, nursery)
                if secure:
                    stream = trio.SSLStream(prompt, tls, server_hostname=host, https_compatible=True)
                    await stream.do_handshake()
                with prompt.over:
                    websocket = await wrap_client_stream(
                        nursery,
                        stream,  # type: ignore[arg-type]
                        url.netloc.rpartition("@")[2],
                        url.path or "/",
                        message_queue_size=_MESSAGES_QUEUED_MAX,
                        max_message_size=_MESSAGE_BYTES_MAX,
                        receive_buffer_size=_RECEIVE_BYTES,
                    )
                if prompt.over.cancelled_caught:
                    raise trio.BrokenResourceError
                hello = credentials.hello()
                session = PeerSession(
                    Role.DIALER,
                    credentials.keys,
                    replace(hello, probe=True) if probe else hello,
                    network=credentials.network,
                    ephemeral_seed=os.urandom(32),
                    expected_node_id=expected_node_id,
                )
                connection = Connection(websocket, stream, session, outbound=True)
                connection.address, connection.endpoint = address, endpoint
                await shake_hands(connection)
            except BaseException:
                tcp.socket.close()
                raise
            return connection
    except trio.TooSlowError:
        raise RemoteError(Code.TIMED_OUT, f"{endpoint} did not answer within {HANDSHAKE_S:.0f} s") from None
    except (ssl.SSLError, HandshakeError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as fault:
        raise RemoteError(Code.UNREACHABLE, f"{endpoint}: {explain(fault)}") from fault


def explain(fault: BaseException) -> str:
    """Why a connection came to nothing, for people."""
    match fault:
        case BaseExceptionGroup():
            return explain(fault.exceptions[0])
        case ConnectionRejected():
            return f"no WebSocket there: the answer has HTTP status {fault.status_code}"
        case HandshakeError() | ConnectionClosed():
            return "no WebSocket there"
        case ssl.SSLError():
            return f"TLS failed: {fault.reason or fault}"
        case trio.BrokenResourceError() if isinstance(fault.__cause__, ssl.SSLError):
            return explain(fault.__cause__)
        case trio.BrokenResourceError() | trio.ClosedResourceError():
            return "the other side closed the connection"
        case trio.TooSlowError():
            return "the handshake took too long"
        case OSError():
            return fault.strerror or str(fault)
        case _:
            return str(fault) or type(fault).__name__


async def accept(
    tcp: trio.SocketStream, tls: ssl.SSLContext | None, credentials: Credentials, nursery: trio.Nursery
) -> Connection:
    """The connection that somebody opens on `tcp`, WebSocket done, handshake not yet (`shake_hands`).

    Whoever calls it closes `tcp`, however this ends.
    """
    prompt = _prompt(tcp, nursery)
    stream: trio.abc.Stream = prompt
    if tls is not None:
        stream = trio.SSLStream(prompt, tls, server_side=True, https_compatible=True)
    with prompt.over:
        request = await wrap_server_stream(
            nursery,
            stream,
            message_queue_size=_MESSAGES_QUEUED_MAX,
            max_message_size=_MESSAGE_BYTES_MAX,
            receive_buffer_size=_RECEIVE_BYTES,
        )
        websocket = await request.accept()
    if prompt.over.cancelled_caught:
        raise RemoteError(Code.UNREACHABLE, "it hung up, or did not ask for a WebSocket")
    session = PeerSession(
        Role.LISTENER,
        credentials.keys,
        credentials.hello(),
        network=credentials.network,
        ephemeral_seed=os.urandom(32),
    )
    return Connection(websocket, stream, session, outbound=False)


def _prompt(tcp: trio.SocketStream, nursery: trio.Nursery) -> PromptStream:
    """`tcp` with sends that never wait: below TLS as well, for nobody may hold up the driver by not reading."""
    prompt = PromptStream(tcp, unsent_bytes_max=_UNSENT_BYTES_MAX)
    nursery.start_soon(prompt.flush_task)
    return prompt


async def shake_hands(connection: Connection) -> list[bytes]:
    """Bring the session up; returns messages that came right behind the handshake.

    On failure the peer is told why before the RemoteError goes on.
    """
    session = connection.session
    messages: list[bytes] = []
    try:
        await connection.send(session.outgoing())
        while not session.is_open:
            messages = session.receive(await connection.receive())
            await connection.send(session.outgoing())
    except RemoteError as fault:
        await connection.send(refusal_frame(fault))
        await connection.close(fault.code)
        raise
    return messages


async def _connect(host: str, port: int, *, private_allowed: bool) -> tuple[trio.SocketStream, str]:
    """A TCP connection to the first address of `host` that may be and can be reached, and that address."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [
        (family, sockaddr)
        for family, _, _, _, sockaddr in found
        if private_allowed or ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]).is_global
    ]
    if not allowed:
        raise OSError(f"{host} has no public address; peers at private ones are refused (allow_private_addresses)")
    last: OSError = OSError(f"{host}: no address could be reached")
    for family, sockaddr in allowed[:_ADDRESSES_MAX]:
        candidate = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            with trio.fail_after(CONNECT_S):
                await candidate.connect(sockaddr)
        except (OSError, trio.TooSlowError) as fault:
            candidate.close()
            last = fault if isinstance(fault, OSError) else OSError(f"{sockaddr[0]} did not answer")
        except BaseException:
            candidate.close()
            raise
        else:
            return trio.SocketStream(candidate), str(sockaddr[0])
    raise last
