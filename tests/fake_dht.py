"""A DHT of one process and no network, for tests of whatever programs against `mediadht.daemon.face`.

It behaves as the face says; tests steer it by its public attributes: what lookups find and when they go on, what
fails, what hangs. Times are fixed, so equal tests give equal bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio
from prometheus_client import CollectorRegistry

from mediadht.core.errors import CallerError, RemoteError
from mediadht.core.identifiers import Subject
from mediadht.daemon.face import (
    Announce,
    Announcement,
    Lookup,
    LookupSummary,
    PeerStatus,
    Provider,
    Readiness,
    Status,
)

NODE_ID = "ab" * 32


def provider(server_name: str, **changes: object) -> Provider:
    """A provider with usual values."""
    usual = Provider(
        server_name=server_name,
        room_id=None,
        offers=frozenset(),
        node_id=NODE_ID,
        verified=True,
        alive_s_ago=1.0,
        expires_s=1_800_000_000.0,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@dataclass
class FakeLookup:
    """Hands out what was planned; a planned `trio.Event` is waited for first, an exception is raised."""

    plan: Sequence[Provider | trio.Event | Exception]
    providers_max: int
    replicas_answered: int
    handed_out: int = 0
    ended: bool = False

    async def __aiter__(self) -> AsyncIterator[Provider]:
        for step in self.plan:
            await trio.lowlevel.checkpoint()
            match step:
                case trio.Event():
                    await step.wait()
                case Exception():
                    raise step
                case _ if self.handed_out < self.providers_max:
                    self.handed_out += 1
                    yield step
        self.ended = True

    @property
    def summary(self) -> LookupSummary:
        return LookupSummary(
            providers_total=self.handed_out,
            replicas_answered=self.replicas_answered,
            requests=3,
            complete=self.ended,
            first_provider_s=0.001 if self.handed_out else None,
            duration_s=0.002,
        )


@dataclass
class FakeDHT:
    """See the module. `found` maps a subject to the plan of its lookups."""

    server_name: str | None = "own.example"
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    found: dict[Subject, Sequence[Provider | trio.Event | Exception]] = field(default_factory=dict)
    replicas_answered: int = 5
    standing: dict[Subject, Announcement] = field(default_factory=dict)
    known_peers: list[PeerStatus] = field(default_factory=list)
    pings: dict[str, float | Exception] = field(default_factory=dict)
    readiness: Readiness = field(default_factory=lambda: Readiness(True, "a canary was read back", 2.0))
    hang: set[str] = field(default_factory=set)
    """Names of methods that wait for ever."""
    fail: dict[str, Exception] = field(default_factory=dict)
    """Method name to what it raises."""
    lookups: list[tuple[Subject, int, float]] = field(default_factory=list)
    """Of each lookup the subject, the most providers, the deadline in seconds."""
    lookups_left: int = 0
    looking: trio.Event = field(default_factory=trio.Event)
    """Set once a lookup has begun."""
    left: trio.Event = field(default_factory=trio.Event)
    """Set once a lookup's context has been left."""
    _sequence: int = 0

    async def _point(self, method: str) -> None:
        await trio.lowlevel.checkpoint()
        if method in self.fail:
            raise self.fail[method]
        if method in self.hang:
            await trio.sleep_forever()

    @asynccontextmanager
    async def lookup(
        self, subject: Subject, *, providers_max: int = 16, deadline_s: float = 5.0
    ) -> AsyncIterator[Lookup]:
        self.lookups.append((subject, providers_max, deadline_s))
        self.looking.set()
        try:
            await self._point("lookup")
            yield FakeLookup(self.found.get(subject, ()), providers_max, self.replicas_answered)
        finally:
            self.lookups_left += 1
            self.left.set()

    async def announce(self, wishes: Sequence[Announce]) -> list[Announcement]:
        await self._point("announce")
        if self.server_name is None:
            raise CallerError("no server name")
        return [self._announce(wish) for wish in wishes]

    def _announce(self, wish: Announce) -> Announcement:
        before = self.standing.get(wish.subject)
        self._sequence += 1
        self.standing[wish.subject] = Announcement(
            subject=wish.subject,
            sources=frozenset({wish.source}) | (before.sources if before and not before.withdrawn else frozenset()),
            room_id=wish.room_id,
            offers=wish.offers,
            sequence=self._sequence,
            replicas=0,
            withdrawn=False,
            stored_s_ago=None,
            next_in_s=0.0,
            trouble=None,
        )
        return self.standing[wish.subject]

    async def withdraw(self, subjects: Sequence[Subject], *, source: str | None = None) -> list[Subject]:
        await self._point("withdraw")
        ended = []
        for subject in subjects:
            announcement = self.standing.get(subject)
            if announcement is None or announcement.withdrawn:
                continue
            sources = frozenset() if source is None else announcement.sources - {source}
            self.standing[subject] = replace(announcement, sources=sources, withdrawn=not sources)
            if not sources:
                ended.append(subject)
        return ended

    def announcement(self, subject: Subject) -> Announcement | None:
        return self.standing.get(subject)

    def announcements(self) -> list[Announcement]:
        return sorted(self.standing.values(), key=lambda announcement: announcement.subject.key)

    def status(self) -> Status:
        return Status(
            version="0.1.0",
            node_id=NODE_ID,
            server_name=self.server_name,
            endpoints=("wss://own.example/_mediadht",),
            listening=("127.0.0.1:8471",),
            uptime_s=12.5,
            sessions=2,
            table_contacts=3,
            known_contacts=4,
            network_size_estimate=5,
            records_held=6,
            announcements=len(self.standing),
            announcements_pending=0,
            clock_offset_s=None,
            warnings=(),
        )

    def peers(self) -> list[PeerStatus]:
        return self.known_peers

    async def ready(self) -> Readiness:
        await self._point("ready")
        return self.readiness

    async def ping(self, peer: str, *, deadline_s: float = 5.0) -> float:
        await self._point("ping")
        answer = self.pings.get(peer)
        match answer:
            case None:
                raise CallerError(f"nobody known is called {peer[:80]!a}")
            case RemoteError() | CallerError():
                raise answer
            case _:
                assert isinstance(answer, float)
                return answer
