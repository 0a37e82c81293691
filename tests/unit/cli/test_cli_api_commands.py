"""The commands that ask a running daemon, against a fake one: what they ask, print and return."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediadht.cli import api_commands
from mediadht.cli.exit_codes import ExitCode

MEDIA = "sha256." + "ab" * 32
ROOM = "!abc/def:example.org"
ROOM_PATH = "%21abc%2Fdef%3Aexample.org"
NODE = "0f" * 32
PROVIDER = {
    "server_name": "one.example",
    "room_id": ROOM,
    "offers": ["bytes"],
    "node_id": NODE,
    "verified": True,
    "alive_s_ago": 130.0,
    "expires_s": 1.0,
}
SUMMARY = {
    "heard": True,
    "complete": True,
    "providers_total": 1,
    "replicas_answered": 3,
    "requests": 4,
    "first_provider_s": 0.001,
    "duration_s": 0.012,
}
NOTHING = SUMMARY | {"providers_total": 0, "first_provider_s": None}
UNHEARD = NOTHING | {"heard": False, "replicas_answered": 0, "complete": False}
STATUS = {
    "version": "0.1.0",
    "node_id": NODE,
    "server_name": None,
    "endpoints": [],
    "listening": ["127.0.0.1:8471"],
    "uptime_s": 7200.0,
    "sessions": 2,
    "table_contacts": 3,
    "known_contacts": 4,
    "network_size_estimate": 5,
    "records_held": 6,
    "announcements": 7,
    "announcements_pending": 1,
    "clock_offset_s": -0.25,
    "warnings": ["the clock is wrong: set it"],
}
PEER = {
    "node_id": NODE,
    "server_name": "evil\x1b[2J.example",
    "endpoints": ["wss://one.example/dht"],
    "in_table": True,
    "session": "outbound",
    "round_trip_ms": 1.25,
    "heard_s_ago": 3.0,
    "failures": 0,
}
PENDING = {
    "kind": "media",
    "id": MEDIA,
    "state": "pending",
    "sources": ["api"],
    "room_id": None,
    "offers": ["bytes"],
    "sequence": 1,
    "replicas": 0,
    "stored_s_ago": None,
    "next_in_s": 60.0,
    "trouble": "no peer answered",
}
STORED = PENDING | {"state": "stored", "replicas": 20, "stored_s_ago": 0.1, "next_in_s": 79_200.0, "trouble": None}

Cli = Callable[..., Any]


def test_status(cli: Cli, api: Any) -> None:
    api.answer("GET /v1/status", STATUS)
    told = cli("status", "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (ExitCode.OK, STATUS)
    told = cli("status", "--api-listen", api.listen)
    assert told.code == ExitCode.OK
    assert NODE in told.out
    assert "no homeserver, so it announces nothing (set server_name)" in told.out
    assert "2 h" in told.out
    assert "warning: the clock is wrong: set it" in told.out


@pytest.mark.parametrize(
    ("status", "answer", "code", "line"),
    [
        (200, {"ready": True, "why": "stored and read back", "checked_s_ago": 1.0}, 0, "ready: stored and read back\n"),
        (
            503,
            {"ready": False, "errcode": "M_UNKNOWN", "error": "no peer", "checked_s_ago": None},
            1,
            "not ready: no peer\n",
        ),
    ],
)
def test_ready(cli: Cli, api: Any, status: int, answer: dict[str, Any], code: int, line: str) -> None:
    api.answer("GET /health/ready", answer, status)
    told = cli("status", "--ready", "--api-listen", api.listen)
    assert (told.code, told.out) == (code, line)
    told = cli("status", "--ready", "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (code, answer)


def test_announcements_are_listed_page_by_page(cli: Cli, api: Any) -> None:
    pages = iter(
        [
            {"announcements": [PENDING], "total": 2, "next_batch": NODE},
            {"announcements": [STORED], "total": 2, "next_batch": None},
        ]
        * 2
    )
    api.answer("GET /v1/announcements", lambda: next(pages))
    told = cli("status", "--announcements", "--json", "--api-listen", api.listen)
    assert told.json_lines() == [PENDING, STORED]
    assert [target for _, target, _, _ in api.requests] == ["/v1/announcements", f"/v1/announcements?from={NODE}"]
    told = cli("status", "--announcements", "--api-listen", api.listen)
    assert MEDIA in told.out
    assert "no peer answered" in told.out
    assert told.out.endswith("2 announcements\n")


def test_peers(cli: Cli, api: Any) -> None:
    answer = {"peers": [PEER], "total": 9}
    api.answer("GET /v1/peers", answer)
    told = cli("peers", "--limit", 1, "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (ExitCode.OK, answer)
    assert api.requests[0][1] == "/v1/peers?limit=1"
    told = cli("peers", "--api-listen", api.listen)
    assert "\x1b" not in told.out
    assert "evil\\x1b[2J.example" in told.out
    assert "1.2 ms" in told.out
    assert told.out.endswith("1 of 9 peers\n")


def test_ping(cli: Cli, api: Any) -> None:
    api.answer("POST /v1/ping", {"peer": "one.example", "round_trip_ms": 2.5})
    told = cli("ping", "one.example", "--deadline-s", 2, "--api-listen", api.listen)
    assert (told.code, told.out) == (ExitCode.OK, "one.example answered in 2.5 ms\n")
    assert api.requests[0][1:3] == ("/v1/ping?deadline_ms=2000", {"peer": "one.example"})
    told = cli("ping", "one.example", "--json", "--api-listen", api.listen)
    assert told.json() == {"peer": "one.example", "round_trip_ms": 2.5}


def test_ping_by_the_beginning_of_a_node_id(cli: Cli, api: Any) -> None:
    api.answer("GET /v1/peers", {"peers": [PEER | {"node_id": NODE}, PEER | {"node_id": "0e" * 32}], "total": 2})
    api.answer("POST /v1/ping", {"peer": NODE, "round_trip_ms": 2.5})
    assert cli("ping", NODE[:16], "--api-listen", api.listen).code == ExitCode.OK
    assert api.requests[-1][2] == {"peer": NODE}


@pytest.mark.parametrize(
    ("status", "errcode", "code"),
    [(404, "M_NOT_FOUND", ExitCode.NEGATIVE), (502, "M_UNKNOWN", ExitCode.REMOTE), (504, "M_UNKNOWN", ExitCode.REMOTE)],
)
def test_ping_of_nobody_and_of_the_dead(cli: Cli, api: Any, status: int, errcode: str, code: ExitCode) -> None:
    api.refuse("POST /v1/ping", status, errcode, "the peer did not do it")
    told = cli("ping", "x", "--api-listen", api.listen)
    assert (told.code, told.out, told.err) == (code, "", "mediadht: the peer did not do it\n")


def test_lookup_of_media_streams_lines(cli: Cli, api: Any) -> None:
    lines = [{"provider": PROVIDER}, {"summary": SUMMARY}]
    api.answer(f"GET /v1/media/{MEDIA}", lines)
    told = cli("lookup", MEDIA, "--json", "--limit", 3, "--deadline-s", 1.5, "--api-listen", api.listen)
    assert (told.code, told.json_lines()) == (ExitCode.OK, lines)
    _, target, _, headers = api.requests[0]
    assert target == f"/v1/media/{MEDIA}?limit=3&deadline_ms=1500"
    assert headers["Accept"] == "application/x-ndjson"
    told = cli("lookup", MEDIA, "--api-listen", api.listen)
    first, last = told.out.splitlines()
    assert first.split() == ["one.example", "proven", "heard", "2", "min", "ago", "serves", "bytes", "in", ROOM]
    assert last == "1 server in 12 ms (3 replicas answered, 4 requests)"


def test_lookup_of_a_room(cli: Cli, api: Any) -> None:
    api.answer(
        f"GET /v1/rooms/{ROOM_PATH}/via",
        {"room_id": ROOM, "via": ["one.example"], "servers": [PROVIDER], "summary": SUMMARY},
    )
    told = cli("lookup", ROOM, "--json", "--limit", 500, "--api-listen", api.listen)
    assert told.json_lines() == [{"provider": PROVIDER}, {"summary": SUMMARY}]
    assert api.requests[0][1].endswith("/via?deadline_ms=5000&limit=50&include_self=true")


@pytest.mark.parametrize(
    ("summary", "code", "says"),
    [
        (NOTHING, ExitCode.NEGATIVE, "0 servers in 12 ms"),
        (UNHEARD, ExitCode.REMOTE, "ended by its deadline); the DHT could not be heard, so this means nothing"),
    ],
)
def test_lookup_of_what_nobody_has(cli: Cli, api: Any, summary: dict[str, Any], code: ExitCode, says: str) -> None:
    api.answer(f"GET /v1/media/{MEDIA}", [{"summary": summary}])
    told = cli("lookup", MEDIA, "--api-listen", api.listen)
    assert told.code == code
    assert says in told.out


def test_lookup_that_is_broken_off(cli: Cli, api: Any) -> None:
    api.answer(f"GET /v1/media/{MEDIA}", [{"provider": PROVIDER}])
    told = cli("lookup", MEDIA, "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (ExitCode.REMOTE, {"provider": PROVIDER})
    assert "broke off its answer" in told.err


def test_lookup_of_a_file(cli: Cli, api: Any, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"bytes")
    media_id = f"sha256.{hashlib.sha256(b'bytes').hexdigest()}"
    api.answer(f"GET /v1/media/{media_id}", [{"provider": PROVIDER}, {"summary": SUMMARY}])
    told = cli("lookup", path, "--api-listen", api.listen)
    assert told.code == ExitCode.OK
    assert told.err == f"{path} is {media_id}\n"


def test_announce(cli: Cli, api: Any) -> None:
    api.answer(f"PUT /v1/media/{MEDIA}/seeding", PENDING)
    told = cli("announce", MEDIA, "--room", ROOM, "--offer", "bytes", "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (ExitCode.OK, PENDING)
    assert api.requests[0][2] == {"offers": ["bytes"], "room_id": ROOM}
    told = cli("announce", MEDIA, "--api-listen", api.listen)
    assert told.out == f"{MEDIA}: on this disk; the DHT is being told (no peer answered)\n"


def test_announce_a_room(cli: Cli, api: Any) -> None:
    answer = STORED | {"kind": "room", "id": ROOM}
    api.answer(f"PUT /v1/rooms/{ROOM_PATH}/participation", answer)
    told = cli("announce", ROOM, "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (ExitCode.OK, answer)
    assert api.requests[0][2] is None
    told = cli("announce", ROOM, "--offer", "bytes", "--api-listen", api.listen)
    assert told.code == ExitCode.USAGE
    assert "--room and --offer are for media" in told.err


def test_announce_and_wait(cli: Cli, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_commands, "POLL_INTERVAL_S", 0.0)
    states = iter([PENDING, STORED])
    api.answer(f"PUT /v1/media/{MEDIA}/seeding", PENDING)
    api.answer(f"GET /v1/media/{MEDIA}/seeding", lambda: next(states))
    told = cli("announce", MEDIA, "--wait", "--api-listen", api.listen)
    assert (told.code, told.out) == (ExitCode.OK, f"{MEDIA}: stored at 20 nodes, again in 22 h\n")


def test_announce_and_wait_in_vain(cli: Cli, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_commands, "POLL_INTERVAL_S", 0.0)
    api.answer(f"PUT /v1/media/{MEDIA}/seeding", PENDING)
    api.answer(f"GET /v1/media/{MEDIA}/seeding", PENDING)
    told = cli("announce", MEDIA, "--wait", "--deadline-s", 0.1, "--api-listen", api.listen)
    assert (told.code, told.out) == (ExitCode.REMOTE, "")
    assert f"no node has stored {MEDIA} within 0.1 s (no peer answered): the announcement stands" in told.err


@pytest.mark.parametrize(("withdrawn", "code"), [(True, ExitCode.OK), (False, ExitCode.NEGATIVE)])
def test_withdraw(cli: Cli, api: Any, withdrawn: bool, code: ExitCode) -> None:
    api.answer(f"DELETE /v1/media/{MEDIA}/seeding", {"withdrawn": withdrawn})
    told = cli("withdraw", MEDIA, "--json", "--api-listen", api.listen)
    assert (told.code, told.json()) == (code, {"id": MEDIA, "withdrawn": withdrawn})
    assert cli("withdraw", MEDIA, "--api-listen", api.listen).code == code


def test_over_a_unix_socket(cli: Cli, unix_api: Any) -> None:
    unix_api.answer("GET /v1/status", STATUS)
    assert cli("status", "--json", "--api-listen", unix_api.listen).json() == STATUS


def test_the_token_is_sent_and_never_shown(cli: Cli, api: Any, tmp_path: Path) -> None:
    token = "0123456789abcdef" * 2
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    config = tmp_path / "x.toml"
    config.write_text(f'[api]\nlisten = ["{api.listen}"]\ntoken_file = "{tmp_path / "token"}"\n')
    api.refuse("GET /v1/status", 401, "M_UNKNOWN_TOKEN", "that is not the token")
    told = cli("status", "--config", config)
    assert told.code == ExitCode.CONFIGURATION
    assert told.err == (
        f"mediadht: the daemon at {api.listen} refuses us: that is not the token; "
        "name its configuration with --config\n"
    )
    assert api.requests[0][3]["Authorization"] == f"Bearer {token}"
    assert token not in told.out + told.err


def test_json_by_environment(cli: Cli, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answer("GET /v1/status", STATUS)
    monkeypatch.setenv("MEDIADHT_STATUS_JSON", "1")
    monkeypatch.setenv("MEDIADHT_API_LISTEN", api.listen)
    assert json.loads(cli("status").out) == STATUS
