"""`/v1/media`: lookups, NDJSON, seeding."""

from __future__ import annotations

import json

import pytest
import trio
from fake_dht import NODE_ID, FakeDHT, provider

from mediadht.core.errors import CallerError, EnvironmentFault
from mediadht.core.identifiers import media
from mediadht.core.records import Offer

MEDIA_ID = "sha256." + "0f" * 32
PATH = f"/v1/media/{MEDIA_ID}"
SUBJECT = media(MEDIA_ID)
ROOM_ID = "!old:one.example"


async def test_lookup_tells_everything_that_is_known(dht, client):
    dht.found[SUBJECT] = [
        provider("one.example", room_id=ROOM_ID, offers=frozenset(Offer)),
        provider("two.example", verified=False, alive_s_ago=None),
    ]
    answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.json() == {
        "media_id": MEDIA_ID,
        "providers": [
            {
                "server_name": "one.example",
                "room_id": ROOM_ID,
                "offers": ["bytes", "history"],
                "node_id": NODE_ID,
                "verified": True,
                "alive_s_ago": 1.0,
                "expires_s": 1_800_000_000.0,
            },
            {
                "server_name": "two.example",
                "room_id": None,
                "offers": [],
                "node_id": NODE_ID,
                "verified": False,
                "alive_s_ago": None,
                "expires_s": 1_800_000_000.0,
            },
        ],
        "summary": {
            "heard": True,
            "complete": True,
            "providers_total": 2,
            "replicas_answered": 5,
            "requests": 3,
            "first_provider_s": 0.001,
            "duration_s": 0.002,
        },
    }
    assert dht.lookups == [(SUBJECT, 16, 5.0)]


@pytest.mark.parametrize(("replicas_answered", "heard"), [(5, True), (0, False)])
async def test_finding_nothing_is_an_answer_that_says_whether_anybody_was_heard(dht, client, replicas_answered, heard):
    dht.replicas_answered = replicas_answered
    answer = await client.get(PATH)
    assert answer.status_code == 200
    assert answer.json()["providers"] == []
    assert answer.json()["summary"]["heard"] is heard


async def test_limit_and_deadline_reach_the_dht(dht, client):
    dht.found[SUBJECT] = [provider(f"s{number}.example") for number in range(9)]
    answer = await client.get(PATH, params={"limit": 7, "deadline_ms": 1_250})
    assert len(answer.json()["providers"]) == 7
    assert dht.lookups == [(SUBJECT, 7, 1.25)]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "limit=", "deadline_ms=0", "deadline_ms=30001", "limit=1&limit=2", "limt=3"],
)
async def test_a_bad_query_is_refused(dht, client, query):
    answer = await client.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errcode"] == "M_INVALID_PARAM"
    assert dht.lookups == []


async def test_a_misspelt_parameter_is_named_with_the_nearest(client):
    answer = await client.get(PATH, params={"deadline_m": 3})
    assert answer.json()["error"] == "this call has no parameter 'deadline_m': did you mean deadline_ms?"


@pytest.mark.parametrize("limit", [1, 500])
async def test_limits_at_their_ends(dht, client, limit):
    assert (await client.get(PATH, params={"limit": limit, "deadline_ms": 30_000})).status_code == 200


async def test_a_lookup_that_hangs_is_answered_at_its_deadline(dht, client, autojump_clock):
    dht.found[SUBJECT] = [provider("one.example"), trio.Event(), provider("two.example")]
    started_s = trio.current_time()
    answer = await client.get(PATH, params={"deadline_ms": 2_000})
    assert trio.current_time() - started_s == pytest.approx(2.25)
    assert [found["server_name"] for found in answer.json()["providers"]] == ["one.example"]
    assert answer.json()["summary"]["complete"] is False
    assert answer.json()["summary"]["heard"] is True
    assert dht.lookups_left == 1


async def test_a_lookup_that_does_not_even_begin_is_answered_at_its_deadline(dht, client, autojump_clock):
    dht.hang.add("lookup")
    answer = await client.get(PATH, params={"deadline_ms": 2_000})
    assert answer.status_code == 200
    assert answer.json()["providers"] == []
    assert answer.json()["summary"] == {
        "heard": False,
        "complete": False,
        "providers_total": 0,
        "replicas_answered": 0,
        "requests": 0,
        "first_provider_s": None,
        "duration_s": pytest.approx(2.25),
    }


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/html, Application/X-NDJSON; q=0.5"])
async def test_ndjson_is_a_line_for_each_provider_and_a_summary(dht, client, accept):
    dht.found[SUBJECT] = [provider("one.example"), provider("two.example")]
    answer = await client.get(PATH, headers={"accept": accept})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [list(line) for line in lines] == [["provider"], ["provider"], ["summary"]]
    assert [line["provider"]["server_name"] for line in lines[:2]] == ["one.example", "two.example"]
    assert lines[2]["summary"]["providers_total"] == 2


@pytest.mark.parametrize("accept", ["*/*", "application/x-ndjson;q=0", "application/json"])
async def test_json_is_the_default(client, accept):
    answer = await client.get(PATH, headers={"accept": accept})
    assert answer.headers["content-type"] == "application/json"


