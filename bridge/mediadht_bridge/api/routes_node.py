"""The daemon itself: its announcements, peers and state; health and metrics."""

from __future__ import annotations

from bisect import bisect_right

import trio
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mediadht.core.constants import ID_BYTES
from mediadht.core.errors import CallerError
from mediadht.daemon.face import Announcement
from mediadht_bridge.api.answers import errors
from mediadht_bridge.api.faults import Fault, deadline_fault
from mediadht_bridge.api.gate import LIVE_PATH
from mediadht_bridge.api.limits import PAGE_DEFAULT, PEERS_DEFAULT
from mediadht_bridge.api.models import (
    AnnouncementAnswer,
    AnnouncementsAnswer,
    LiveAnswer,
    NotReadyAnswer,
    PeerAnswer,
    PeersAnswer,
    PingAnswer,
    PingRequest,
    ReadyAnswer,
    StatusAnswer,
)
from mediadht_bridge.api.params import DeadlineS, FromKey, PageLimit, PeersLimit, Served

__all__ = ["router"]

router = APIRouter(tags=["node"])


@router.get(
    "/v1/announcements",
    summary="What does this server announce?",
    response_model=AnnouncementsAnswer,
    responses=errors(),
)
async def list_announcements(
    served: Served, limit: PageLimit = PAGE_DEFAULT, from_key: FromKey = None
) -> AnnouncementsAnswer:
    """All announcements, a page at a time, in the order of their DHT keys.

    What stands throughout is on exactly one page, whatever comes and goes between the calls.
    """
    # Built anew for each page: 10,000 announcements cost some milliseconds each time, and nobody lists them often.
    everything = served.dht.announcements()
    start = 0 if from_key is None else bisect_right(everything, int(from_key, 16), key=_key)
    page = everything[start : start + limit]
    more = start + limit < len(everything)
    return AnnouncementsAnswer(
        announcements=[AnnouncementAnswer.of(announcement) for announcement in page],
        total=len(everything),
        next_batch=_key(page[-1]).to_bytes(ID_BYTES, "big").hex() if more else None,
    )


def _key(announcement: Announcement) -> int:
    return announcement.subject.key


@router.get("/v1/peers", summary="Which nodes does this one know?", response_model=PeersAnswer, responses=errors())
async def list_peers(served: Served, limit: PeersLimit = PEERS_DEFAULT) -> PeersAnswer:
    """Nodes of the routing table or with a session, nearest to this node first."""
    peers = served.dht.peers()
    return PeersAnswer(peers=[PeerAnswer.model_validate(peer) for peer in peers[:limit]], total=len(peers))


@router.post("/v1/ping", summary="Does this peer answer?", response_model=PingAnswer, responses=errors(502))
async def ping(served: Served, wish: PingRequest, deadline_s: DeadlineS) -> PingAnswer:
    """Measure the round trip to a peer. 404 if it names nobody known, 502 or 504 if it does not answer."""
    with trio.fail_after(deadline_s):
        try:
            round_trip_s = await served.dht.ping(wish.peer, deadline_s=deadline_s)
        except CallerError as fault:
            raise Fault(404, "M_NOT_FOUND", str(fault)) from fault
    return PingAnswer(peer=wish.peer, round_trip_ms=round_trip_s * 1000)


@router.get("/v1/status", summary="How is the daemon?", response_model=StatusAnswer, responses=errors())
async def status(served: Served) -> StatusAnswer:
    """A snapshot of the daemon's state; `warnings` say what needs attention."""
    return StatusAnswer.model_validate(served.dht.status())


@router.get(LIVE_PATH, summary="Does the process answer?", response_model=LiveAnswer, responses=errors())
async def live() -> LiveAnswer:
    """Needs no token, and is answered however busy the daemon is. Says nothing about the DHT: see `/health/ready`."""
    return LiveAnswer()


@router.get(
    "/health/ready",
    summary="Can the DHT be used?",
    response_model=ReadyAnswer,
    responses={
        **errors(),
        503: {"model": NotReadyAnswer, "description": "The DHT cannot be used now; `error` says why."},
    },
)
async def ready(served: Served, deadline_s: DeadlineS) -> ReadyAnswer:
    """200 when a record was stored in the DHT and read back lately (or there are no peers), else 503."""
    with trio.move_on_after(deadline_s) as limit:
        readiness = await served.dht.ready()
    if limit.cancelled_caught:
        late = deadline_fault("the check")
        raise Fault(503, late.errcode, late.error, ready=False, checked_s_ago=None)
    if not readiness.ready:
        raise Fault(503, "M_UNKNOWN", readiness.why, ready=False, checked_s_ago=readiness.checked_s_ago)
    return ReadyAnswer(ready=True, why=readiness.why, checked_s_ago=readiness.checked_s_ago)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"description": "Text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **errors(),
    },
)
async def metrics(served: Served) -> Response:
    """The daemon's and the API's metrics. No label holds an ID or a server name that a caller wrote."""
    return Response(generate_latest(served.dht.registry), media_type=CONTENT_TYPE_LATEST)
