"""Path and query parameters: declared once, with their bounds, for the routes and for the OpenAPI document.

Always holds: an ID has passed `mediadht.core.identifiers` before a route sees it, and a query parameter that the call
does not know is an error: a misspelt `deadline_ms` must not silently mean none.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from mediadht.core.identifiers import Subject, media, room
from mediadht.daemon.face import DHT
from mediadht_bridge.api import examples
from mediadht_bridge.api.config import ApiConfig
from mediadht_bridge.api.faults import Fault
from mediadht_bridge.api.limits import (
    DEADLINE_MS_MAX,
    PAGE_MAX,
    PEERS_MAX,
    PROVIDERS_MAX,
    VIA_MAX,
)
from mediadht_bridge.api.patterns import MEDIA_ID_SCHEMA, ROOM_ID_SCHEMA

__all__ = [
    "Context",
    "DeadlineS",
    "FromKey",
    "IncludeSelf",
    "MediaSubject",
    "PageLimit",
    "PeersLimit",
    "ProvidersLimit",
    "RoomIdPath",
    "RoomSubject",
    "Served",
    "ViaLimit",
    "check_query_names",
]


@dataclass(frozen=True, slots=True)
class Context:
    """What every route needs."""

    dht: DHT
    config: ApiConfig


async def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Served = Annotated[Context, Depends(_context)]


async def check_query_names(request: Request) -> None:
    """Refuse query parameters that the request's route does not declare."""
    if not request.query_params:
        return
    operation = request.app.openapi()["paths"][request.scope["route"].path_format][request.method.lower()]
    known = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f": did you mean {near[0]}?" if near else f"; it has {', '.join(sorted(known)) or 'none'}"
            raise Fault(400, "M_INVALID_PARAM", f"this call has no parameter {name[:40]!a}{hint}")


async def _media_subject(
    media_id: Annotated[
        str,
        Path(
            description="`sha256.` or `sha256-merkle.` and 64 lower-case hexadecimal digits.",
            json_schema_extra=MEDIA_ID_SCHEMA,
            examples=[examples.MEDIA_ID],
        ),
    ],
) -> Subject:
    return media(media_id)


MediaSubject = Annotated[Subject, Depends(_media_subject)]

RoomIdPath = Annotated[
    str,
    Path(
        description="A room ID of any room version, percent-encoded; at most 255 bytes of UTF-8. "
        "`!sha256.<64 hex>` is the room of that media.",
        json_schema_extra=ROOM_ID_SCHEMA,
        examples=[examples.ROOM_ID],
    ),
]


async def _room_subject(room_id: RoomIdPath) -> Subject:
    return room(room_id)


RoomSubject = Annotated[Subject, Depends(_room_subject)]


async def _deadline_s(
    served: Served,
    deadline_ms: Annotated[
        Annotated[int, Field(ge=1, le=DEADLINE_MS_MAX)] | SkipJsonSchema[None],
        Query(
            description="Milliseconds after which to answer with what is known; by default what api.deadline_s says.",
        ),
    ] = None,
) -> float:
    return served.config.deadline_s if deadline_ms is None else deadline_ms / 1000


DeadlineS = Annotated[float, Depends(_deadline_s)]


ProvidersLimit = Annotated[int, Query(ge=1, le=PROVIDERS_MAX, description="Providers at most.")]
ViaLimit = Annotated[int, Query(ge=1, le=VIA_MAX, description="Servers at most.")]
PageLimit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Announcements on one page.")]
PeersLimit = Annotated[int, Query(ge=1, le=PEERS_MAX, description="Peers at most.")]
IncludeSelf = Annotated[bool, Query(description="Whether the server that this daemon serves is named too.")]
FromKey = Annotated[
    Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | SkipJsonSchema[None],
    Query(alias="from", description="The `next_batch` of the page before."),
]
