"""Lookups and pings of the owner's, between the node's notices and the tasks that wait for them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from mediadht.core.errors import RemoteError
from mediadht.core.events import Cancel, LookupEnded, PingEnded, ProviderFound, StartLookup, StartPing
from mediadht.core.identifiers import Kind, Subject
from mediadht.core.keys import node_id_hex
from mediadht.daemon.driver import Driver
from mediadht.daemon.face import LookupSummary, Provider

__all__ = ["LookupStats", "Lookups", "RunningLookup"]


class LookupStats:
    """Counts and sums since the start."""

    __slots__ = ("ended", "found", "incomplete", "requests", "seconds", "started")

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.found = 0
        self.incomplete = 0
        self.requests = 0
        self.seconds = 0.0


class RunningLookup:
    """Implements `face.Lookup`: filled by notices, emptied by one reader."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._started_s = trio.current_time()
        self._providers: list[Provider] = []
        self._handed_on = 0
        self._news = trio.Event()
        self._first_s: float | None = None
        self._ended: LookupEnded | None = None
        self._ended_s: float | None = None

    def found(self, notice: ProviderFound) -> None:
        """Take a provider."""
        record, payload = notice.record, notice.payload
        if self._first_s is None:
            self._first_s = trio.current_time() - self._started_s
        room_id = payload.room_id if self._subject.kind is Kind.MEDIA else self._subject.id
        self._providers.append(
            Provider(
                server_name=record.server_name,
                room_id=room_id,
                offers=payload.offers,
                node_id=node_id_hex(record.node_id),
                verified=False,
                alive_s_ago=notice.alive_s_ago,
                expires_s=float(record.expires_s),
            )
        )
        self._news.set()

    def ended(self, notice: LookupEnded) -> None:
        """Take the end."""
        self._ended = notice
        self._ended_s = trio.current_time()
        self._news.set()

    @property
    def outcome(self) -> LookupEnded | None:
        """The node's own account of the end."""
        return self._ended

    @property
    def summary(self) -> LookupSummary:
        ended = self._ended
        return LookupSummary(
            providers_total=ended.providers_total if ended else len(self._providers),
            replicas_answered=ended.replicas_answered if ended else 0,
            requests=ended.requests if ended else 0,
            complete=ended is not None and ended.complete,
            first_provider_s=self._first_s,
            duration_s=(self._ended_s or trio.current_time()) - self._started_s,
        )

    def __aiter__(self) -> AsyncIterator[Provider]:
        return self

    async def __anext__(self) -> Provider:
        while self._handed_on >= len(self._providers):
            if self._ended is not None:
                raise StopAsyncIteration
            self._news = trio.Event()
            await self._news.wait()
        provider = self._providers[self._handed_on]
        self._handed_on += 1
        return provider


class Lookups:
    """Numbers operations and leads notices to whoever waits."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._next = 0
        self._running: dict[int, RunningLookup] = {}
        self._pings: dict[int, tuple[trio.Event, list[PingEnded]]] = {}
        self.stats = LookupStats()

    async def start(self, subject: Subject, providers_max: int, deadline_s: float) -> tuple[int, RunningLookup]:
        """Start a lookup; end it with `stop`."""
        self._next += 1
        number, running = self._next, RunningLookup(subject)
        self._running[number] = running
        self.stats.started += 1
        await self._driver.step(StartLookup(number, subject, providers_max, deadline_s))
        return number, running

    async def stop(self, number: int) -> None:
        """The reader has had enough."""
        running = self._running.pop(number, None)
        if running is not None and running.outcome is None:
            with trio.CancelScope(shield=True):
                await self._driver.step(Cancel(number))

    async def ping(self, node_id: int, deadline_s: float) -> float:
        """Round-trip time in seconds. Raises RemoteError if no answer comes."""
        self._next += 1
        number, event, result = self._next, trio.Event(), list[PingEnded]()
        self._pings[number] = (event, result)
        try:
            await self._driver.step(StartPing(number, node_id, deadline_s))
            await event.wait()
        finally:
            del self._pings[number]
        if result[0].round_trip_s is None:
            raise RemoteError(result[0].code, "the peer did not answer")
        return result[0].round_trip_s

    def told(self, notice: ProviderFound | LookupEnded | PingEnded) -> None:
        """Lead a notice to its operation, if somebody still waits for it."""
        match notice:
            case ProviderFound(operation):
                if operation in self._running:
                    self._running[operation].found(notice)
            case LookupEnded(operation):
                running = self._running.get(operation)
                if running is not None:
                    running.ended(notice)
                    self._count(notice, running)
            case PingEnded(operation):
                if operation in self._pings:
                    event, result = self._pings[operation]
                    result.append(notice)
                    event.set()

    def _count(self, notice: LookupEnded, running: RunningLookup) -> None:
        self.stats.ended += 1
        self.stats.found += notice.providers_total > 0
        self.stats.incomplete += not notice.complete
        self.stats.requests += notice.requests
        self.stats.seconds += running.summary.duration_s
