"""What holds for every request: errors in Matrix's form, bounds, load, deadlines, nothing left behind."""

from __future__ import annotations

import json
import logging

import pytest
import trio
import trio.testing
from fake_dht import FakeDHT, provider
from prometheus_client import CollectorRegistry

from mediadht.core.identifiers import media
from mediadht_bridge.api import ApiConfig, create_app
from mediadht_bridge.api.limits import ANSWER_S_MAX, BODY_BYTES_MAX, BODY_S_MAX

MEDIA_ID = "sha256." + "0f" * 32
SEEDING = f"/v1/media/{MEDIA_ID}/seeding"


class Exchange:
    """One request at the ASGI level, its body sent piece by piece by the test."""

    def __init__(self, app, method: str, path: str, *headers: tuple[bytes, bytes], query: bytes = b"") -> None:
        self._app = app
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [(b"host", b"localhost"), *headers],
            "server": ("127.0.0.1", 8470),
            "client": ("127.0.0.1", 50_000),
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
        }
        self.sends, self._incoming = trio.open_memory_channel(100)
        self.status: int | None = None
        self.body = b""
        self.ended = False
        self.started = trio.Event()

    async def __call__(self) -> None:
        await self._app(self.scope, self._receive, self._send)

    async def _receive(self):
        return await self._incoming.receive()

    async def _send(self, message) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.started.set()
        else:
            self.body += message["body"]
            self.ended = not message.get("more_body", False)

    def piece(self, body: bytes, *, more: bool = True) -> None:
        self.sends.send_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.sends.send_nowait({"type": "http.disconnect"})

    @property
    def errcode(self) -> str:
        return json.loads(self.body)["errcode"]


@pytest.fixture
def app(dht):
    return create_app(dht, ApiConfig())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/media", 404),
        ("GET", "/docs", 404),
        ("GET", f"/v1/media/{MEDIA_ID}/", 404),
        ("GET", "/v1/rooms/!a:b.example", 404),
        ("POST", f"/v1/media/{MEDIA_ID}/claim", 404),
        ("POST", "/v1/status", 405),
        ("PATCH", SEEDING, 405),
        ("TRACE", "/health/live", 405),
        ("OPTIONS", "/v1/ping", 405),
    ],
)
async def test_an_unknown_call_is_told_so_in_matrix_form(client, method, path, status):
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["errcode"] == "M_UNRECOGNIZED"
    assert set(answer.json()) == {"errcode", "error"}


async def test_a_405_lists_all_methods_of_the_path(client):
    answer = await client.request("PATCH", SEEDING)
    assert answer.headers["allow"] == "DELETE, GET, PUT"


async def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_not(client):
    json_headers = {"content-type": "application/json"}
    body = b"{}" + b" " * (BODY_BYTES_MAX - 2)
    assert (await client.put(SEEDING, content=body, headers=json_headers)).status_code == 200
    answer = await client.put(SEEDING, content=body + b" ", headers=json_headers)
    assert (answer.status_code, answer.json()["errcode"]) == (413, "M_TOO_LARGE")


async def test_a_large_body_without_a_length_is_refused_when_it_gets_too_large(app):
    exchange = Exchange(app, "PUT", SEEDING, (b"content-type", b"application/json"))
    exchange.piece(b" " * BODY_BYTES_MAX)
    exchange.piece(b" ")
    exchange.piece(b"", more=False)
    await exchange()
    assert (exchange.status, exchange.errcode, exchange.ended) == (413, "M_TOO_LARGE", True)


async def test_a_refused_body_is_drained_for_a_second_at_most(app, autojump_clock):
    exchange = Exchange(app, "PUT", SEEDING, (b"content-length", b"99999"))
    started_s = trio.current_time()
    await exchange()
    assert exchange.status == 413
    assert trio.current_time() - started_s == pytest.approx(1.0)


async def test_a_body_is_the_same_in_one_piece_and_byte_by_byte(app, dht):
    exchange = Exchange(app, "PUT", SEEDING, (b"content-type", b"application/json"))
    for byte in b'{"offers":["bytes"]}':
        exchange.piece(bytes([byte]))
    exchange.piece(b"", more=False)
    await exchange()
    assert exchange.status == 200
    assert json.loads(exchange.body)["offers"] == ["bytes"]


async def test_a_body_that_does_not_arrive_is_a_408(app, autojump_clock):
    exchange = Exchange(app, "PUT", SEEDING)
    exchange.piece(b"{")
    started_s = trio.current_time()
    await exchange()
    assert exchange.status == 408
    assert trio.current_time() - started_s == pytest.approx(BODY_S_MAX + 1.0)


@pytest.mark.parametrize("length", [b"-1", b"x", b"9" * 5_000])
async def test_a_nonsensical_length_is_refused(app, autojump_clock, length):
    exchange = Exchange(app, "PUT", SEEDING, (b"content-length", length))
    exchange.piece(b"", more=False)
    await exchange()
    assert exchange.status == 413


