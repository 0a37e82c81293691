"""The API on real sockets: addresses, streaming, clean ends."""

from __future__ import annotations

import json
import socket
import stat
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from fake_dht import FakeDHT, provider

from mediadht.core.errors import ConfigurationError, EnvironmentFault
from mediadht.core.identifiers import media
from mediadht_bridge import serving as bound
from mediadht_bridge.api import ApiConfig, serve_api

MEDIA_ID = "sha256." + "0f" * 32
PATH = f"/v1/media/{MEDIA_ID}"
LOOPBACK = ApiConfig(listen=("127.0.0.1:0",))


async def connect(address: str) -> trio.SocketStream:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def test_it_answers_on_the_address_that_it_reports(dht, served):
    async with served(dht) as [address], httpx.AsyncClient(base_url=address) as client:
        answer = await client.get("/v1/status")
        assert answer.json()["node_id"] == dht.status().node_id
        assert "server" not in answer.headers


async def test_several_addresses(dht, served, tmp_path):
    path = tmp_path / "api.sock"
    config = ApiConfig(listen=("127.0.0.1:0", f"unix:{path}"))
    async with served(dht, config) as (tcp, unix):
        assert tcp.startswith("http://127.0.0.1:")
        assert unix == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with httpx.AsyncClient(base_url=tcp) as client:
            assert (await client.get("/health/live")).status_code == 200
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://whatever.example") as client:
            assert (await client.get("/v1/status")).status_code == 200
            refused = await client.get("/v1/status", headers={"origin": "https://evil.example"})
            assert refused.status_code == 403
    assert not path.exists()


async def test_the_first_line_arrives_before_the_lookup_has_ended(dht, served):
    more = trio.Event()
    dht.found[media(MEDIA_ID)] = [provider("one.example"), more, provider("two.example")]
    headers = {"accept": "application/x-ndjson"}
    async with (
        served(dht) as [address],
        httpx.AsyncClient(base_url=address) as client,
        client.stream("GET", PATH, headers=headers) as answer,
    ):
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["provider"]["server_name"] == "one.example"
        assert dht.lookups_left == 0
        more.set()
        assert json.loads(await anext(lines))["provider"]["server_name"] == "two.example"
        assert json.loads(await anext(lines))["summary"]["complete"] is True
        assert [line async for line in lines] == []


async def test_a_caller_that_hangs_up_ends_its_lookup(dht, served):
    dht.found[media(MEDIA_ID)] = [provider("one.example"), trio.Event()]
    async with served(dht) as [address]:
        async with await connect(address) as stream:
            head = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n"
            await stream.send_all(head.encode())
            received = b""
            while b"one.example" not in received:
                received += await stream.receive_some()
            assert dht.lookups_left == 0
        with trio.fail_after(5):
            await dht.left.wait()


async def test_a_stream_that_fails_is_seen_to_be_broken(dht, served):
    dht.found[media(MEDIA_ID)] = [provider("one.example"), ZeroDivisionError()]
    async with served(dht) as [address], httpx.AsyncClient(base_url=address) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(PATH, headers={"accept": "application/x-ndjson"})


async def test_a_connection_is_kept_for_the_next_request_after_every_kind_of_answer(dht, served):
    async with served(dht) as [address], httpx.AsyncClient(base_url=address) as client:
        statuses = []
        for method, path, body in [
            ("GET", "/v1/status", None),
            ("GET", "/nowhere", None),
            ("PUT", f"{PATH}/seeding", b"{"),
            ("PUT", f"{PATH}/seeding", b"{}"),
            ("GET", "/health/live", None),
        ]:
            headers = {} if body is None else {"content-type": "application/json"}
            answer = await client.request(method, path, content=body, headers=headers)
            statuses.append(answer.status_code)
        assert statuses == [200, 404, 400, 200, 200]


@pytest.mark.parametrize("with_length", [True, False])
async def test_a_huge_body_is_refused_in_words_and_leaves_nothing_behind(dht, served, with_length):
    async def chunks():
        for _ in range(64):
            yield b" " * 4_096

    content = b" " * 262_144 if with_length else chunks()
    async with served(dht) as [address], httpx.AsyncClient(base_url=address) as client:
        answer = await client.put(f"{PATH}/seeding", content=content)
        assert (answer.status_code, answer.json()["errcode"]) == (413, "M_TOO_LARGE")
        assert (await client.get("/v1/status")).status_code == 200
        await trio.testing.wait_all_tasks_blocked()
        assert dht.registry.get_sample_value("mediadht_api_requests_in_flight") == 0


