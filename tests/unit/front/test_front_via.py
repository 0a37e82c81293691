"""Reading joins and adding servers: the pure part of the front."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, quote

import pytest
from fake_dht import provider
from hypothesis import given
from hypothesis import strategies as st

from mediadht_bridge.front.via import add_servers, body_for_join, parse_join, rank

V12 = "!" + "a" * 43
ROOMS = [V12, "!abc:example.org", "!ä ö/%:example.org:8448", "!x:[2001:db8::1]:1"]


@pytest.mark.parametrize("version", ["v3", "r0"])
@pytest.mark.parametrize("room_id", ROOMS)
def test_both_paths_and_versions(version: str, room_id: str) -> None:
    raw = quote(room_id, safe="").encode()
    for path in (b"/join/" + raw, b"/rooms/" + raw + b"/join"):
        join = parse_join("POST", b"/_matrix/client/" + version.encode() + path)
        assert join is not None
        assert join.room_id == room_id
        assert join.path == b"/_matrix/client/" + version.encode() + b"/join/" + raw
        assert join.servers_ignored == path.startswith(b"/rooms")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/_matrix/client/v3/join/{V12}"),
        ("OPTIONS", f"/_matrix/client/v3/join/{V12}"),
        ("POST", "/_matrix/client/v3/join/%23alias%3Aexample.org"),
        ("POST", "/_matrix/client/v3/join/!short"),
        ("POST", "/_matrix/client/v3/join/%ff%fe"),
        ("POST", "/_matrix/client/v3/join/"),
        ("POST", f"/_matrix/client/v3/join/{V12}/"),
        ("POST", f"/_matrix/client/v3/join/{V12}/x"),
        ("POST", f"/_matrix/client/unstable/join/{V12}"),
        ("POST", f"/_matrix/client/v3/rooms/{V12}/leave"),
        ("POST", f"/x/_matrix/client/v3/join/{V12}"),
        ("POST", f"/_matrix/client/v3/join/{V12}\n"),
    ],
)
def test_what_is_no_join_by_room_id(method: str, path: str) -> None:
    assert parse_join(method, path.encode()) is None


def join_of(room_id: str = V12, *, rooms: bool = False):
    path = f"/_matrix/client/v3/rooms/{room_id}/join" if rooms else f"/_matrix/client/v3/join/{room_id}"
    join = parse_join("POST", path.encode())
    assert join is not None
    return join


def fields(target: bytes | None) -> dict[str, list[str]]:
    assert target is not None
    return parse_qs(target.partition(b"?")[2].decode())


def test_the_clients_servers_stay_first_and_nobody_comes_twice() -> None:
    query = b"via=a.example&foo=%7Ebar&via=b.example"
    target = add_servers(join_of(), query, ["b.example", "c.example"])
    assert target is not None
    assert target.startswith(f"/_matrix/client/v3/join/{V12}?".encode() + query + b"&")
    assert fields(target)["via"] == ["a.example", "b.example", "c.example"]
    assert fields(target)["server_name"] == ["a.example", "b.example", "c.example"]


def test_the_older_server_name_is_not_hidden_by_our_via() -> None:
    target = add_servers(join_of(), b"server_name=a.example", ["c.example"])
    assert fields(target) == {"via": ["a.example", "c.example"], "server_name": ["a.example", "c.example"]}


def test_nothing_to_add() -> None:
    assert add_servers(join_of(), b"via=a.example", ["a.example"]) is None
    assert add_servers(join_of(), b"via=a.example", []) is None
    assert add_servers(join_of(), b"&".join([b"via=x"] * 201), ["a.example"]) is None


@given(
    st.lists(st.sampled_from(["via", "server_name", "x", "access_token"]).map(lambda name: name + "=v%20%41.example")),
    st.lists(st.sampled_from(["a.example", "[::1]:1", "b.example:8448", "v A.example"]), unique=True, min_size=1),
)
def test_the_query_is_always_a_prefix(client: list[str], servers: list[str]) -> None:
    query = "&".join(client).encode()
    target = add_servers(join_of(), query, servers)
    if target is not None:
        assert target.startswith(join_of().path + b"?" + query)
        found = fields(target)
        assert found["via"] == list(dict.fromkeys(found["via"])) or query.count(b"via=") > 1
        assert set(servers) <= set(found["via"]) == set(found["server_name"])


@pytest.mark.parametrize(
    ("body", "rewritten"),
    [
        (b"", b""),
        (b"{}", b"{}"),
        (b' {"reason": "hi"}', b' {"reason": "hi"}'),
        (b'{"reason":"hi","displayname":"x"}', b'{"reason": "hi"}'),
        (b'{"membership":"ban"}', b"{}"),
        (b'{"third_party_signed":{}}', None),
        (b"[]", None),
        (b"{", None),
        (b"\xff", None),
        (b"[" * 60_000, None),
    ],
)
def test_the_body_of_a_rewritten_join(body: bytes, rewritten: bytes | None) -> None:
    assert body_for_join(join_of(rooms=True), body) == rewritten
    assert body_for_join(join_of(), body) == body
    if rewritten:
        json.loads(rewritten)


def test_rank_puts_the_verified_and_the_recently_alive_first() -> None:
    providers = [
        provider("unproven.example", verified=False, alive_s_ago=0.1),
        provider("silent.example", alive_s_ago=None),
        provider("old.example", alive_s_ago=500.0),
        provider("fresh.example", alive_s_ago=1.0),
        provider("fresh.example", alive_s_ago=2.0),
        provider("own.example"),
        provider("not a name"),
    ]
    order = ["fresh.example", "old.example", "silent.example", "unproven.example"]
    assert rank(join_of(), providers, "own.example") == order


def test_a_media_id_as_room_id_takes_only_providers_of_that_very_room() -> None:
    room_id = "!sha256." + "0" * 64
    providers = [
        provider("literal.example", room_id=room_id),
        provider("ordinary.example", room_id=V12),
        provider("plain.example", room_id=None),
    ]
    assert sorted(rank(join_of(room_id), providers, None)) == ["literal.example", "plain.example"]
