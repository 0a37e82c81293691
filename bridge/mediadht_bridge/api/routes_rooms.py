"""`/v1/rooms`: through whom a room can be joined, and whether this server is in it."""

from __future__ import annotations

from fastapi import APIRouter

from mediadht.core.identifiers import Kind, Subject
from mediadht.core.records import Offer
from mediadht_bridge.api.announcing import announce, describe, withdraw
from mediadht_bridge.api.answers import errors
from mediadht_bridge.api.limits import VIA_DEFAULT
from mediadht_bridge.api.models import AnnouncementAnswer, ProviderAnswer, ViaAnswer, WithdrawnAnswer
from mediadht_bridge.api.params import Context, DeadlineS, IncludeSelf, RoomIdPath, RoomSubject, Served, ViaLimit
from mediadht_bridge.api.via import find_via

__all__ = ["router"]

router = APIRouter(tags=["rooms"])

# `:path` because the opaque part of an old room ID may hold a slash, which arrives decoded.


@router.get(
    "/v1/rooms/{room_id:path}/via",
    summary="Through which servers can this room be joined?",
    response_model=ViaAnswer,
    responses=errors(),
)
async def look_up_via(  # noqa: PLR0917 - the framework passes them by name
    served: Served,
    room_id: RoomIdPath,
    subject: RoomSubject,
    deadline_s: DeadlineS,
    limit: ViaLimit = VIA_DEFAULT,
    include_self: IncludeSelf = False,
) -> ViaAnswer:
    """Servers in the room, best first: proven ones, then those heard from most recently."""
    via = await find_via(served.dht, subject, deadline_s=deadline_s, limit=limit, include_self=include_self)
    return ViaAnswer(
        room_id=room_id,
        via=via.names,
        servers=[ProviderAnswer.model_validate(server) for server in via.servers],
        summary=via.summary,
    )


@router.get(
    "/v1/rooms/{room_id:path}/participation",
    summary="Does this server announce that it is in this room?",
    response_model=AnnouncementAnswer,
    responses=errors(),
)
async def describe_participation(served: Served, subject: RoomSubject) -> AnnouncementAnswer:
    """How the announcement stands; 404 if there is none."""
    return describe(served, subject)


@router.put(
    "/v1/rooms/{room_id:path}/participation",
    summary="This server is in this room",
    response_model=AnnouncementAnswer,
    responses=errors(409, 503),
)
async def start_participation(served: Served, room_id: RoomIdPath, subject: RoomSubject) -> AnnouncementAnswer:
    """Announce it until it is withdrawn. It is on disk when this is answered, and reaches the DHT soon after.

    Idempotent. For a media room, `!sha256.<hex>`, this announces the media and leaves offers made by a `PUT` of its
    seeding as they are.
    """
    if subject.kind is Kind.ROOM:
        return await announce(served, subject, room_id=None, offers=frozenset())
    return await announce(served, subject, room_id=room_id, offers=_offers_so_far(served, subject))


@router.delete(
    "/v1/rooms/{room_id:path}/participation",
    summary="This server is no longer in this room",
    response_model=WithdrawnAnswer,
    responses=errors(503),
)
async def stop_participation(served: Served, subject: RoomSubject) -> WithdrawnAnswer:
    """Withdraw the announcement, whoever asked for it. Idempotent; on disk when this is answered."""
    return await withdraw(served, subject)


def _offers_so_far(served: Context, subject: Subject) -> frozenset[Offer]:
    announcement = served.dht.announcement(subject)
    return frozenset() if announcement is None or announcement.withdrawn else announcement.offers