async def test_a_caller_that_leaves_within_its_body_is_forgotten(app, dht):
    exchange = Exchange(app, "PUT", SEEDING)
    exchange.piece(b"{")
    exchange.leave()
    await exchange()
    assert exchange.status is None
    assert dht.standing == {}
    assert dht.registry.get_sample_value("mediadht_api_requests_in_flight") == 0


async def test_a_lookup_is_abandoned_when_its_caller_leaves(app, dht):
    dht.found[media(MEDIA_ID)] = [provider("one.example"), trio.Event()]
    exchange = Exchange(app, "GET", f"/v1/media/{MEDIA_ID}")
    exchange.piece(b"", more=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange)
        await dht.looking.wait()
        exchange.leave()
    assert exchange.status is None
    assert dht.lookups_left == 1
    labels = {"method": "GET", "route": "/v1/media/{media_id}", "status": "left"}
    assert dht.registry.get_sample_value("mediadht_api_requests_total", labels) == 1


async def test_a_change_is_carried_out_even_if_its_caller_leaves(app, dht):
    exchange = Exchange(app, "PUT", SEEDING)
    exchange.piece(b"", more=False)
    exchange.leave()
    await exchange()
    assert exchange.status == 200
    assert len(dht.standing) == 1


async def test_too_many_requests_at_once_are_told_to_come_back(dht):
    release = trio.Event()
    dht.found[media(MEDIA_ID)] = [release]
    app = create_app(dht, ApiConfig(requests_max=2))
    lookups = [Exchange(app, "GET", f"/v1/media/{MEDIA_ID}") for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for lookup in lookups:
            lookup.piece(b"", more=False)
            nursery.start_soon(lookup)
        await trio.testing.wait_all_tasks_blocked()
        third, live = Exchange(app, "GET", "/v1/status"), Exchange(app, "GET", "/health/live")
        for exchange in (third, live):
            exchange.piece(b"", more=False)
            await exchange()
        assert (third.status, third.errcode) == (429, "M_LIMIT_EXCEEDED")
        assert json.loads(third.body)["retry_after_ms"] == 1_000
        assert live.status == 200
        release.set()
    assert [lookup.status for lookup in lookups] == [200, 200]
    again = Exchange(app, "GET", "/v1/status")
    again.piece(b"", more=False)
    await again()
    assert again.status == 200


async def test_an_unexpected_error_is_a_500_logged_once_without_the_path(dht, client, caplog):
    dht.fail["lookup"] = ZeroDivisionError("a mistake of ours")
    with caplog.at_level(logging.DEBUG, "mediadht_bridge"), caplog.at_level(logging.WARNING, "httpx"):
        answer = await client.get(f"/v1/media/{MEDIA_ID}")
    assert (answer.status_code, answer.json()["errcode"]) == (500, "M_UNKNOWN")
    assert "mistake" not in answer.text
    [record] = [record for record in caplog.records if record.name.startswith("mediadht")]
    assert record.getMessage() == "GET /v1/media/{media_id} failed: please report this"
    assert record.exc_info is not None
    assert MEDIA_ID not in caplog.text


async def test_an_error_after_the_first_line_cuts_the_stream_off(app, dht, caplog):
    dht.found[media(MEDIA_ID)] = [provider("one.example"), ZeroDivisionError()]
    exchange = Exchange(app, "GET", f"/v1/media/{MEDIA_ID}", (b"accept", b"application/x-ndjson"))
    exchange.piece(b"", more=False)
    await exchange()
    assert exchange.status == 200
    assert exchange.body.count(b"\n") == 1
    assert not exchange.ended
    assert len([record for record in caplog.records if record.name.startswith("mediadht")]) == 1


async def test_a_stream_that_nobody_takes_is_cut_off(app, dht, autojump_clock):
    exchange = Exchange(app, "GET", f"/v1/media/{MEDIA_ID}", (b"accept", b"application/x-ndjson"))
    exchange.piece(b"", more=False)

    async def stuck(message) -> None:
        await trio.sleep_forever()

    exchange._send = stuck
    await exchange()
    assert trio.current_time() >= ANSWER_S_MAX
    assert not exchange.ended


@pytest.mark.parametrize(
    "query", [b"limit=1&limit=2", b"a&a", b"&".join(b"q%d=1" % n for n in range(33)), b"limit=1&%6cimit=2"]
)
async def test_ambiguous_or_endless_queries_are_refused(app, query):
    exchange = Exchange(app, "GET", f"/v1/media/{MEDIA_ID}", query=query)
    exchange.piece(b"", more=False)
    await exchange()
    assert (exchange.status, exchange.errcode) == (400, "M_INVALID_PARAM")


async def test_websockets_are_refused(app):
    sent = []

    async def send(message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/v1/status"}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_metrics_leave_the_registry_with_the_application():
    registry = CollectorRegistry()
    for _ in range(2):
        create_app(FakeDHT(registry=registry), ApiConfig()).state.metrics.close()
    assert list(registry.collect()) == []
