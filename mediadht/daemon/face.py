"""The daemon's public face: all that the homeserver's side (`mediadht_bridge`) and the command line may know of it.

`DHT` is a protocol, so the bridge's tests run against a small fake and the real daemon alike. Everything here is
frozen data or an abstract method; units stand last in names. Times that leave this module are either ages and
durations in seconds, or Unix times in seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry

from mediadht.core.identifiers import Subject
from mediadht.core.records import Offer

__all__ = [
    "DHT",
    "Announce",
    "Announcement",
    "Lookup",
    "LookupSummary",
    "PeerStatus",
    "Provider",
    "Readiness",
    "Status",
]


@dataclass(frozen=True, slots=True)
class Provider:
    """One server that has the subject, as a checked provider record says."""

    server_name: str
    room_id: str | None
    """The room that holds the media; for a room subject that room itself."""
    offers: frozenset[Offer]
    node_id: str
    """64 hexadecimal digits: the node that signed the record."""
    verified: bool
    """Whether the node has proved that it serves `server_name`. False means unproven, not disproved."""
    alive_s_ago: float | None
    """Seconds since this daemon last heard from the node itself; None if it never did."""
    expires_s: float
    """Unix time at which the record ends unless renewed."""


@dataclass(frozen=True, slots=True)
class LookupSummary:
    """How a lookup ended."""

    providers_total: int
    """Providers that one replica at least says it holds: at least the number handed out."""
    replicas_answered: int
    """Replicas that answered. 0 with no providers means that the DHT could not be heard."""
    requests: int
    complete: bool
    """False when the deadline ended it."""
    first_provider_s: float | None
    """Time from the start until the first provider was handed on."""
    duration_s: float


class Lookup(Protocol):
    """A lookup under way: iterate for providers as they are found, then read `summary`."""

    def __aiter__(self) -> AsyncIterator[Provider]:
        """Each provider once, as it is learned. Ends when the lookup does."""
        ...

    @property
    def summary(self) -> LookupSummary:
        """How it ended; of the state so far while it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Announce:
    """A wish to be announced as a provider of `subject`."""

    subject: Subject
    source: str
    """Who wishes it (`api`, `feed`, `cli`): the announcement stands until every source has withdrawn it."""
    room_id: str | None = None
    """For media, the room that holds it, if known. For a room subject leave it None."""
    offers: frozenset[Offer] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Announcement:
    """One own announcement and how far it has got. It is on disk by the time anybody sees this."""

    subject: Subject
    sources: frozenset[str]
    room_id: str | None
    offers: frozenset[Offer]
    sequence: int
    replicas: int
    """Other nodes that acknowledged it at the latest round; 0 before the first."""
    withdrawn: bool
    stored_s_ago: float | None
    """Seconds since the latest round that enough replicas acknowledged; None if there was none yet."""
    next_in_s: float
    """Seconds until it is stored again."""
    trouble: str | None
    """Why the latest round fell short, for people; None if it did not."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One known contact."""

    node_id: str
    server_name: str | None
    endpoints: tuple[str, ...]
    in_table: bool
    session: str | None
    """`outbound`, `inbound`, or None where there is none."""
    round_trip_ms: float | None
    heard_s_ago: float | None
    failures: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a record can be stored in and read back from the DHT, and how that is known."""

    ready: bool
    why: str
    checked_s_ago: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """What `mediadht status` shows."""

    version: str
    node_id: str
    server_name: str | None
    endpoints: tuple[str, ...]
    listening: tuple[str, ...]
    uptime_s: float
    sessions: int
    table_contacts: int
    known_contacts: int
    network_size_estimate: int
    """Nodes in the network, this one included, estimated from distances; exact in small networks."""
    records_held: int
    announcements: int
    announcements_pending: int
    """Announcements that no replica holds yet."""
    clock_offset_s: float | None
    """Median of the peers' clocks minus ours; None without peers."""
    warnings: tuple[str, ...]
    """Each says what is wrong, why, and what to do."""


class DHT(Protocol):
    """A running daemon."""

    @property
    def server_name(self) -> str | None:
        """The Matrix server that this node serves; None if it serves none and so can announce nothing."""
        ...

    @property
    def registry(self) -> CollectorRegistry:
        """The Prometheus registry with the daemon's metrics; others may register theirs in it."""
        ...

    def lookup(
        self, subject: Subject, *, providers_max: int = 16, deadline_s: float = 5.0
    ) -> AbstractAsyncContextManager[Lookup]:
        """Look for providers of `subject`: at most `providers_max`, for at most `deadline_s` seconds.

        Leaving the context abandons the lookup. Finding nothing is an empty iteration, not an error.
        """
        ...

    async def announce(self, wishes: Sequence[Announce]) -> list[Announcement]:
        """Announce each; returns once all are on disk, with the announcements in the order of `wishes`.

        They reach the DHT in the background and are renewed until withdrawn. Raises CallerError without a server
        name, or EnvironmentFault if the disk refuses (then none of them counts).
        """
        ...

    async def withdraw(self, subjects: Sequence[Subject], *, source: str | None = None) -> list[Subject]:
        """Withdraw `source`'s wish for each; an announcement ends when no source is left (None: all sources).

        Returns those of `subjects` that this ended, once that is on disk; the DHT is told in the background.
        """
        ...

    def announcement(self, subject: Subject) -> Announcement | None:
        """The own announcement of `subject`, if it stands or its withdrawal is still being told."""
        ...

    def announcements(self) -> list[Announcement]:
        """All of them, in the order of their keys."""
        ...

    def status(self) -> Status:
        """A snapshot."""
        ...

    def peers(self) -> list[PeerStatus]:
        """Every contact of the table or with a session, nearest to this node first."""
        ...

    async def ready(self) -> Readiness:
        """The latest canary's outcome; runs one first if there was none lately. Never raises."""
        ...

    async def ping(self, peer: str, *, deadline_s: float = 5.0) -> float:
        """Round-trip time in seconds to `peer`: a node ID, a server name of a known contact, or an endpoint URL.

        Raises CallerError if it names nobody known, RemoteError if it does not answer.
        """
        ...
