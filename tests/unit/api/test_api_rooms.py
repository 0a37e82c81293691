"""`/v1/rooms`: ranked `via`, participation."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fake_dht import FakeDHT, provider

from mediadht.core.identifiers import Kind, room
from mediadht.core.records import Offer
from mediadht_bridge.ranking import rank

ROOM_ID = "!opaque:one.example"
SUBJECT = room(ROOM_ID)
MEDIA_ROOM_ID = "!sha256." + "0f" * 32


def path(room_id: str, call: str = "via") -> str:
    return f"/v1/rooms/{quote(room_id, safe='')}/{call}"


def names(answer) -> list[str]:
    return answer.json()["via"]


async def test_via_is_ranked_verified_then_alive(dht, client):
    dht.found[SUBJECT] = [
        provider("unproven.example", verified=False, alive_s_ago=0.1),
        provider("never.example", alive_s_ago=None),
        provider("old.example", alive_s_ago=900.0),
        provider("fresh.example", alive_s_ago=2.0),
    ]
    answer = await client.get(path(ROOM_ID))
    assert answer.status_code == 200
    assert names(answer) == ["fresh.example", "old.example", "never.example", "unproven.example"]
    assert [server["server_name"] for server in answer.json()["servers"]] == names(answer)
    assert answer.json()["room_id"] == ROOM_ID
    assert answer.json()["summary"]["heard"] is True
    assert dht.lookups == [(SUBJECT, 16, 5.0)]


async def test_ties_are_broken_the_same_way_whatever_the_order_found():
    servers = [provider(f"s{number}.example", alive_s_ago=None) for number in range(6)]
    ranked = rank(SUBJECT, servers)
    assert ranked == rank(SUBJECT, reversed(servers))
    assert ranked != rank(room("!other:one.example"), servers)


async def test_a_server_with_two_nodes_is_named_once_by_its_better_one(dht, client):
    dht.found[SUBJECT] = [provider("two.example", verified=False), provider("two.example", alive_s_ago=3.0)]
    answer = await client.get(path(ROOM_ID))
    assert names(answer) == ["two.example"]
    assert answer.json()["servers"][0]["verified"] is True


async def test_the_own_server_is_left_out_unless_asked_for(dht, client):
    dht.found[SUBJECT] = [provider("own.example"), provider("two.example", alive_s_ago=9.0)]
    assert names(await client.get(path(ROOM_ID))) == ["two.example"]
    assert names(await client.get(path(ROOM_ID), params={"include_self": "true"})) == ["own.example", "two.example"]


@pytest.mark.parametrize(("limit", "asked"), [(1, 7), (10, 16), (50, 75)])
async def test_more_than_the_limit_are_looked_for_so_that_there_is_a_choice(dht, client, limit, asked):
    dht.found[SUBJECT] = [provider(f"s{number}.example", alive_s_ago=float(99 - number)) for number in range(80)]
    answer = await client.get(path(ROOM_ID), params={"limit": limit})
    assert len(names(answer)) == limit
    assert names(answer)[0] == f"s{asked - 1}.example"
    assert dht.lookups[0][1] == asked


@pytest.mark.parametrize("query", ["limit=0", "limit=51", "include_self=perhaps", "own=1"])
async def test_a_bad_query_is_refused(client, query):
    assert (await client.get(f"{path(ROOM_ID)}?{query}")).status_code == 400


async def test_nobody_is_an_empty_list(dht, client):
    dht.replicas_answered = 0
    answer = await client.get(path(ROOM_ID))
    assert (answer.status_code, names(answer)) == (200, [])
    assert answer.json()["summary"]["heard"] is False


@pytest.mark.parametrize(
    "room_id",
    ["!" + "a" * 43, "!with/slash:one.example", "!ü ?#%:one.example:8448", "!a:[2001:db8::1]:80", "!via/via:b.example"],
)
async def test_room_ids_of_every_form_arrive_whole(dht, client, room_id):
    dht.found[room(room_id)] = [provider("two.example")]
    answer = await client.get(path(room_id))
    assert (answer.json()["room_id"], names(answer)) == (room_id, ["two.example"])


@pytest.mark.parametrize(
    "room_id", ["", "x", "!", "!a", "#a:b.example", "!a:b_c", "!a:b.example:70000", "!" + "a" * 300 + ":b"]
)
@pytest.mark.parametrize(
    ("method", "call"),
    [("GET", "via"), ("GET", "participation"), ("PUT", "participation"), ("DELETE", "participation")],
)
async def test_what_is_no_room_id_is_refused(dht, client, method, call, room_id):
    answer = await client.request(method, path(room_id, call))
    assert answer.status_code == 400
    assert answer.json()["errcode"] == "M_INVALID_PARAM"
    assert "is not a room ID" in answer.json()["error"]


async def test_a_media_room_is_looked_up_as_its_media(dht, client):
    dht.found[room(MEDIA_ROOM_ID)] = [provider("two.example", room_id=MEDIA_ROOM_ID)]
    answer = await client.get(path(MEDIA_ROOM_ID))
    assert (answer.json()["room_id"], names(answer)) == (MEDIA_ROOM_ID, ["two.example"])
    assert dht.lookups[0][0].kind is Kind.MEDIA


async def test_participation_is_announced_described_and_withdrawn(dht, client):
    where = path(ROOM_ID, "participation")
    assert (await client.get(where)).json()["errcode"] == "M_NOT_FOUND"
    put = await client.put(where)
    assert put.status_code == 200
    assert put.json()["kind"] == "room"
    assert put.json()["id"] == ROOM_ID
    assert put.json()["sources"] == ["api"]
    assert put.json()["room_id"] is None
    assert (await client.get(where)).json() == put.json()
    assert (await client.put(where, json={})).status_code == 200
    assert (await client.delete(where)).json() == {"withdrawn": True}
    assert (await client.delete(where)).json() == {"withdrawn": False}


async def test_participation_in_a_media_room_keeps_what_seeding_offers(dht, client):
    await client.put(f"/v1/media/{MEDIA_ROOM_ID[1:]}/seeding", json={"offers": ["bytes"]})
    answer = await client.put(path(MEDIA_ROOM_ID, "participation"))
    assert answer.json()["kind"] == "media"
    assert answer.json()["room_id"] == MEDIA_ROOM_ID
    assert answer.json()["offers"] == ["bytes"]
    assert dht.standing[room(MEDIA_ROOM_ID)].offers == {Offer.BYTES}


async def test_participation_in_a_media_room_does_not_revive_withdrawn_offers(dht, client):
    await client.put(f"/v1/media/{MEDIA_ROOM_ID[1:]}/seeding", json={"offers": ["bytes"]})
    await client.delete(path(MEDIA_ROOM_ID, "participation"))
    assert (await client.put(path(MEDIA_ROOM_ID, "participation"))).json()["offers"] == []


async def test_without_a_server_name_nothing_can_be_announced(make_client):
    async with make_client(FakeDHT(server_name=None)) as client:
        assert (await client.put(path(ROOM_ID, "participation"))).status_code == 409
