"""One request of a client, over ASGI: its body as it arrives, its answer as it goes out.

What always holds: `pump` reads whatever the client sends for as long as the request lives, so that the server below
never stalls on a body that nobody wants any more (a homeserver may answer before it has read it all), and notices at
once when the client goes away.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Self

import trio

from mediadht.core.errors import Code, RemoteError
from mediadht_bridge.matrix.homeserver import Body, FixedBody, Headers, drop_hop_by_hop

__all__ = ["ClientRequest", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_ERROR_HEADERS: Final = (
    (b"content-type", b"application/json"),
    # A browser shows a page an answer's text only with these (client-server API, "Web Browser Clients").
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"X-Requested-With, Content-Type, Authorization"),
)


class ClientRequest:
    """A request under way. Use it as a context, with `pump` running beside it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.headers: Headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        self.address: str | None = scope["client"][0] if scope.get("client") else None
        self.started = False
        """Whether the head of an answer has gone out."""
        self._receive = receive
        self._send = send
        self._arriving, self._arrived = trio.open_memory_channel[bytes](0)
        self._finishing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arriving.close()
        self._arrived.close()

    @property
    def target(self) -> bytes:
        """Path and query, byte for byte. (A `?` with nothing behind it is lost: ASGI does not tell.)"""
        return self.path + (b"?" + self.query if self.query else b"")

    async def pump(self, gone: trio.CancelScope) -> None:
        """Take in the body; cancel `gone` when the client goes away before it has its answer."""
        wanted = True
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not self._finishing:
                    gone.cancel()
                return
            piece = message.get("body", b"")
            if piece and wanted:
                try:
                    await self._arriving.send(piece)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    wanted = False
            if not message.get("more_body", False):
                self._arriving.close()
                wanted = False

    async def receive(self) -> bytes:
        """The next piece of the body; b"" at its end."""
        try:
            return await self._arrived.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return b""

    async def read(self, bytes_max: int) -> tuple[bytes, bool]:
        """The body, and True; or, once more than `bytes_max` have come, what there is so far, and False."""
        content = b""
        while piece := await self.receive():
            content += piece
            if len(content) > bytes_max:
                return content, False
        return content, True

    async def respond(self, status: int, headers: Headers, body: Body) -> None:
        """Send an answer, piece by piece. If `body` breaks off, so does the answer: the client sees it is cut."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": drop_hop_by_hop(headers)})
        while True:
            try:
                piece = await body.receive()
            except RemoteError:
                return  # no final message: the server closes the connection in the middle of the body
            if not piece:
                break
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self._finishing = True
        self._arrived.close()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def respond_error(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        """Send an error of our own in Matrix's form."""
        content = json.dumps({"errcode": "M_UNKNOWN", "error": text}).encode()
        headers: Headers = [*_ERROR_HEADERS, (b"content-length", b"%d" % len(content))]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        await self.respond(status, headers, FixedBody(b"" if self.method == "HEAD" else content))

    async def respond_fault(self, fault: RemoteError) -> None:
        """Tell that the homeserver did not answer; nothing if part of its answer has gone out already."""
        if self.started:
            return
        if fault.code == Code.TIMED_OUT:
            await self.respond_error(504, "The homeserver did not answer in time. Try again later.")
        else:
            await self.respond_error(502, "The homeserver is not reachable; it may be restarting. Try again shortly.")
