"""Everything that the front does not change, looked at byte by byte on real sockets."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from fake_dht import FakeDHT
from pydantic import ValidationError

from mediadht.core.errors import EnvironmentFault
from mediadht_bridge import serving
from mediadht_bridge.front import FrontConfig, app, create_front, serve_front

PREFLIGHT_ANSWER = (
    b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\nServer: Synapse/1\r\nX-Two: a\r\nX-Two: b\r\n"
    b"Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\r\n"
)


def status_of(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "target",
    [
        "/_matrix/client/v3/join/%23a%2fb%3Aexample.org?via=%c3%a4&via=a+b&x=&&",
        "/_matrix/client/v3/sync?filter=%7B%22a%22%3A1%7D",
        "/_matrix/../a//b/./%2e%2E/;x=1?a?b",
        "/",
        "/_matrix/media/v3/download/a/%41%zz",
    ],
)
async def test_target_headers_and_body_arrive_byte_for_byte(rig: Any, target: str) -> None:
    headers = ["X-A: 1", "X-A:  2", "Accept-Encoding: gzip", "Cookie: a=b", "User-Agent: Ünit/1"]
    await rig.post(target, b"\x00\xff", *headers, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")
    (request,) = rig.homeserver.requests
    assert request.line == f"POST {target} HTTP/1.1".encode()
    assert request.body == b"\x00\xff"
    assert sorted(request.headers) == sorted(
        [
            (b"host", b"hs.example"),
            (b"x-a", b"1"),
            (b"x-a", b"2"),
            (b"accept-encoding", b"gzip"),
            (b"cookie", b"a=b"),
            (b"user-agent", "Ünit/1".encode()),
            (b"content-length", b"2"),
            (b"x-forwarded-for", b"192.0.2.1, 127.0.0.1"),
            (b"x-forwarded-proto", b"https"),
            (b"connection", b"close"),
        ]
    )


async def test_hop_by_hop_headers_stay_on_their_hop(rig: Any) -> None:
    await rig.raw(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Upgrade: foo\r\nProxy-Connection: x\r\nX-Kept: 1\r\n\r\n"
    )
    (request,) = rig.homeserver.requests
    names = {name for name, _ in request.headers}
    assert names == {b"host", b"x-kept", b"x-forwarded-for", b"connection"}
    assert request.values(b"connection") == [b"close"]


async def test_a_preflight_and_its_answer(rig: Any) -> None:
    rig.homeserver.answers = [PREFLIGHT_ANSWER]
    received = await rig.raw(b"OPTIONS /_matrix/client/v3/join/!x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert rig.homeserver.requests[0].line == b"OPTIONS /_matrix/client/v3/join/!x HTTP/1.1"
    head = received.split(b"\r\n")
    assert head[0].startswith(b"HTTP/1.1 204")
    assert sorted(line for line in head[1:] if line) == [
        b"Access-Control-Allow-Origin: *",
        b"Connection: close",
        b"Server: Synapse/1",
        b"X-Two: a",
        b"X-Two: b",
    ]


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found", "500 Internal Server Error", "599 Odd"])
async def test_any_status_and_body_comes_back(rig: Any, status: str) -> None:
    body = bytes(range(256)) * 40
    rig.homeserver.answers = [
        f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nLocation: /x\r\nSet-Cookie: a=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    ]
    received = await rig.raw(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, content = received.partition(b"\r\n\r\n")
    assert (status_of(received), content) == (int(status[:3]), body)
    assert b"Content-Encoding: gzip" in head
    assert rig.homeserver.requests[0].values(b"cookie") == []


async def test_head_has_a_length_and_no_body(rig: Any) -> None:
    rig.homeserver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"]
    received = await rig.raw(b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 1234" in received
    assert received.endswith(b"\r\n\r\n")


async def test_chunked_bodies_stream_both_ways(rig: Any) -> None:
    """Each piece passes before the next is there: nothing is collected on the way."""
    arrived: list[bytes] = []

    async def echo(stream: trio.SocketStream) -> None:
        while not any(b"first" in piece for piece in arrived):
            arrived.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        while not any(b"second" in piece for piece in arrived):
            arrived.append(await stream.receive_some())
        await stream.send_all(b"3\r\nbye\r\n0\r\n\r\n")

    rig.homeserver.handler = echo
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        await stream.send_all(b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        received = b""
        while b"hello" not in received:
            received += await stream.receive_some()
        await stream.send_all(b"6\r\nsecond\r\n0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += await stream.receive_some()
    assert b"3\r\nbye\r\n" in received
    assert b"transfer-encoding: chunked" in arrived[0]


async def test_a_large_upload_and_download(rig: Any) -> None:
    body = bytes(range(256)) * 20_000
    rig.homeserver.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + body]  # ended by closing
    received = await rig.post("/_matrix/media/v3/upload", body)
    assert rig.homeserver.requests[0].body == body
    assert b"Transfer-Encoding: chunked" in received
    assert len(received) > len(body)


async def test_an_early_refusal_of_a_large_upload_arrives(rig: Any) -> None:
    """The homeserver answers without reading on: the rest of the upload must not stop up the front."""

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await trio.sleep_forever()

    rig.homeserver.handler = refuse
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        with suppress(trio.BrokenResourceError):
            head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
            await stream.send_all(head + b"x" * 10_000_000)
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 413")


async def test_a_kept_connection_serves_request_after_request(rig: Any) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        for number in range(5):
            await stream.send_all(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            received = b""
            with trio.fail_after(5):
                while not received.endswith(b'{"room_id":"!x"}'):
                    received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 200")
    assert [request.target for request in rig.homeserver.requests] == [b"/%d" % number for number in range(5)]


async def test_an_answer_that_breaks_off_is_seen_to_break_off(rig: Any) -> None:
    rig.homeserver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"]
    received = await rig.raw(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert received.endswith(b"\r\n\r\nhalf")
    assert b"Content-Length: 100" in received


@pytest.mark.parametrize("nonsense", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nBroken\x00: 1\r\n\r\n"])
async def test_a_homeserver_that_talks_nonsense(rig: Any, nonsense: bytes) -> None:
    rig.homeserver.answers = [nonsense]
    received = await rig.raw(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status_of(received) == 502


async def test_a_homeserver_that_is_down(start_rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    rig = await start_rig(homeserver_url="http://127.0.0.1:1")
    for _ in range(2):
        received = await rig.post("/_matrix/client/v3/join/!" + "a" * 43)
        head, _, body = received.partition(b"\r\n\r\n")
        assert status_of(received) == 502
        assert json.loads(body)["errcode"] == "M_UNKNOWN"
        assert b"access-control-allow-origin: *" in head.lower()
    assert sum("does not answer" in record.message for record in caplog.records) == 1
    assert rig.dht.registry.get_sample_value("mediadht_front_upstream_errors_total", {"why": "unreachable"}) == 2


async def test_a_homeserver_that_hangs(start_rig: Any) -> None:
    rig = await start_rig(upstream_timeout_s=1.0)
    rig.homeserver.gate = trio.Event()
    assert status_of(await rig.post("/a")) == 504


async def test_too_many_at_once(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "OTHERS_AT_ONCE_MAX", 1)
    front = create_front(FakeDHT(), FrontConfig(listen="127.0.0.1:0", homeserver_url="http://127.0.0.1:1"))
    held = front._others
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "raw_path": b"/", "query_string": b"", "headers": [], "client": None}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.acquire_on_behalf_of, "first")
        nursery.start_soon(held.acquire_on_behalf_of, "second")
        await trio.testing.wait_all_tasks_blocked()
        await front(scope, trio.sleep_forever, send)
        nursery.cancel_scope.cancel()
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"5") in sent[0]["headers"]


async def test_a_websocket_is_declined(rig: Any) -> None:
    received = await rig.raw(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert status_of(received) == 403


async def test_a_taken_port_says_so(nursery: trio.Nursery) -> None:
    (address,) = await nursery.start(serve_front, FakeDHT(), FrontConfig(listen="127.0.0.1:0"))
    taken = address.removeprefix("http://")
    with pytest.raises(EnvironmentFault, match=f"join front cannot listen on {taken}: another process"):
        await serve_front(FakeDHT(), FrontConfig(listen=taken))


async def test_a_unix_socket(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = tmp_path / "front.sock"
    config = FrontConfig(listen=f"unix:{path}", homeserver_url="http://127.0.0.1:1")
    async with trio.open_nursery() as inner:
        assert await inner.start(serve_front, FakeDHT(), config) == (f"unix:{path}",)
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(EnvironmentFault, match="another process"):
            await serve_front(FakeDHT(), config)
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 502")
        inner.cancel_scope.cancel()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_a_file_is_not(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = tmp_path / "front.sock"
    (sock,) = await serving.bind(f"unix:{path}", what="it")
    sock.close()
    await nursery.start(serve_front, FakeDHT(), FrontConfig(listen=f"unix:{path}"))
    other = tmp_path / "file"
    other.write_text("precious")
    with pytest.raises(EnvironmentFault, match="not a socket"):
        await serve_front(FakeDHT(), FrontConfig(listen=f"unix:{other}"))
    assert other.read_text() == "precious"


async def test_a_request_under_way_ends_before_the_front_does(start_rig: Any, nursery: trio.Nursery) -> None:
    rig = await start_rig()
    rig.homeserver.gate = trio.Event()
    received: list[bytes] = []
    config = FrontConfig(listen="127.0.0.1:0", homeserver_url=rig.homeserver_url)

    async def ask(port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            received.append(await stream.receive_some())

    async with trio.open_nursery() as front:
        (address,) = await front.start(partial(serve_front, FakeDHT(), config))
        nursery.start_soon(ask, int(address.rpartition(":")[2]))
        while not rig.homeserver.requests:
            await trio.lowlevel.checkpoint()
        front.cancel_scope.cancel()
        rig.homeserver.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert received[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listen", "8472x"),
        ("listen", "unix:relative"),
        ("homeserver_url", "127.0.0.1:8008"),
        ("homeserver_url", "http://x/path"),
        ("homeserver_url", "http://user@x"),
        ("via_max", 11),
        ("lookup_deadline_s", 0),
        ("upstream_timeout", 5),
    ],
)
def test_wrong_configuration(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        FrontConfig(**{field: value})
