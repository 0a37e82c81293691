"""The room feed against a homeserver of raw sockets, with a clock that jumps from poll to poll."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from fake_dht import FakeDHT
from listing_homeserver import ADMIN, CountingDHT, FakeHomeserver, Reply
from pydantic import ValidationError
from trio.testing import MockClock

from mediadht.core.errors import ConfigurationError, EnvironmentFault
from mediadht.core.identifiers import room
from mediadht.daemon.face import Announce
from mediadht_bridge.matrix import FeedConfig, run_room_feed
from mediadht_bridge.matrix import room_lists as lists

StartFeed = Callable[..., Awaitable[CountingDHT]]
DIRECTORY = "/_matrix/client/v3/publicRooms"
NOT_ADMIN = (403, {"errcode": "M_FORBIDDEN", "error": "You are not a server admin"}, {})
BAD_TOKEN = (401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token"}, {})


def metric(dht: FakeDHT, name: str, **labels: str) -> float:
    return dht.registry.get_sample_value(f"mediadht_feed_{name}", labels) or 0.0


ids = [f"!{number:05}:hs.example" for number in range(10_000)]


async def test_the_directory_without_a_token(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids[:3])
    homeserver.add(ids[3], join_rules="knock")
    homeserver.add(ids[4], join_rules="restricted")
    homeserver.add(ids[5], join_rules=None)
    homeserver.add(ids[6], public=False)
    homeserver.add("nonsense", "!sha256." + "0" * 64)
    dht = await start_feed()
    await trio.sleep(1)
    assert dht.names() == {*ids[:3], ids[5]}
    assert {each.sources for each in dht.standing.values()} == {frozenset({"feed"})}
    assert homeserver.tokens == []
    assert metric(dht, "rooms") == 4
    assert metric(dht, "last_success_timestamp_seconds") > 0


async def test_the_admin_list_tells_more(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0], public=False)
    homeserver.add(ids[1], joined_local_members=0)
    homeserver.add(ids[2], federatable=False)
    homeserver.add(ids[3], join_rules="invite")
    homeserver.add(ids[4], join_rules=None)
    homeserver.add("!" + "v" * 43)
    dht = await start_feed(access_token="secret")
    await trio.sleep(1)
    assert dht.names() == {ids[0], "!" + "v" * 43}
    assert homeserver.tokens == ["secret"]
    assert all(target.startswith(ADMIN) for target in homeserver.targets)


async def test_ten_thousand_rooms_are_cheap(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids)
    dht = await start_feed(access_token="secret")
    await trio.sleep(1)
    assert len(dht.names()) == 10_000
    assert len(homeserver.targets) == 10
    assert len(dht.calls) == 20
    await trio.sleep(60)
    assert len(homeserver.targets) == 20
    assert len(dht.calls) == 20
    homeserver.add("!new:hs.example")
    await trio.sleep(60)
    assert dht.calls[20:] == [("announce", [room("!new:hs.example")])]


async def test_ten_thousand_rooms_of_the_directory(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids)
    dht = await start_feed()
    await trio.sleep(1)
    assert (len(dht.names()), len(homeserver.targets), len(dht.calls)) == (10_000, 100, 20)


async def test_a_room_left_is_withdrawn_after_two_listings(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids[:3])
    dht = await start_feed(access_token="secret")
    await trio.sleep(1)
    del homeserver.rooms[ids[0]]
    homeserver.rooms[ids[1]]["joined_local_members"] = 0
    await trio.sleep(60)
    assert dht.names() == {*ids[:3]}
    await trio.sleep(60)
    assert dht.names() == {ids[2]}
    assert metric(dht, "changes_total", change="withdrawn") == 2


async def test_a_room_that_turns_private_is_withdrawn_at_once(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids[:2])
    dht = await start_feed(access_token="secret")
    await trio.sleep(1)
    homeserver.rooms[ids[0]]["join_rules"] = "invite"
    await trio.sleep(60)
    assert dht.names() == {ids[1]}


async def test_include_and_exclude(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids[:3])
    homeserver.add(ids[3], ids[4], join_rules="invite")
    homeserver.add(ids[5], federatable=False)
    dht = await start_feed(access_token="s", include=[ids[3], ids[5], ids[9], ids[1]], exclude=[ids[1], ids[2]])
    await trio.sleep(1)
    assert dht.names() == {
        ids[0],
        ids[3],
    }  # ids[9]: the homeserver is not in it; ids[5] cannot be joined from elsewhere
    del homeserver.rooms[ids[3]]
    await trio.sleep(120)
    assert dht.names() == {ids[0]}


async def test_other_sources_keep_their_announcements(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0])
    dht = CountingDHT()
    await dht.announce([Announce(room(ids[0]), "api"), Announce(room(ids[1]), "api")])
    await start_feed(dht, access_token="s")
    await trio.sleep(1)
    assert dht.standing[room(ids[0])].sources == {"api", "feed"}
    homeserver.rooms[ids[0]]["join_rules"] = "invite"
    await trio.sleep(60)
    assert dht.names() == {*ids[:2]}
    assert dht.calls[-1] == ("withdraw", [room(ids[0])])


async def test_a_restart_remembers_what_stands(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0])
    dht = CountingDHT()
    await dht.announce([Announce(room(each), "feed") for each in ids[:2]])
    dht.calls.clear()
    await start_feed(dht, access_token="s")
    await trio.sleep(1)
    assert dht.calls == []
    await trio.sleep(60)
    assert dht.calls == [("withdraw", [room(ids[1])])]


async def test_somebody_elses_withdrawal_is_made_good(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0])
    dht = await start_feed(access_token="s")
    await trio.sleep(1)
    await FakeDHT.withdraw(dht, [room(ids[0])])
    await trio.sleep(60)
    assert dht.names() == {ids[0]}


@pytest.mark.parametrize(
    "failure",
    [
        (500, {}, {}),
        (200, {"rooms": "none"}, {}),
        (200, {"rooms": [], "total_rooms": 5, "next_batch": 0}, {}),
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>",
    ],
)
async def test_a_page_that_fails_changes_nothing(
    homeserver: FakeHomeserver,
    start_feed: StartFeed,
    autojump_clock: MockClock,
    failure: Reply | bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    homeserver.add(*ids[:2500])
    dht = await start_feed(access_token="s")
    await trio.sleep(1)
    homeserver.script = [None, failure] * 4
    caplog.clear()
    await trio.sleep(100)
    assert homeserver.script == []
    assert len(dht.names()) == 2500
    assert metric(dht, "errors_total", why="homeserver") == 4
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert metric(dht, "rooms") == 2500


async def test_an_empty_listing_of_a_restarting_homeserver(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    homeserver.add(*ids[:100])
    dht = await start_feed(access_token="s")
    await trio.sleep(1)
    rooms, homeserver.rooms = homeserver.rooms, {}
    await trio.sleep(4 * 60)
    assert len(dht.names()) == 100
    assert sum("suddenly" in record.message for record in caplog.records) == 1
    homeserver.rooms = rooms
    await trio.sleep(60)
    homeserver.rooms = {}
    await trio.sleep(5 * 60)
    assert dht.names() == set()


async def test_a_short_listing_withdraws_nothing(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids[:20])
    dht = await start_feed(access_token="s")
    await trio.sleep(1)
    short = homeserver._admin_page(0, 15)
    del short["next_batch"]
    homeserver.admin_reply = (200, short, {})
    await trio.sleep(600)
    assert len(dht.names()) == 20


async def test_backoff_and_recovery(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    homeserver.script = [(502, {}, {})] * 3
    homeserver.add(ids[0])
    dht = await start_feed(access_token="s")
    times = []
    for _ in range(4):
        before = len(homeserver.targets)
        while len(homeserver.targets) == before:
            await trio.sleep(0.5)
        times.append(trio.current_time())
    waits = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert waits == [pytest.approx(5, abs=1), pytest.approx(10, abs=1), pytest.approx(20, abs=1)]
    await trio.sleep(1)
    assert dht.names() == {ids[0]}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_429_is_waited_out_within_the_listing(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(*ids[:2500])
    homeserver.script = [None, (429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 30_000}, {}), None, None]
    dht = await start_feed(access_token="s")
    await trio.sleep(25)
    assert len(homeserver.targets) == 2
    await trio.sleep(10)
    assert len(dht.names()) == 2500


async def test_a_long_429_ends_the_listing_and_is_honoured(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.script = [(429, {}, {"Retry-After": "1000"})]
    await start_feed(access_token="s")
    await trio.sleep(990)
    assert len(homeserver.targets) == 1
    await trio.sleep(20)
    assert len(homeserver.targets) == 2


async def test_a_user_token_falls_back_to_the_directory(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0])
    homeserver.admin_reply = NOT_ADMIN
    dht = await start_feed(access_token="s")
    await trio.sleep(61)
    assert dht.names() == {ids[0]}
    paths = [urlsplit(target).path for target in homeserver.targets]
    assert paths == [ADMIN, DIRECTORY, DIRECTORY]
    assert homeserver.tokens == ["s"] * 3


async def test_a_lost_admin_right_does_not_fall_back(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0], public=False)
    dht = await start_feed(access_token="s")
    await trio.sleep(1)
    homeserver.admin_reply = NOT_ADMIN
    await trio.sleep(3600)
    assert dht.names() == {ids[0]}
    assert all(target.startswith(ADMIN) for target in homeserver.targets)
    assert 5 <= len(homeserver.targets) <= 8


async def test_a_bad_token_is_explained_and_its_file_read_anew(
    homeserver: FakeHomeserver,
    start_feed: StartFeed,
    autojump_clock: MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "token"
    path.write_text("old\n")
    homeserver.add(ids[0])
    homeserver.admin_reply = BAD_TOKEN
    dht = await start_feed(access_token_file=path)
    await trio.sleep(1500)
    assert homeserver.tokens == ["old"] * 3
    (record,) = caplog.records
    assert "not valid" in record.message
    assert str(path) in record.message
    homeserver.admin_reply = None
    path.write_text("new\n")
    await trio.sleep(600)
    assert homeserver.tokens[-1] == "new"
    assert dht.names() == {ids[0]}


async def test_no_token_where_one_is_needed_says_what_to_do(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    homeserver.directory_reply = (401, {"errcode": "M_MISSING_TOKEN", "error": "Missing access token"}, {})
    await start_feed()
    await trio.sleep(1)
    assert "allow_public_rooms_without_auth" in caplog.text


async def test_a_disk_that_refuses_is_tried_again(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock
) -> None:
    homeserver.add(ids[0])
    dht = CountingDHT(fail={"announce": EnvironmentFault("disk full")})
    await start_feed(dht, access_token="s")
    await trio.sleep(1)
    assert (dht.names(), metric(dht, "errors_total", why="disk")) == (set(), 1)
    dht.fail.clear()
    await trio.sleep(5)
    assert dht.names() == {ids[0]}


async def test_an_endless_list_is_refused(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "ROOMS_MAX", 1000)
    homeserver.add(*ids[:1001])
    dht = await start_feed(access_token="s")
    await trio.sleep(1)
    assert (dht.names(), metric(dht, "errors_total", why="homeserver")) == (set(), 1)
    del homeserver.rooms[ids[0]]
    await trio.sleep(5)
    assert len(dht.names()) == 1000


async def test_a_huge_page_is_refused(
    homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAGE_BYTES_MAX", 1000)
    homeserver.add(*ids[:100])
    dht = await start_feed()
    await trio.sleep(1)
    assert (dht.names(), metric(dht, "errors_total", why="homeserver")) == (set(), 1)


async def test_only_named_rooms(homeserver: FakeHomeserver, start_feed: StartFeed, autojump_clock: MockClock) -> None:
    homeserver.add(ids[0])
    dht = await start_feed(directory=False, include=[ids[5]])
    await trio.sleep(100)
    assert dht.names() == {ids[5]}
    assert homeserver.targets == []


async def test_what_cannot_work_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="server_name"):
        await run_room_feed(FakeDHT(server_name=None), FeedConfig())
    with pytest.raises(EnvironmentFault, match="token file"):
        await run_room_feed(FakeDHT(), FeedConfig(access_token_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"include": ["#alias:hs.example"]},
        {"exclude": ["!sha256." + "0" * 64]},
        {"access_token": "a", "access_token_file": "/b"},
        {"admin": True},
        {"interval_s": 1},
        {"unknown": 1},
    ],
)
def test_wrong_configuration(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FeedConfig(**wrong)
    assert "secret" not in repr(FeedConfig(access_token="secret"))
