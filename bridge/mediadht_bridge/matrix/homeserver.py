"""HTTP/1.1 to the homeserver: one request, one connection, every byte under our control.

What always holds: target, header names and values go out and come back as they were given; each request dials anew, so
that no request is lost to a kept connection that the homeserver was closing (a POST must not be sent twice to find
out); every wait has a limit; what the homeserver does wrong is a `RemoteError` and nothing else.
h11 speaks the protocol. An HTTP client library would decode, normalise, pool and follow, which a proxy must not.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import h11
import trio

from mediadht.core.errors import Code, RemoteError

__all__ = ["Answer", "Body", "FixedBody", "Head", "Headers", "Homeserver", "check_homeserver_url", "drop_hop_by_hop"]

Headers = list[tuple[bytes, bytes]]

CONNECT_TIMEOUT_S: Final = 5.0
"""The homeserver stands on the same machine or in the same rack."""

WRITE_TIMEOUT_S: Final = 60.0
"""A homeserver that takes not a byte for this long has hung."""

ANSWER_HEADER_BYTES_MAX: Final = 131_072
"""Twice what the front accepts from clients."""

_READ_BYTES: Final = 65_536
_UNIX: Final = "unix:"

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def drop_hop_by_hop(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """`headers` without those that concern one connection only (RFC 9110, 7.6.1), in their order."""
    kept = list(headers)
    named = {
        token.strip().lower() for name, value in kept if name.lower() == b"connection" for token in value.split(b",")
    }
    return [(name, value) for name, value in kept if name.lower() not in _HOP_BY_HOP | named]


def check_homeserver_url(url: str) -> str:
    """`url` without a final slash, if it is `http://host:port`, `https://host:port` or `unix:/path`.

    Raises ValueError with what to write instead.
    """
    if url.startswith(_UNIX):
        if not Path(url.removeprefix(_UNIX)).is_absolute():
            raise ValueError(f"{url!r}: write a Unix socket with its full path, like unix:/run/synapse/main.sock")
        return url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"} or parts.query:
        raise ValueError(f"{url!r}: write the homeserver's own address without a path, like http://127.0.0.1:8008")
    if parts.username is not None or (parts.port is not None and parts.port == 0):
        raise ValueError(f"{url!r}: neither a user name nor port 0 belongs here")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. `headers` frame the body themselves (content-length, or transfer-encoding: chunked)."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]


class Body(Protocol):
    """What follows a head."""

    async def receive(self) -> bytes:
        """The next piece; b"" at the end."""
        ...


class FixedBody:
    """A body that is in memory already."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def receive(self) -> bytes:
        """All of it, then b""."""
        content, self._content = self._content, b""
        return content


