"""The daemon itself: announcements, peers, ping, status, health, metrics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from fake_dht import NODE_ID

from mediadht.core.errors import Code, RemoteError
from mediadht.core.identifiers import room
from mediadht.daemon.face import Announce, PeerStatus, Readiness

ROOMS = [room(f"!r{number}:one.example") for number in range(7)]


async def announce_all(dht) -> list[str]:
    await dht.announce([Announce(subject, "feed") for subject in ROOMS])
    return [subject.id for subject in sorted(ROOMS, key=lambda subject: subject.key)]


def ids(answer) -> list[str]:
    return [announcement["id"] for announcement in answer.json()["announcements"]]


async def test_announcements_come_page_by_page(dht, client):
    expected = await announce_all(dht)
    seen, query, pages = [], {"limit": 3}, 0
    while query is not None:
        answer = await client.get("/v1/announcements", params=query)
        assert answer.json()["total"] == 7
        seen += ids(answer)
        pages += 1
        following = answer.json()["next_batch"]
        query = {"limit": 3, "from": following} if following else None
    assert seen == expected
    assert pages == 3


async def test_a_page_boundary_survives_the_end_of_its_announcement(dht, client):
    expected = await announce_all(dht)
    first = await client.get("/v1/announcements", params={"limit": 3})
    del dht.standing[room(expected[2])]
    second = await client.get("/v1/announcements", params={"limit": 500, "from": first.json()["next_batch"]})
    assert ids(second) == expected[3:]


async def test_a_full_last_page_says_that_it_is_the_last(dht, client):
    await announce_all(dht)
    assert (await client.get("/v1/announcements", params={"limit": 7})).json()["next_batch"] is None


async def test_no_announcements(client):
    assert (await client.get("/v1/announcements")).json() == {"announcements": [], "total": 0, "next_batch": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "from=x", "from=" + "G" * 64, "from=", "from_key=1"])
async def test_a_bad_page_is_refused(client, query):
    assert (await client.get(f"/v1/announcements?{query}")).status_code == 400


@pytest.mark.parametrize(
    ("changes", "state"), [({}, "pending"), ({"replicas": 3}, "stored"), ({"withdrawn": True}, "withdrawing")]
)
async def test_the_state_of_an_announcement(dht, client, changes, state):
    await dht.announce([Announce(ROOMS[0], "feed")])
    dht.standing[ROOMS[0]] = replace(dht.standing[ROOMS[0]], **changes)
    answer = await client.get("/v1/announcements")
    assert answer.json()["announcements"][0]["state"] == state


async def test_peers_are_bounded_and_counted(dht, client):
    peer = PeerStatus(NODE_ID, "two.example", ("wss://two.example/x",), True, "outbound", 12.5, 3.0, 0)
    dht.known_peers = [peer, replace(peer, session=None, server_name=None)]
    answer = await client.get("/v1/peers", params={"limit": 1})
    assert answer.json() == {
        "peers": [
            {
                "node_id": NODE_ID,
                "server_name": "two.example",
                "endpoints": ["wss://two.example/x"],
                "in_table": True,
                "session": "outbound",
                "round_trip_ms": 12.5,
                "heard_s_ago": 3.0,
                "failures": 0,
            }
        ],
        "total": 2,
    }
    assert (await client.get("/v1/peers", params={"limit": 1_001})).status_code == 400


async def test_ping(dht, client):
    dht.pings["two.example"] = 0.0125
    answer = await client.post("/v1/ping", json={"peer": "two.example"})
    assert (answer.status_code, answer.json()) == (200, {"peer": "two.example", "round_trip_ms": 12.5})


@pytest.mark.parametrize(
    ("error", "status", "errcode"),
    [
        (None, 404, "M_NOT_FOUND"),
        (RemoteError(Code.TIMED_OUT), 504, "M_UNKNOWN"),
        (RemoteError(Code.UNREACHABLE, "nobody listens"), 502, "M_UNKNOWN"),
        (RemoteError("a later peer's word"), 502, "M_UNKNOWN"),
    ],
)
async def test_a_ping_that_fails(dht, client, error, status, errcode):
    dht.pings["two.example"] = error
    answer = await client.post("/v1/ping", json={"peer": "two.example"})
    assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)


async def test_a_ping_that_hangs(dht, client, autojump_clock):
    dht.hang.add("ping")
    started_s = trio.current_time()
    answer = await client.post("/v1/ping?deadline_ms=700", json={"peer": "two.example"})
    assert answer.status_code == 504
    assert trio.current_time() - started_s == pytest.approx(0.7)


@pytest.mark.parametrize("body", [{}, {"peer": ""}, {"peer": "x" * 513}, {"peer": 3}, {"peer": "x", "y": 1}, [], None])
async def test_a_bad_ping_is_refused(client, body):
    answer = await client.post("/v1/ping", json=body)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_BAD_JSON")


async def test_status(client):
    answer = await client.get("/v1/status")
    assert answer.json() == {
        "version": "0.1.0",
        "node_id": NODE_ID,
        "server_name": "own.example",
        "endpoints": ["wss://own.example/_mediadht"],
        "listening": ["127.0.0.1:8471"],
        "uptime_s": 12.5,
        "sessions": 2,
        "table_contacts": 3,
        "known_contacts": 4,
        "network_size_estimate": 5,
        "records_held": 6,
        "announcements": 0,
        "announcements_pending": 0,
        "clock_offset_s": None,
        "warnings": [],
    }


async def test_live(client):
    assert (await client.get("/health/live")).json() == {"live": True}


async def test_ready(client):
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "why": "a canary was read back", "checked_s_ago": 2.0}


async def test_not_ready_says_why(dht, client):
    dht.readiness = Readiness(ready=False, why="no peer answers", checked_s_ago=1.5)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"errcode": "M_UNKNOWN", "error": "no peer answers", "ready": False, "checked_s_ago": 1.5}


async def test_a_readiness_check_that_hangs_is_not_ready(dht, client, autojump_clock):
    dht.hang.add("ready")
    started_s = trio.current_time()
    answer = await client.get("/health/ready")
    assert trio.current_time() - started_s == pytest.approx(5.0)
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert "longer than the deadline" in answer.json()["error"]


async def test_metrics_count_requests_by_route_and_never_by_id(dht, client):
    media_id = "sha256." + "0f" * 32
    await client.get(f"/v1/media/{media_id}")
    await client.get(f"/v1/media/{media_id}x")
    await client.get(f"/{media_id}")
    await client.request("BREW", "/v1/status")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    counted = 'mediadht_api_requests_total{method="%s",route="%s",status="%s"} 1.0'
    assert counted % ("GET", "/v1/media/{media_id}", 200) in lines
    assert counted % ("GET", "/v1/media/{media_id}", 400) in lines
    assert counted % ("GET", "unknown", 404) in lines
    assert counted % ("other", "/v1/status", 405) in lines
    assert 'mediadht_api_request_seconds_count{method="GET",route="/v1/media/{media_id}"} 2.0' in lines
    assert "mediadht_api_requests_in_flight 1.0" in lines
    assert "0f0f" not in answer.text
