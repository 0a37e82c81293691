"""The commands against the real HTTP API over a fake DHT: the fake API of the other tests says nothing untrue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry

from mediadht.cli.exit_codes import ExitCode
from mediadht.core.errors import CallerError, Code, RemoteError
from mediadht.core.identifiers import Subject, media, room
from mediadht.core.records import Offer
from mediadht.daemon.face import (
    Announce,
    Announcement,
    LookupSummary,
    PeerStatus,
    Provider,
    Readiness,
    Status,
)
from mediadht_bridge.api import ApiConfig, serve_api

MEDIA = "sha256." + "ab" * 32
ROOM = "!abc/def:example.org"
NODE = "0f" * 32
PROVIDER = Provider("one.example", ROOM, frozenset({Offer.BYTES}), NODE, True, 3.0, 1e10)
Ask = Callable[..., Any]


class FakeDht:
    """Knows one provider of one media and one room, and keeps announcements in a dictionary."""

    server_name = "own.example"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.held = {media(MEDIA): PROVIDER, room(ROOM): replace(PROVIDER, room_id=None, offers=frozenset())}
        self.own: dict[Subject, Announcement] = {}
        self.is_ready = True

    @asynccontextmanager
    async def lookup(self, subject: Subject, *, providers_max: int = 16, deadline_s: float = 5.0) -> AsyncIterator[Any]:
        found = [self.held[subject]] if subject in self.held else []

        class Lookup:
            summary = LookupSummary(len(found), 3, 4, True, 0.001 if found else None, 0.002)

            async def __aiter__(self) -> AsyncIterator[Provider]:
                for provider in found:
                    yield provider

        yield Lookup()

    async def announce(self, wishes: Sequence[Announce]) -> list[Announcement]:
        for wish in wishes:
            pending = Announcement(
                wish.subject, frozenset({wish.source}), wish.room_id, wish.offers, 1, 0, False, None, 9.0, "no peer yet"
            )
            self.own.setdefault(wish.subject, pending)
        return [self.own[wish.subject] for wish in wishes]

    async def withdraw(self, subjects: Sequence[Subject], *, source: str | None = None) -> list[Subject]:
        return [subject for subject in subjects if self.own.pop(subject, None)]

    def announcement(self, subject: Subject) -> Announcement | None:
        if subject in self.own:  # stored by the time anybody asks
            self.own[subject] = replace(self.own[subject], replicas=3, stored_s_ago=0.0, trouble=None)
        return self.own.get(subject)

    def announcements(self) -> list[Announcement]:
        return sorted(self.own.values(), key=lambda one: one.subject.key)

    def status(self) -> Status:
        return Status(
            "0", NODE, "own.example", (), ("127.0.0.1:1",), 1.0, 0, 0, 0, 1, 0, len(self.own), 0, None, ("mind this",)
        )

    def peers(self) -> list[PeerStatus]:
        return [PeerStatus(NODE, "one.example", ("wss://one.example/",), True, "outbound", 1.0, 2.0, 0)]

    async def ready(self) -> Readiness:
        return Readiness(self.is_ready, "because", 1.0)

    async def ping(self, peer: str, *, deadline_s: float = 5.0) -> float:
        if peer == "one.example":
            return 0.0025
        if peer == "dead.example":
            raise RemoteError(Code.TIMED_OUT, "no answer")
        raise CallerError(f"no known peer is called {peer}")


@pytest.fixture
def dht() -> FakeDht:
    return FakeDht()


@pytest.fixture
async def ask(dht: FakeDht, cli: Callable[..., Any], nursery: trio.Nursery) -> Ask:
    """Runs a command against the API, in a thread."""
    config = ApiConfig(listen=("127.0.0.1:0",))
    [address] = await nursery.start(serve_api, dht, config)

    async def run(*words: object) -> Any:
        return await trio.to_thread.run_sync(partial(cli, *words, "--api-listen", address.removeprefix("http://")))

    return run


async def test_lookups(ask: Ask) -> None:
    for what in (MEDIA, f"!{MEDIA}", ROOM):
        told = await ask("lookup", what, "--json")
        first, last = told.json_lines()
        assert first["provider"]["server_name"] == "one.example"
        assert last["summary"]["replicas_answered"] == 3
        assert (await ask("lookup", what)).out.startswith("one.example ")
    for nobodys in ("sha256." + "00" * 32, "!nobody:example.org"):
        told = await ask("lookup", nobodys)
        assert (told.code, told.err) == (ExitCode.NEGATIVE, "")
        assert told.out.startswith("0 servers in 2 ms")


async def test_announcements_from_beginning_to_end(ask: Ask, dht: FakeDht) -> None:
    told = await ask("announce", MEDIA, "--room", ROOM, "--offer", "bytes", "--offer", "history", "--json")
    assert (told.code, told.json()["state"], told.json()["offers"]) == (ExitCode.OK, "pending", ["bytes", "history"])
    told = await ask("announce", MEDIA, "--wait")
    assert (told.code, told.out) == (ExitCode.OK, f"{MEDIA}: stored at 3 nodes, again in 9 s\n")
    assert (await ask("announce", ROOM, "--wait")).code == ExitCode.OK
    told = await ask("status", "--announcements", "--json")
    assert {one["id"] for one in told.json_lines()} == {MEDIA, ROOM}
    assert (await ask("status", "--announcements")).out.endswith("2 announcements\n")
    for what in (MEDIA, ROOM):
        assert (await ask("withdraw", what)).code == ExitCode.OK
        assert (await ask("withdraw", what)).code == ExitCode.NEGATIVE
    assert dht.own == {}


async def test_status_and_peers(ask: Ask, dht: FakeDht) -> None:
    assert (await ask("status", "--json")).json()["node_id"] == NODE
    assert "warning: mind this\n" in (await ask("status")).out
    assert (await ask("status", "--ready")).out == "ready: because\n"
    dht.is_ready = False
    told = await ask("status", "--ready")
    assert (told.code, told.out) == (ExitCode.NEGATIVE, "not ready: because\n")
    assert (await ask("peers", "--json")).json()["peers"][0]["node_id"] == NODE
    assert (await ask("peers")).out.endswith("1 peer\n")


async def test_ping(ask: Ask) -> None:
    assert (await ask("ping", "one.example")).out == "one.example answered in 2.5 ms\n"
    told = await ask("ping", "dead.example")
    assert told.code == ExitCode.REMOTE
    assert "no answer" in told.err
    told = await ask("ping", "nobody.example")
    assert (told.code, told.err) == (ExitCode.NEGATIVE, "mediadht: no known peer is called nobody.example\n")


async def test_a_daemon_without_a_server_name_announces_nothing(ask: Ask, dht: FakeDht) -> None:
    dht.server_name = None  # type: ignore[assignment]
    told = await ask("announce", ROOM)
    assert told.code == ExitCode.CONFIGURATION
    assert "set server_name" in told.err