async def test_a_body_without_end_is_cut_off(dht, served):
    async def send_for_ever(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(b"1000\r\n" + b" " * 4_096 + b"\r\n")

    async with served(dht) as [address]:
        async with await connect(address) as stream:
            head = f"PUT {PATH}/seeding HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(head.encode())
            with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
                await send_for_ever(stream)
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/v1/status")).status_code == 200
        await trio.testing.wait_all_tasks_blocked()
        assert dht.registry.get_sample_value("mediadht_api_requests_in_flight") == 0


async def test_a_taken_port_is_a_clear_fault(dht):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match=f"cannot listen on {address}: another process") as caught:
            await serve_api(dht, ApiConfig(listen=("127.0.0.1:0", address)))
    assert "choose another" in str(caught.value)
    assert list(dht.registry.collect()) == []


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(dht, served, tmp_path):
    path = tmp_path / "api.sock"
    config = ApiConfig(listen=(f"unix:{path}",))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with served(dht, config):
        with pytest.raises(EnvironmentFault, match="another process"):
            await serve_api(FakeDHT(), config)
        assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(dht, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(EnvironmentFault, match="not a socket"):
        await serve_api(dht, ApiConfig(listen=(f"unix:{path}",)))
    assert path.read_text() == "data"


async def test_a_missing_token_file_is_known_before_anything_listens(dht, tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await serve_api(dht, ApiConfig(listen=("127.0.0.1:0",), token_file=tmp_path / "none"))


async def test_a_request_under_way_is_finished_when_the_api_stops(dht):
    more = trio.Event()
    dht.found[media(MEDIA_ID)] = [provider("one.example"), more, provider("two.example")]
    answers = []

    async def ask(client: httpx.AsyncClient) -> None:
        answers.append(await client.get(PATH))

    async with trio.open_nursery() as outer:
        stopping = trio.CancelScope()
        stopped = trio.Event()

        async def serve(task_status) -> None:
            with stopping:
                await serve_api(dht, LOOPBACK, task_status=task_status)
            stopped.set()

        [address] = await outer.start(serve)
        async with httpx.AsyncClient(base_url=address) as client:
            outer.start_soon(ask, client)
            await dht.looking.wait()
            stopping.cancel()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not stopped.is_set()
            more.set()
            with trio.fail_after(3):
                await stopped.wait()
    assert len(answers[0].json()["providers"]) == 2
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2]))


async def test_a_request_that_does_not_end_is_cut_off_within_the_drain_time(dht, mock_clock):
    dht.found[media(MEDIA_ID)] = [trio.Event()]
    async with trio.open_nursery() as outer:
        stopping = trio.CancelScope()
        stopped = trio.Event()

        async def serve(task_status) -> None:
            with stopping:
                await serve_api(dht, LOOPBACK, task_status=task_status)
            stopped.set()

        [address] = await outer.start(serve)

        async def ask() -> None:
            async with httpx.AsyncClient(base_url=address, timeout=None) as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(PATH, params={"deadline_ms": 30_000})

        outer.start_soon(ask)
        await dht.looking.wait()
        stopping.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not stopped.is_set()
        mock_clock.jump(5.01)
        await stopped.wait()
    assert dht.lookups_left == 1


async def test_an_idle_connection_does_not_hold_up_the_end(dht, served):
    with trio.fail_after(3):
        async with httpx.AsyncClient() as client, served(dht) as [address]:
            await client.get(f"{address}/health/live")


async def test_it_can_be_served_again_for_the_same_daemon(dht, served):
    for _ in range(2):
        async with served(dht) as [address], httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("steps", range(16))
async def test_it_can_be_cancelled_while_it_starts(dht, steps):
    async def cancel(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel, scope)
            await serve_api(dht, LOOPBACK)
    assert scope.cancelled_caught
    assert list(dht.registry.collect()) == []


@pytest.mark.parametrize("steps", range(12))
async def test_a_server_can_be_cancelled_while_it_is_being_started(steps):
    async def cancel(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async def app(scope, receive, send) -> None:
        raise AssertionError("nobody asked")

    with trio.fail_after(2), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel, scope)
            await nursery.start(partial(bound.serve, app, "127.0.0.1:0", what="it"))
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_caller_that_does_not_read_is_cut_off_at_the_end(dht, served, tmp_path, mock_clock):
    """Over a Unix socket nothing else would ever end it."""
    path = tmp_path / "api.sock"
    dht.found[media(MEDIA_ID)] = [provider(f"{'x' * 200}.{number}.example") for number in range(500)]
    mock_clock.rate = 50.0  # the drain time passes in a tenth of a second
    async with served(dht, ApiConfig(listen=(f"unix:{path}",))):
        stream = await trio.open_unix_socket(str(path))
        head = f"GET {PATH}?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(8):
            await stream.send_all(head.encode())
        await trio.sleep(10)
    await stream.aclose()
    assert not path.exists()


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/x", True),
        ("127.evil.example:1", False),
        (":1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.1:1", False),
    ],
)
def test_loopback_is_an_address_and_not_a_beginning(listen, loopback):
    assert bound.is_loopback(listen) is loopback
