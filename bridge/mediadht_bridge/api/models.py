"""What the API reads and writes, as pydantic models: the schemas of `/openapi.json`.

Always holds: units stand last in names; times are ages or durations in seconds, or Unix times in seconds; sets are
sorted lists, so that equal states give equal bytes. A field is never removed and never changes its meaning within /v1.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mediadht.core.identifiers import room
from mediadht.core.records import Offer
from mediadht.daemon.face import Announcement, LookupSummary
from mediadht_bridge.api.examples import ANNOUNCEMENT, MEDIA, ROOM_ID, VIA
from mediadht_bridge.api.limits import PEER_CHARACTERS_MAX
from mediadht_bridge.api.patterns import ROOM_ID_SCHEMA

__all__ = [
    "AnnouncementAnswer",
    "AnnouncementsAnswer",
    "ErrorAnswer",
    "LiveAnswer",
    "MediaAnswer",
    "NotReadyAnswer",
    "PeerAnswer",
    "PeersAnswer",
    "PingAnswer",
    "PingRequest",
    "ProviderAnswer",
    "ProviderLine",
    "ReadyAnswer",
    "SeedingRequest",
    "StatusAnswer",
    "SummaryAnswer",
    "SummaryLine",
    "ViaAnswer",
    "WithdrawnAnswer",
]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


Offers = Annotated[
    list[Offer],
    BeforeValidator(sorted),
    Field(
        description="What it serves: `bytes`, ranges of the file; `history`, the media room back to its create event."
    ),
]


class ErrorAnswer(_Answer):
    """Every error has this form, as in Matrix's own APIs. Further fields may stand beside these."""

    errcode: Annotated[str, Field(description="A Matrix error code.", pattern="^M_[A-Z_]+$")]
    error: Annotated[str, Field(description="What is wrong and what to do, for people.")]


class ProviderAnswer(_Answer):
    """A server that has the media, or is in the room, as its signed record says."""

    server_name: Annotated[str, Field(description="Its Matrix server name.")]
    room_id: Annotated[str | None, Field(description="The room that holds the media, if the record names one.")]
    offers: Offers
    node_id: Annotated[str, Field(description="The DHT node that signed the record.", pattern="^[0-9a-f]{64}$")]
    verified: Annotated[
        bool, Field(description="The node has proved that it serves `server_name`. False: unproven, not disproved.")
    ]
    alive_s_ago: Annotated[
        float | None, Field(description="Seconds since the node itself was last heard from; null if never.")
    ]
    expires_s: Annotated[float, Field(description="Unix time in seconds at which the record ends unless renewed.")]


class SummaryAnswer(_Answer):
    """How a lookup ended."""

    heard: Annotated[
        bool,
        Field(description="Whether the DHT could be heard at all. False with no servers means unknown, not nobody."),
    ]
    complete: Annotated[bool, Field(description="False when the deadline ended the lookup.")]
    providers_total: Annotated[
        int, Field(description="Providers that a replica says it holds: at least as many as were handed out.")
    ]
    replicas_answered: Annotated[int, Field(description="DHT nodes close to the key that answered.")]
    requests: Annotated[int, Field(description="Requests that the lookup sent.")]
    first_provider_s: Annotated[
        float | None, Field(description="Seconds until the first provider was known; null without one.")
    ]
    duration_s: Annotated[float, Field(description="Seconds that the lookup took.")]

    @classmethod
    def of(cls, summary: LookupSummary, *, handed_out: int, cut_off: bool) -> Self:
        """The summary of a lookup that handed out so many providers, and was perhaps cut off by the API itself."""
        return cls(
            heard=summary.replicas_answered > 0 or handed_out > 0,
            complete=summary.complete and not cut_off,
            providers_total=max(summary.providers_total, handed_out),
            replicas_answered=summary.replicas_answered,
            requests=summary.requests,
            first_provider_s=summary.first_provider_s,
            duration_s=summary.duration_s,
        )


class MediaAnswer(_Answer):
    """Who has a media file."""

    model_config = ConfigDict(json_schema_extra={"examples": [MEDIA]})

    media_id: Annotated[str, Field(description="The media ID asked for.")]
    providers: Annotated[
        list[ProviderAnswer], Field(description="In the order in which they were found; may be empty.")
    ]
    summary: SummaryAnswer


class ProviderLine(_Answer):
    """A line of the NDJSON stream: one provider, as soon as it is known."""

    provider: ProviderAnswer


class SummaryLine(_Answer):
    """The last line of the NDJSON stream. A stream without it was cut off."""

    summary: SummaryAnswer


class ViaAnswer(_Answer):
    """Through which servers a room can be joined."""

    model_config = ConfigDict(json_schema_extra={"examples": [VIA]})

    room_id: Annotated[str, Field(description="The room ID asked for.")]
    via: Annotated[list[str], Field(description="Server names, best first: the `via` of a join. May be empty.")]
    servers: Annotated[list[ProviderAnswer], Field(description="The same servers in the same order, in detail.")]
    summary: SummaryAnswer


