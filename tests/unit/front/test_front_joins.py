"""Joins through the front, over real sockets: helped where the DHT can help, and never worse off."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest
import trio
from fake_dht import FakeDHT, provider
from trio.testing import MockClock

from mediadht.core.errors import RemoteError
from mediadht.core.identifiers import room
from mediadht.daemon.face import Announce
from mediadht_bridge.front import config as limits

V12 = "!" + "a" * 43
JOIN = f"/_matrix/client/v3/join/{V12}"
NO_SERVERS = b'{"errcode":"M_UNKNOWN","error":"no servers"}'


def reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def servers(target: bytes) -> list[str]:
    return parse_qs(target.partition(b"?")[2].decode()).get("via", [])


def metric(dht: FakeDHT, name: str, **labels: str) -> float:
    return dht.registry.get_sample_value(f"mediadht_front_{name}_total", labels) or 0.0


@pytest.fixture
def autojump_clock() -> MockClock:
    """Real sockets are in play: jump only once nothing has happened for a moment."""
    return MockClock(autojump_threshold=0.05)


@pytest.mark.parametrize("path", ["/_matrix/client/{}/join/" + V12, "/_matrix/client/{}/rooms/" + V12 + "/join"])
@pytest.mark.parametrize("version", ["v3", "r0"])
async def test_a_join_gets_the_dhts_servers(rig: Any, path: str, version: str) -> None:
    rig.dht.found[room(V12)] = [provider("b.example", alive_s_ago=9.0), provider("a.example"), provider("own.example")]
    received = await rig.post(path.format(version), b'{"reason":"hi"}', "Authorization: Bearer secret")
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b'{"room_id":"!x"}')
    (request,) = rig.homeserver.requests
    assert request.target.startswith(f"/_matrix/client/{version}/join/{V12}?via=".encode())
    assert servers(request.target) == ["a.example", "b.example"]
    assert request.body == b'{"reason":"hi"}'
    assert request.values(b"authorization") == [b"Bearer secret"]
    assert metric(rig.dht, "joins", outcome="helped") == 1
    assert metric(rig.dht, "helped_answers", outcome="joined") == 1


async def test_the_clients_servers_come_first_and_ours_are_bounded(rig: Any) -> None:
    rig.dht.found[room(V12)] = [provider(f"{number}.example", alive_s_ago=number) for number in range(12)]
    await rig.post(JOIN + "?via=c.example&via=3.example")
    assert servers(rig.homeserver.requests[0].target) == [
        *["c.example", "3.example"],
        *["0.example", "1.example", "2.example", "4.example"],
    ]


@pytest.mark.parametrize(
    "target",
    [
        "/_matrix/client/v3/join/%23alias%3Aexample.org?server_name=x",
        "/_matrix/client/v3/join/!short",
        "/_matrix/client/v3/rooms/!abc/join",
    ],
)
async def test_aliases_and_invalid_ids_pass_untouched(rig: Any, target: str) -> None:
    await rig.post(target, b'{"a": 1}')
    (request,) = rig.homeserver.requests
    assert request.line == f"POST {target} HTTP/1.1".encode()
    assert request.body == b'{"a": 1}'
    assert rig.dht.lookups == []


async def test_an_empty_dht_leaves_the_request_as_it_came(rig: Any) -> None:
    target = "/_matrix/client/r0/rooms/%21abc%3Aexample.org/join?via=a&x=%7e+"
    await rig.post(target, b' {"reason" : "x","other":1}')
    (request,) = rig.homeserver.requests
    assert (request.line, request.body) == (f"POST {target} HTTP/1.1".encode(), b' {"reason" : "x","other":1}')
    assert metric(rig.dht, "joins", outcome="nothing") == 1


async def test_a_failing_dht_is_told_once(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rig.dht.fail["lookup"] = RuntimeError("kaputt")
    for _ in range(3):
        assert (await rig.post(JOIN)).startswith(b"HTTP/1.1 200")
    rig.dht.fail["lookup"] = RemoteError("busy")
    await rig.post(JOIN)
    assert {request.target for request in rig.homeserver.requests} == {JOIN.encode()}
    assert metric(rig.dht, "joins", outcome="error") == 4
    assert sum("DHT fails" in record.message for record in caplog.records) == 1
    del rig.dht.fail["lookup"]
    await rig.post(JOIN)
    assert "DHT answers again" in caplog.text


@pytest.mark.parametrize("deadline_s", [0.5, 2.0])
async def test_a_hanging_dht_costs_the_deadline(start_rig: Any, autojump_clock: MockClock, deadline_s: float) -> None:
    rig = await start_rig(lookup_deadline_s=deadline_s)
    rig.dht.hang.add("lookup")
    began_s = trio.current_time()
    assert (await rig.post(JOIN)).startswith(b"HTTP/1.1 200")
    assert trio.current_time() - began_s == pytest.approx(deadline_s)
    assert rig.homeserver.requests[0].target == JOIN.encode()
    assert metric(rig.dht, "joins", outcome="deadline") == 1


async def test_an_unproven_provider_shortens_the_wait_less(rig: Any, autojump_clock: MockClock) -> None:
    rig.dht.found[room(V12)] = [provider("a.example", verified=False), trio.Event(), provider("b.example")]
    began_s = trio.current_time()
    await rig.post(JOIN)
    assert trio.current_time() - began_s == pytest.approx(limits.SETTLE_UNPROVEN_S)
    assert servers(rig.homeserver.requests[0].target) == ["a.example"]


async def test_a_good_provider_shortens_the_wait(rig: Any, autojump_clock: MockClock) -> None:
    rig.dht.found[room(V12)] = [provider("a.example"), trio.Event(), provider("b.example")]
    began_s = trio.current_time()
    await rig.post(JOIN)
    assert trio.current_time() - began_s == pytest.approx(limits.SETTLE_S)
    assert servers(rig.homeserver.requests[0].target) == ["a.example"]


async def test_enough_good_providers_end_the_lookup_at_once(rig: Any, autojump_clock: MockClock) -> None:
    rig.dht.found[room(V12)] = [*[provider(f"{number}.example") for number in range(5)], trio.Event()]
    began_s = trio.current_time()
    await rig.post(JOIN)
    assert trio.current_time() == began_s
    assert len(servers(rig.homeserver.requests[0].target)) == 5
    assert rig.dht.lookups_left == 1


async def test_a_room_that_we_announce_ourselves_waits_less(rig: Any, autojump_clock: MockClock) -> None:
    await rig.dht.announce([Announce(room(V12), "feed")])
    rig.dht.hang.add("lookup")
    began_s = trio.current_time()
    await rig.post(JOIN)
    assert trio.current_time() - began_s == pytest.approx(limits.LOOKUP_AT_HOME_S)


async def test_too_many_lookups_go_on_without(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediadht_bridge.front.finder.LOOKUPS_AT_ONCE_MAX", 0)
    rig.dht.found[room(V12)] = [provider("a.example")]
    await rig.post(JOIN)
    assert rig.homeserver.requests[0].target == JOIN.encode()
    assert metric(rig.dht, "joins", outcome="busy") == 1


async def test_a_server_in_partial_state_is_tried_again(rig: Any, autojump_clock: MockClock) -> None:
    rig.dht.found[room(V12)] = [provider(f"{number}.example", alive_s_ago=number) for number in range(7)]
    rig.homeserver.answers = [reply("502 Bad Gateway", b'{"errcode":"M_UNKNOWN"}'), reply("200 OK", b"{}")]
    began_s = trio.current_time()
    assert (await rig.post(JOIN)).startswith(b"HTTP/1.1 200")
    assert trio.current_time() - began_s == pytest.approx(limits.RETRY_PAUSE_S)
    first, second = (servers(request.target) for request in rig.homeserver.requests)
    assert second[:5] == first
    assert metric(rig.dht, "helped_answers", outcome="joined_on_retry") == 1


async def test_a_liar_cannot_spoil_an_invitation(rig: Any) -> None:
    """An invited user's homeserver asks the inviting server last; a 403 of one that we named would end the join."""
    rig.dht.found[room(V12)] = [provider("liar.example")]
    rig.homeserver.answers = [reply("403 Forbidden", b'{"errcode":"M_FORBIDDEN"}'), reply("200 OK", b'{"room_id":"!"}')]
    target = f"/_matrix/client/v3/rooms/{V12}/join"
    received = await rig.post(target, b'{"extra": 1}')
    assert received.endswith(b'{"room_id":"!"}')
    helped, as_it_came = rig.homeserver.requests
    assert (servers(helped.target), helped.body) == (["liar.example"], b"{}")
    assert (as_it_came.line, as_it_came.body) == (f"POST {target} HTTP/1.1".encode(), b'{"extra": 1}')
    assert metric(rig.dht, "helped_answers", outcome="joined_as_it_came") == 1


