"""`/v1/media`: who has a media file, and whether this server seeds it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response

from mediadht_bridge.api.announcing import announce, describe, withdraw
from mediadht_bridge.api.answers import errors
from mediadht_bridge.api.limits import PROVIDERS_DEFAULT
from mediadht_bridge.api.lookups import NDJSON, LookupStream, collect
from mediadht_bridge.api.models import (
    AnnouncementAnswer,
    MediaAnswer,
    ProviderAnswer,
    SeedingRequest,
    WithdrawnAnswer,
)
from mediadht_bridge.api.params import DeadlineS, MediaSubject, ProvidersLimit, Served

__all__ = ["router"]

router = APIRouter(tags=["media"])

_LINE_SCHEMA: dict[str, Any] = {
    "description": "One line of the stream; the last line is the summary.",
    "oneOf": [
        {
            "type": "object",
            "required": ["provider"],
            "properties": {"provider": {"$ref": "#/components/schemas/ProviderAnswer"}},
        },
        {
            "type": "object",
            "required": ["summary"],
            "properties": {"summary": {"$ref": "#/components/schemas/SummaryAnswer"}},
        },
    ],
}


@router.get(
    "/v1/media/{media_id}",
    summary="Who has this media?",
    response_model=MediaAnswer,
    responses={
        200: {"description": "Who has it; nobody is an empty list.", "content": {NDJSON: {"schema": _LINE_SCHEMA}}},
        **errors(),
    },
)
async def look_up_media(
    served: Served,
    subject: MediaSubject,
    deadline_s: DeadlineS,
    limit: ProvidersLimit = PROVIDERS_DEFAULT,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response | MediaAnswer:
    """Look for servers that have the media.

    With `Accept: application/x-ndjson` the answer is a stream: a line `{"provider": …}` for each server as soon as
    it is known, then a line `{"summary": …}`.
    """
    if _accepts_ndjson(accept):
        return LookupStream(served.dht, subject, providers_max=limit, deadline_s=deadline_s)
    providers, summary = await collect(served.dht, subject, providers_max=limit, deadline_s=deadline_s)
    return MediaAnswer(
        media_id=subject.id,
        providers=[ProviderAnswer.model_validate(provider) for provider in providers],
        summary=summary,
    )


@router.get(
    "/v1/media/{media_id}/seeding",
    summary="Does this server announce this media?",
    response_model=AnnouncementAnswer,
    responses=errors(),
)
async def describe_seeding(served: Served, subject: MediaSubject) -> AnnouncementAnswer:
    """How the announcement stands; 404 if there is none."""
    return describe(served, subject)


@router.put(
    "/v1/media/{media_id}/seeding",
    summary="This server seeds this media",
    response_model=AnnouncementAnswer,
    responses=errors(409, 503),
)
async def start_seeding(
    served: Served, subject: MediaSubject, wish: Annotated[SeedingRequest | None, Body()] = None
) -> AnnouncementAnswer:
    """Announce it until it is withdrawn. It is on disk when this is answered, and reaches the DHT soon after.

    Idempotent: the latest room and offers count.
    """
    wish = wish or SeedingRequest()
    return await announce(served, subject, room_id=wish.room_id, offers=frozenset(wish.offers))


@router.delete(
    "/v1/media/{media_id}/seeding",
    summary="This server no longer seeds this media",
    response_model=WithdrawnAnswer,
    responses=errors(503),
)
async def stop_seeding(served: Served, subject: MediaSubject) -> WithdrawnAnswer:
    """Withdraw the announcement, whoever asked for it. Idempotent; on disk when this is answered."""
    return await withdraw(served, subject)


def _accepts_ndjson(accept: str) -> bool:
    for part in accept.lower().split(","):
        media_type, *parameters = (text.strip() for text in part.split(";"))
        if media_type == NDJSON and "q=0" not in parameters:
            return True
    return False