class Answer:
    """The homeserver's answer: its head is there, its body is read with `receive`."""

    def __init__(self, connection: h11.Connection, stream: trio.abc.ReceiveStream, timeout_s: float) -> None:
        self._connection = connection
        self._stream = stream
        self._timeout_s = timeout_s
        self.status = 0
        self.headers: Headers = []
        """With the names' capitals and order as sent, hop-by-hop headers included."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name`, which is given in lower case."""
        return next((value for other, value in self.headers if other.lower() == name), None)

    async def receive(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises RemoteError if it breaks off or stalls."""
        while True:
            match await self._event():
                case h11.Data(data=data) if data:
                    return bytes(data)
                case h11.EndOfMessage():
                    return b""

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises RemoteError if it is longer than `bytes_max`, breaks off or stalls."""
        pieces: list[bytes] = []
        size_bytes = 0
        while piece := await self.receive():
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes > bytes_max:
                raise RemoteError(Code.TOO_LARGE, f"the homeserver's answer is longer than {bytes_max} bytes")
        return b"".join(pieces)

    async def read_head(self) -> None:
        """Wait for the head, past interim answers. Raises RemoteError if none comes."""
        while True:
            match await self._event():
                case h11.Response(status_code=status, headers=headers):
                    self.status = status
                    self.headers = [(bytes(name), bytes(value)) for name, value in headers.raw_items()]
                    return
                case h11.ConnectionClosed():
                    raise RemoteError(Code.UNREACHABLE, "the homeserver closed the connection without an answer")

    async def _event(self) -> object:
        while True:
            try:
                event = self._connection.next_event()
                if event is not h11.NEED_DATA:
                    return event
                with trio.fail_after(self._timeout_s):
                    data = await self._stream.receive_some(_READ_BYTES)
                self._connection.receive_data(bytes(data))
            except h11.RemoteProtocolError as fault:
                raise RemoteError(
                    Code.MALFORMED, f"the homeserver's answer is not HTTP, or broke off: {fault}"
                ) from fault
            except trio.TooSlowError as fault:
                raise RemoteError(Code.TIMED_OUT, f"no answer for {self._timeout_s:g} s") from fault
            except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
                raise RemoteError(Code.UNREACHABLE, "the homeserver closed the connection") from fault


class Homeserver:
    """Where the homeserver's client API answers: `http://host:port`, `https://host:port` or `unix:/path`."""

    def __init__(self, url: str) -> None:
        self.url = check_homeserver_url(url)
        self._unix = self.url.removeprefix(_UNIX) if self.url.startswith(_UNIX) else None
        parts = urlsplit(self.url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.authority = b"localhost" if self._unix else parts.netloc.encode("idna")
        """The Host header of requests that bring none of their own."""

    @asynccontextmanager
    async def exchange(
        self, head: Head, body: Body, *, timeout_s: float, nursery: trio.Nursery | None = None
    ) -> AsyncIterator[Answer]:
        """Send a request, and hand over the answer once its head is there. Leaving the context closes the connection.

        With a `nursery` of the caller's the body is sent from there while the answer is read already; without one it is
        sent first. `timeout_s` bounds every single wait for the homeserver.
        Raises RemoteError: UNREACHABLE, TIMED_OUT or MALFORMED.
        """
        stream = await self._dial()
        async with stream:
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_HEADER_BYTES_MAX)
            answer = Answer(connection, stream, timeout_s)
            request = h11.Request(method=head.method, target=head.target, headers=list(head.headers))
            await _send(stream, connection, request)
            sending = trio.CancelScope()
            if nursery is None:
                await _send_body(stream, connection, body, sending)
            else:
                nursery.start_soon(_send_body, stream, connection, body, sending)
            try:
                await answer.read_head()
                yield answer
            finally:
                sending.cancel()

    async def _dial(self) -> trio.abc.Stream:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                if self._unix is not None:
                    return await trio.open_unix_socket(self._unix)
                stream = await trio.open_tcp_stream(self._host, self._port)
                if self._tls is None:
                    return stream
                secured = trio.SSLStream(stream, self._tls, server_hostname=self._host, https_compatible=True)
                await secured.do_handshake()
                return secured
        except trio.TooSlowError as fault:
            raise RemoteError(Code.TIMED_OUT, f"no connection to {self.url} within {CONNECT_TIMEOUT_S:g} s") from fault
        except (OSError, trio.BrokenResourceError) as fault:
            raise RemoteError(Code.UNREACHABLE, f"no connection to {self.url}: {fault}") from fault


async def _send_body(
    stream: trio.abc.SendStream, connection: h11.Connection, body: Body, sending: trio.CancelScope
) -> None:
    """Send all of `body`. A homeserver that stops listening may still answer (413): its answer tells."""
    with sending, suppress(RemoteError):
        while piece := await body.receive():
            await _send(stream, connection, h11.Data(data=piece))
        await _send(stream, connection, h11.EndOfMessage())


async def _send(stream: trio.abc.SendStream, connection: h11.Connection, event: h11.Event) -> None:
    data = connection.send(event)
    if not data:
        return
    try:
        with trio.fail_after(WRITE_TIMEOUT_S):
            await stream.send_all(data)
    except trio.TooSlowError as fault:
        raise RemoteError(Code.TIMED_OUT, f"the homeserver took nothing for {WRITE_TIMEOUT_S:g} s") from fault
    except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
        raise RemoteError(Code.UNREACHABLE, "the homeserver closed the connection") from fault
