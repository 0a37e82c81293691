"""Who may ask: the token, and what a browser's pages may not."""

from __future__ import annotations

import httpx
import pytest
from fake_dht import FakeDHT

from mediadht_bridge.api import ApiConfig, create_app

TOKEN = "a-token-of-some-length"
OPEN_ONLY_WITH_TOKEN = [
    "/v1/status",
    "/v1/peers",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/nowhere",
    "/v1/media/x",
]


def client_at(base_url: str, config: ApiConfig, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(FakeDHT(), config))
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)


WITH_TOKEN = ApiConfig(token=TOKEN, listen=("0.0.0.0:0",))


@pytest.mark.parametrize("path", OPEN_ONLY_WITH_TOKEN)
@pytest.mark.parametrize(
    ("header", "errcode"),
    [
        (None, "M_MISSING_TOKEN"),
        ("Bearer wrong-token-of-length", "M_UNKNOWN_TOKEN"),
        (f"Basic {TOKEN}", "M_UNKNOWN_TOKEN"),
        (f"Bearer {TOKEN}x", "M_UNKNOWN_TOKEN"),
        (f"Bearer {TOKEN[:-1]}", "M_UNKNOWN_TOKEN"),
        (f"Bearer {TOKEN.upper()}", "M_UNKNOWN_TOKEN"),
        ("Bearer", "M_UNKNOWN_TOKEN"),
        ("", "M_UNKNOWN_TOKEN"),
        (TOKEN, "M_UNKNOWN_TOKEN"),
    ],
)
async def test_without_the_right_token_nothing_is_answered(path, header, errcode):
    async with client_at("http://api.example", WITH_TOKEN) as client:
        answer = await client.get(path, headers={} if header is None else {"authorization": header})
    assert (answer.status_code, answer.json()["errcode"]) == (401, errcode)
    assert answer.headers["www-authenticate"].startswith('Bearer realm="mediadht"')
    assert TOKEN not in answer.text


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN}"])
async def test_with_the_token_any_host_and_origin_may_ask(header):
    async with client_at("http://api.example", WITH_TOKEN, authorization=header, origin="https://a.example") as client:
        assert (await client.get("/v1/status")).status_code == 200


async def test_two_tokens_are_none():
    async with client_at("http://api.example", WITH_TOKEN) as client:
        both = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer something-else-of-length")]
        assert (await client.get("/v1/status", headers=both)).status_code == 401


async def test_liveness_needs_no_token():
    async with client_at("http://api.example", WITH_TOKEN) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/live/")).status_code == 401


async def test_the_token_is_needed_on_loopback_too_once_it_is_set():
    async with client_at("http://localhost", ApiConfig(token=TOKEN)) as client:
        assert (await client.get("/v1/status")).status_code == 401


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8470", "localhost.", "127.0.0.1", "127.1.2.3:8470", "[::1]", "[::1]:8470"]
)
async def test_without_a_token_loopback_hosts_may_be_named(host):
    async with client_at("http://localhost", ApiConfig(), host=host) as client:
        assert (await client.get("/v1/status")).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.evil.example", "192.0.2.1:8470", "[::2]",
     "[::1", "::1", "", "localhost:x", "localhost:", "0.0.0.0", "evil.example:localhost"],
)  # fmt: skip
async def test_without_a_token_other_hosts_are_refused(host):
    async with client_at("http://localhost", ApiConfig(), host=host) as client:
        answer = await client.get("/v1/status")
    assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8470"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "Same-Site"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/status"), ("PUT", "/v1/rooms/!a:b.example/participation")])
async def test_without_a_token_web_pages_are_refused(headers, method, path):
    async with client_at("http://localhost", ApiConfig()) as client:
        answer = await client.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")


async def test_a_person_may_look_with_a_browser():
    async with client_at("http://localhost", ApiConfig()) as client:
        assert (await client.get("/v1/status", headers={"sec-fetch-site": "none"})).status_code == 200