async def test_ndjson_ends_at_the_deadline_with_a_summary(dht, client, autojump_clock):
    dht.found[SUBJECT] = [provider("one.example"), trio.Event()]
    answer = await client.get(PATH, headers={"accept": "application/x-ndjson"}, params={"deadline_ms": 100})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["summary"]["complete"] is False
    assert len(lines) == 2


@pytest.mark.parametrize("path", ["sha256.0F", "sha256." + "0F" * 32, "md5." + "00" * 32, "%20", "..%00"])
@pytest.mark.parametrize(
    ("method", "call"), [("GET", ""), ("GET", "/seeding"), ("PUT", "/seeding"), ("DELETE", "/seeding")]
)
async def test_what_is_no_media_id_is_refused(dht, client, method, call, path):
    answer = await client.request(method, f"/v1/media/{path}{call}")
    assert answer.status_code == 400
    assert answer.json()["errcode"] == "M_INVALID_PARAM"
    assert "is not a media ID" in answer.json()["error"]
    assert dht.lookups == []


async def test_seeding_is_announced_described_and_withdrawn(dht, client):
    path = f"{PATH}/seeding"
    assert (await client.get(path)).status_code == 404
    put = await client.put(path, json={"room_id": ROOM_ID, "offers": ["history", "bytes"]})
    assert put.status_code == 200
    assert put.json() == {
        "kind": "media",
        "id": MEDIA_ID,
        "state": "pending",
        "sources": ["api"],
        "room_id": ROOM_ID,
        "offers": ["bytes", "history"],
        "sequence": 1,
        "replicas": 0,
        "stored_s_ago": None,
        "next_in_s": 0.0,
        "trouble": None,
    }
    assert (await client.get(path)).json() == put.json()
    assert dht.standing[SUBJECT].offers == frozenset(Offer)
    assert (await client.delete(path)).json() == {"withdrawn": True}
    assert (await client.delete(path)).json() == {"withdrawn": False}
    assert (await client.get(path)).json()["state"] == "withdrawing"


async def test_put_twice_is_the_same_and_the_latest_counts(dht, client):
    await client.put(f"{PATH}/seeding", json={"offers": ["bytes"]})
    second = await client.put(f"{PATH}/seeding")
    assert second.status_code == 200
    assert second.json()["offers"] == []
    assert len(dht.standing) == 1


async def test_delete_withdraws_what_others_asked_for_too(dht, client):
    from mediadht.daemon.face import Announce

    await dht.announce([Announce(SUBJECT, "feed")])
    assert (await client.delete(f"{PATH}/seeding")).json() == {"withdrawn": True}
    assert dht.standing[SUBJECT].withdrawn


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"{", "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
        (b"[" * 16_000, "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"3", "M_BAD_JSON"),
        (b'"x"', "M_BAD_JSON"),
        (b'{"offers": 3}', "M_BAD_JSON"),
        (b'{"offers": ["gold"]}', "M_BAD_JSON"),
        (b'{"offers": ["bytes", "bytes", "bytes"]}', "M_BAD_JSON"),
        (b'{"room_id": "nonsense"}', "M_BAD_JSON"),
        (b'{"room_id": "!a\\ud800:b.example"}', "M_BAD_JSON"),
        (b'{"room_id": NaN}', "M_BAD_JSON"),
        (b'{"rooom": 1}', "M_BAD_JSON"),
    ],
)
async def test_a_bad_body_is_refused(dht, client, body, errcode):
    answer = await client.put(f"{PATH}/seeding", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["errcode"] == errcode
    assert dht.standing == {}


async def test_a_body_that_is_not_declared_as_json_is_refused(dht, client):
    answer = await client.put(f"{PATH}/seeding", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["errcode"]) == (415, "M_NOT_JSON")
    assert dht.standing == {}


async def test_without_a_server_name_nothing_can_be_announced(make_client):
    async with make_client(FakeDHT(server_name=None)) as client:
        answer = await client.put(f"{PATH}/seeding")
        assert (answer.status_code, answer.json()["errcode"]) == (409, "M_BAD_STATE")
        assert "set server_name" in answer.json()["error"]
        assert (await client.delete(f"{PATH}/seeding")).json() == {"withdrawn": False}


@pytest.mark.parametrize(
    ("fault", "status", "errcode"),
    [(EnvironmentFault("the disk is full"), 503, "M_UNKNOWN"), (CallerError("no"), 400, "M_INVALID_PARAM")],
)
async def test_what_the_daemon_refuses_is_told(dht, client, fault, status, errcode):
    dht.fail["announce"] = fault
    answer = await client.put(f"{PATH}/seeding")
    assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)
    assert str(fault) in answer.json()["error"]


@pytest.mark.parametrize(("method", "name"), [("PUT", "announce"), ("DELETE", "withdraw")])
async def test_a_disk_that_hangs_is_a_504(dht, client, autojump_clock, method, name):
    dht.hang.add(name)
    answer = await client.request(method, f"{PATH}/seeding")
    assert (answer.status_code, answer.json()["errcode"]) == (504, "M_UNKNOWN")
