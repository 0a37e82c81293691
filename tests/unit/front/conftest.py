"""A homeserver made of raw sockets, and the front before it: what goes over the wire is what the tests look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from fake_dht import FakeDHT

from mediadht_bridge.front import FrontConfig, serve_front


def answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


OK = answer("200 OK", b'{"room_id":"!x"}', "Content-Type: application/json")


@dataclass
class Request:
    """One request as it came over the wire."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.headers if other.lower() == name]


@dataclass
class FakeHomeserver:
    """Answers one request a connection with the next of `answers` (the last one stays)."""

    answers: list[bytes] = field(default_factory=lambda: [OK])
    requests: list[Request] = field(default_factory=list)
    reads_body: bool = True
    gate: trio.Event | None = None
    """If set, waited for before answering."""
    closed: trio.Event = field(default_factory=trio.Event)
    """Set when a client has gone before it was answered."""
    handler: Callable[[trio.SocketStream], Awaitable[None]] | None = None
    """If set, does everything itself."""

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            if self.handler is not None:
                await self.handler(stream)
                return
            request = await read_request(stream, with_body=self.reads_body)
            self.requests.append(request)
            if self.gate is not None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, stream, nursery.cancel_scope)
                    await self.gate.wait()
                    nursery.cancel_scope.cancel()
            await stream.send_all(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    async def _watch(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        if await stream.receive_some() == b"":
            self.closed.set()


async def read_request(stream: trio.SocketStream, *, with_body: bool = True) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await stream.receive_some()
        assert piece, "broke off"
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (each.partition(b":") for each in rest)]
    request = Request(line, headers, body)
    if not with_body:
        return request
    if length := request.values(b"content-length"):
        while len(body) < int(length[0]):
            body += await stream.receive_some()
    elif request.values(b"transfer-encoding"):
        while not body.endswith(b"0\r\n\r\n"):
            body += await stream.receive_some()
    request.body = body
    return request


@dataclass
class Rig:
    """A front that runs, with what stands on both sides of it."""

    dht: FakeDHT
    homeserver: FakeHomeserver
    port: int
    homeserver_url: str = ""

    async def raw(self, request: bytes) -> bytes:
        """Everything that comes back until the front closes."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(request)
            received = b""
            while piece := await stream.receive_some():
                received += piece
            return received

    async def post(self, target: str, body: bytes = b"{}", *headers: str) -> bytes:
        lines = [f"POST {target} HTTP/1.1", "Host: hs.example", *headers]
        lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        return await self.raw("\r\n".join(lines).encode() + body)


StartRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def start_rig(nursery: trio.Nursery) -> AsyncIterator[StartRig]:
    async def start(homeserver_url: str | None = None, **config: object) -> Rig:
        homeserver = FakeHomeserver()
        listeners = await nursery.start(trio.serve_tcp, homeserver.serve, 0)
        upstream = listeners[0].socket.getsockname()[1]
        dht = FakeDHT()
        url = homeserver_url or f"http://127.0.0.1:{upstream}"
        front = FrontConfig(listen="127.0.0.1:0", homeserver_url=url, **config)
        (address,) = await nursery.start(serve_front, dht, front)
        return Rig(dht, homeserver, int(address.rpartition(":")[2]), url)

    return start


@pytest.fixture
async def rig(start_rig: StartRig) -> Rig:
    return await start_rig()