class AnnouncementAnswer(_Answer):
    """One announcement of this server, and how far it has got."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANNOUNCEMENT]})

    kind: Annotated[Literal["media", "room"], Field(description="What it is about.")]
    id: Annotated[str, Field(description="The media ID or room ID.")]
    state: Annotated[
        Literal["pending", "stored", "withdrawing"],
        Field(
            description="`pending`: on this disk, not yet in the DHT; `stored`: replicas hold it; "
            "`withdrawing`: it has ended, the replicas are being told."
        ),
    ]
    sources: Annotated[list[str], BeforeValidator(sorted), Field(description="Who asked for it: `api`, `feed`, `cli`.")]
    room_id: Annotated[str | None, Field(description="The room that holds the media, if one was given.")]
    offers: Offers
    sequence: Annotated[int, Field(description="Of the record; a newer one has a greater one.")]
    replicas: Annotated[int, Field(description="Other nodes that acknowledged the latest round; 0 before the first.")]
    stored_s_ago: Annotated[
        float | None, Field(description="Seconds since the latest acknowledged round; null before the first.")
    ]
    next_in_s: Annotated[float, Field(description="Seconds until it is stored again.")]
    trouble: Annotated[str | None, Field(description="Why the latest round fell short; null if it did not.")]

    @classmethod
    def of(cls, announcement: Announcement) -> Self:
        """The answer that describes `announcement`."""
        stands = "stored" if announcement.replicas else "pending"
        return cls.model_validate(
            {
                "kind": announcement.subject.kind.value,
                "id": announcement.subject.id,
                "state": "withdrawing" if announcement.withdrawn else stands,
                "sources": announcement.sources,
                "room_id": announcement.room_id,
                "offers": announcement.offers,
                "sequence": announcement.sequence,
                "replicas": announcement.replicas,
                "stored_s_ago": announcement.stored_s_ago,
                "next_in_s": announcement.next_in_s,
                "trouble": announcement.trouble,
            }
        )


class AnnouncementsAnswer(_Answer):
    """A page of the announcements, in the order of their DHT keys."""

    announcements: list[AnnouncementAnswer]
    total: Annotated[int, Field(description="Announcements on all pages.")]
    next_batch: Annotated[str | None, Field(description="The `from` of the next page; null on the last.")]


class WithdrawnAnswer(_Answer):
    """The outcome of a DELETE."""

    withdrawn: Annotated[bool, Field(description="Whether this call ended it; false if there was nothing to end.")]


class PeerAnswer(_Answer):
    """A node that this one knows."""

    node_id: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    server_name: str | None
    endpoints: list[str]
    in_table: Annotated[bool, Field(description="Whether it is in the routing table.")]
    session: Annotated[str | None, Field(description="`outbound`, `inbound`, or null where there is none.")]
    round_trip_ms: float | None
    heard_s_ago: float | None
    failures: Annotated[int, Field(description="Lost answers in a row.")]


class PeersAnswer(_Answer):
    """The peers nearest to this node first."""

    peers: list[PeerAnswer]
    total: Annotated[int, Field(description="Peers known, on this page or not.")]


class PingAnswer(_Answer):
    """How long a peer took to answer."""

    peer: Annotated[str, Field(description="The peer as the request named it.")]
    round_trip_ms: float


class StatusAnswer(_Answer):
    """The daemon's state."""

    version: str
    node_id: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    server_name: Annotated[str | None, Field(description="The Matrix server served; null: nothing can be announced.")]
    endpoints: Annotated[list[str], Field(description="Addresses under which peers reach this node.")]
    listening: list[str]
    uptime_s: float
    sessions: int
    table_contacts: int
    known_contacts: int
    network_size_estimate: Annotated[int, Field(description="Nodes in the network, this one included.")]
    records_held: Annotated[int, Field(description="Records kept for others.")]
    announcements: int
    announcements_pending: Annotated[int, Field(description="Announcements that no replica holds yet.")]
    clock_offset_s: Annotated[float | None, Field(description="The peers' clocks minus ours; null without peers.")]
    warnings: Annotated[list[str], Field(description="What is wrong, why, and what to do.")]


class LiveAnswer(_Answer):
    """The process answers."""

    live: Literal[True] = True


class ReadyAnswer(_Answer):
    """A record was stored in the DHT and read back, or there are no peers to store it at."""

    ready: Literal[True]
    why: Annotated[str, Field(description="How that is known.")]
    checked_s_ago: Annotated[float | None, Field(description="Age of the check in seconds.")]


class NotReadyAnswer(ErrorAnswer):
    """The DHT cannot be used now."""

    ready: Literal[False]
    checked_s_ago: float | None


def _checked_room_id(value: str) -> str:
    room(value)
    return value


class SeedingRequest(BaseModel):
    """How this server seeds a media file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"room_id": ROOM_ID, "offers": ["bytes"]}]},
    )

    room_id: Annotated[
        Annotated[str, AfterValidator(_checked_room_id), Field(json_schema_extra=ROOM_ID_SCHEMA)] | None,
        Field(description="The room that holds the media, if there is one."),
    ] = None
    offers: Annotated[
        list[Offer],
        Field(
            description="What this server serves: `bytes`, ranges of the file; `history`, the media room back to its "
            "create event. Announce `history` only once that event is held.",
            max_length=len(Offer),
        ),
    ] = []


class PingRequest(BaseModel):
    """Whom to ping."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"peer": "example.org"}]})

    peer: Annotated[
        str,
        Field(
            description="A node ID (64 hexadecimal digits), the server name of a known peer, or an endpoint URL.",
            min_length=1,
            max_length=PEER_CHARACTERS_MAX,
        ),
    ]
