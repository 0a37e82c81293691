"""The two lists of rooms that a homeserver gives: Synapse's admin list, and the public room directory.

What always holds: a listing is complete or says that it is not; a room is `open` only where the homeserver says so
(public join rule, federation allowed, a local user in it), `closed` only where it says the contrary, and neither where
it does not know. Memory, pages and bytes are bounded, whatever the homeserver sends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import quote

import trio
from pydantic import BaseModel, ValidationError

from mediadht.core.errors import CallerError, Code, RemoteError
from mediadht.core.identifiers import Kind, Subject, room
from mediadht_bridge.matrix.feed_config import (
    ADMIN_PAGE_ROOMS,
    DIRECTORY_PAGE_ROOMS,
    LIMITED_WAIT_S_MAX,
    LIMITED_WAITS_MAX,
    PAGE_BYTES_MAX,
    PAGES_MAX,
    REQUEST_TIMEOUT_S,
    ROOMS_MAX,
)
from mediadht_bridge.matrix.homeserver import Answer, FixedBody, Head, Homeserver

__all__ = ["Limited", "Listing", "Refused", "RoomLists"]

_ERROR_BYTES_MAX = 65_536
_Page = TypeVar("_Page", bound=BaseModel)


class Refused(RemoteError):
    """The homeserver wants a (better) access token."""


class Limited(RemoteError):
    """The homeserver wants to be left alone for `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(Code.BUSY, f"the homeserver limits our requests (429); next in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Listing:
    """What the homeserver says about its rooms."""

    source: Literal["admin list", "directory", "settings"]
    open: set[Subject] = field(default_factory=set)
    """Rooms that anybody may join through this homeserver."""
    joined: set[Subject] = field(default_factory=set)
    """Rooms in which it has a user, open or not, that may federate. Only the admin list tells more than `open`."""
    closed: set[Subject] = field(default_factory=set)
    """Rooms that are expressly not public, or not federated."""
    complete: bool = False
    requests: int = 0
    waited_s: float = 0.0
    """Time spent because the homeserver asked for it (429)."""


class _AdminRoom(BaseModel):
    room_id: str
    joined_local_members: int = 0
    join_rules: str | None = None
    federatable: bool | None = None


class _AdminPage(BaseModel):
    rooms: list[_AdminRoom]
    total_rooms: int
    next_batch: int | None = None


class _DirectoryRoom(BaseModel):
    room_id: str
    join_rule: str | None = None


class _DirectoryPage(BaseModel):
    chunk: list[_DirectoryRoom]
    next_batch: str | None = None


class _Error(BaseModel):
    errcode: str = ""
    error: str = ""
    retry_after_ms: float | None = None


class RoomLists:
    """Reads both lists of one homeserver."""

    def __init__(self, homeserver: Homeserver, jitter: Callable[[float], float] = lambda seconds: seconds) -> None:
        self._homeserver = homeserver
        self._jitter = jitter

    async def admin_list(self, token: str) -> Listing:
        """Synapse's admin room list. Raises Refused, Limited, or RemoteError, with nothing to show for it then."""
        listing = Listing("admin list")
        waits = _Waits()
        start = 0
        seen: set[str] = set()
        for _ in range(PAGES_MAX):
            # `creator` never changes, so rooms do not move between pages; Synapse breaks its ties by room ID.
            target = f"/_synapse/admin/v1/rooms?from={start}&limit={ADMIN_PAGE_ROOMS}&order_by=creator&dir=f"
            page = _parse(_AdminPage, await self._page(target, token, waits, listing))
            for entry in page.rooms:
                seen.add(entry.room_id)
                _add_admin(listing, entry)
            _check_size(listing)
            if page.next_batch is None:
                listing.complete = len(seen) >= page.total_rooms
                return listing
            if page.next_batch <= start:
                raise RemoteError(Code.MALFORMED, "the admin room list turns in a circle")
            start = page.next_batch
        raise RemoteError(Code.TOO_LARGE, f"the admin room list has more than {PAGES_MAX} pages")

    async def directory(self, token: str | None) -> Listing:
        """The public room directory. Raises Refused, Limited, or RemoteError, with nothing to show for it then."""
        listing = Listing("directory")
        waits = _Waits()
        since: str | None = None
        tokens_seen: set[str] = set()
        for _ in range(PAGES_MAX):
            target = f"/_matrix/client/v3/publicRooms?limit={DIRECTORY_PAGE_ROOMS}"
            if since is not None:
                target += f"&since={quote(since, safe='')}"
            page = _parse(_DirectoryPage, await self._page(target, token, waits, listing))
            for entry in page.chunk:
                _add_published(listing, entry)
            _check_size(listing)
            if not page.next_batch:
                listing.complete = True
                return listing
            since = page.next_batch
            if since in tokens_seen:
                raise RemoteError(Code.MALFORMED, "the room directory turns in a circle")
            tokens_seen.add(since)
        raise RemoteError(Code.TOO_LARGE, f"the room directory has more than {PAGES_MAX} pages")

    async def _page(self, target: str, token: str | None, waits: _Waits, listing: Listing) -> bytes:
        headers = [(b"host", self._homeserver.authority), (b"accept", b"application/json"), (b"connection", b"close")]
        if token is not None:
            headers.append((b"authorization", b"Bearer " + token.encode("ascii")))
        head = Head(b"GET", target.encode("ascii"), headers)
        while True:
            listing.requests += 1
            async with self._homeserver.exchange(head, FixedBody(b""), timeout_s=REQUEST_TIMEOUT_S) as answer:
                if answer.status == 200:
                    return await answer.read(PAGE_BYTES_MAX)
                fault = await _fault(answer)
            if not isinstance(fault, Limited) or not waits.may_wait(fault.retry_after_s):
                raise fault
            pause_s = fault.retry_after_s + self._jitter(1.0)
            listing.waited_s += pause_s
            await trio.sleep(pause_s)


class _Waits:
    """How often a listing has been told to wait."""

    def __init__(self) -> None:
        self._left = LIMITED_WAITS_MAX

    def may_wait(self, seconds: float) -> bool:
        self._left -= 1
        return self._left >= 0 and seconds <= LIMITED_WAIT_S_MAX


def _add_admin(listing: Listing, entry: _AdminRoom) -> None:
    subject = _subject(entry.room_id)
    if subject is None:
        return
    barred = entry.federatable is False
    if barred or (entry.join_rules is not None and entry.join_rules != "public"):
        listing.closed.add(subject)
    if entry.joined_local_members > 0 and not barred:
        listing.joined.add(subject)
        if entry.join_rules == "public":
            listing.open.add(subject)


def _add_published(listing: Listing, entry: _DirectoryRoom) -> None:
    """The directory also lists rooms to knock at. Where it names no join rule, the specification means `public`."""
    subject = _subject(entry.room_id)
    if subject is None:
        return
    listing.joined.add(subject)
    if entry.join_rule in {None, "public"}:
        listing.open.add(subject)
    else:
        listing.closed.add(subject)


def _subject(room_id: str) -> Subject | None:
    """The room; None for IDs that are none, and for media rooms, whose seeding is announced over the API."""
    try:
        subject = room(room_id)
    except CallerError:
        return None
    return subject if subject.kind is Kind.ROOM else None


def _check_size(listing: Listing) -> None:
    if len(listing.joined) > ROOMS_MAX or len(listing.closed) > ROOMS_MAX:
        raise RemoteError(Code.TOO_LARGE, f"the homeserver lists more than {ROOMS_MAX} rooms")


def _parse(model: type[_Page], content: bytes) -> _Page:
    try:
        return model.model_validate_json(content)
    except ValidationError as fault:
        first = fault.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the page"
        raise RemoteError(Code.MALFORMED, f"a page of rooms is not as specified: {where}: {first['msg']}") from fault


async def _fault(answer: Answer) -> RemoteError:
    """The error that a status other than 200 stands for."""
    try:
        error = _Error.model_validate_json(await answer.read(_ERROR_BYTES_MAX))
    except (ValidationError, RemoteError):
        error = _Error()
    said = f"{answer.status} {error.errcode} {error.error[:200]}".rstrip()
    if answer.status == 429:
        return Limited(_retry_after_s(answer, error))
    if answer.status in {401, 403} or (answer.status == 404 and error.errcode == "M_UNRECOGNIZED"):
        return Refused(error.errcode or str(answer.status), said)
    return RemoteError(Code.UNREACHABLE, f"the homeserver answered {said}")


def _retry_after_s(answer: Answer, error: _Error) -> float:
    """`retry_after_ms` of the body, else the header Retry-After, else a guess; within a second and an hour."""
    if error.retry_after_ms is not None and math.isfinite(error.retry_after_ms):
        seconds = error.retry_after_ms / 1000
    else:
        header = (answer.header(b"retry-after") or b"").decode("latin-1")
        seconds = float(header) if header.isascii() and header.isdigit() else 10.0
    return min(max(seconds, 1.0), 3600.0)