async def test_a_join_that_fails_either_way_gets_the_helped_answer(rig: Any) -> None:
    rig.dht.found[room(V12)] = [provider("a.example")]
    refusal = reply("403 Forbidden", b'{"errcode":"M_FORBIDDEN","error":"banned"}', "X-One: 1", "X-One: 2")
    rig.homeserver.answers = [refusal, reply("404 Not Found", NO_SERVERS)]
    received = await rig.post(JOIN)
    assert received.startswith(b"HTTP/1.1 403")
    assert received.endswith(b'"banned"}')
    assert received.count(b"X-One") == 2


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests"])
async def test_what_no_server_can_change_is_not_tried_again(rig: Any, status: str) -> None:
    rig.dht.found[room(V12)] = [provider("a.example")]
    rig.homeserver.answers = [reply(status, b"{}", "Retry-After: 7")]
    received = await rig.post(JOIN)
    assert received.startswith(b"HTTP/1.1 " + status.encode()[:3])
    assert b"Retry-After: 7" in received
    assert len(rig.homeserver.requests) == 1


async def test_an_unanswered_join_is_never_sent_again(rig: Any) -> None:
    rig.dht.found[room(V12)] = [provider("a.example")]
    rig.homeserver.answers = [b""]
    received = await rig.post(JOIN)
    assert received.startswith(b"HTTP/1.1 502")
    assert b'"M_UNKNOWN"' in received
    assert len(rig.homeserver.requests) == 1


async def test_a_homeserver_that_dies_while_we_try_again(rig: Any) -> None:
    rig.dht.found[room(V12)] = [provider("a.example")]
    rig.homeserver.answers = [reply("403 Forbidden", b'{"errcode":"M_FORBIDDEN"}'), b""]
    assert (await rig.post(JOIN)).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("extra", [0, 1])
async def test_a_join_body_of_any_size_arrives(rig: Any, extra: int) -> None:
    """Up to the limit it could be sent again; beyond it is streamed and sent once."""
    rig.dht.found[room(V12)] = [provider("a.example")]
    rig.homeserver.answers = [reply("403 Forbidden", b"{}")]
    body = b'{"reason":"' + b"x" * (limits.JOIN_BODY_BYTES_MAX - 13 + extra) + b'"}'
    assert (await rig.post(JOIN, body)).startswith(b"HTTP/1.1 403")
    assert {request.body for request in rig.homeserver.requests[:1]} == {body}
    assert servers(rig.homeserver.requests[0].target) == ["a.example"]
    assert len(rig.homeserver.requests) == 2 - extra


async def test_a_huge_body_on_the_rooms_path_is_not_rewritten(rig: Any) -> None:
    rig.dht.found[room(V12)] = [provider("a.example")]
    body = b" " * (limits.JOIN_BODY_BYTES_MAX + 70_000)
    target = f"/_matrix/client/v3/rooms/{V12}/join"
    await rig.post(target, body)
    assert (rig.homeserver.requests[0].target, rig.homeserver.requests[0].body) == (target.encode(), body)
    assert metric(rig.dht, "joins", outcome="unfit") == 1


async def test_a_client_that_leaves_takes_its_join_along(rig: Any, nursery: trio.Nursery) -> None:
    rig.homeserver.gate = trio.Event()
    stream = await trio.open_tcp_stream("127.0.0.1", rig.port)
    await stream.send_all(f"POST {JOIN} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    while not rig.homeserver.requests:
        await trio.lowlevel.checkpoint()
    await stream.aclose()
    with trio.fail_after(5):
        await rig.homeserver.closed.wait()
    rig.homeserver.gate.set()
