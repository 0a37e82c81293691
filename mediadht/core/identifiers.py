"""What people name: media IDs, room IDs, server names; and the DHT keys made of them.

Validates at the edge: whatever enters the product as text passes one of these functions first. A `Subject` is
"what a record is about", a media ID or a room ID; its `key` is what replicas see, its `seal_key` what only readers
who know the ID can derive. Implements `docs/protocol.md`, section "Keys"; grammars are those of the Matrix
specification (appendices, "Identifier grammar"; room version 12 for IDs without a domain).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from mediadht.core.constants import ROOM_ID_BYTES_MAX, SERVER_NAME_CHARACTERS_MAX
from mediadht.core.errors import CallerError

__all__ = ["Kind", "Subject", "check_server_name", "is_server_name", "media", "parse_subject", "room"]

_MEDIA_ID = re.compile(r"(sha256|sha256-merkle)\.[0-9a-f]{64}", re.ASCII)
_ROOM_ID_DOMAINLESS = re.compile(r"![A-Za-z0-9_-]{43}", re.ASCII)
_ROOM_LOCALPART = re.compile(r"![^:\x00-\x1f\x7f\ud800-\udfff]+")
_DNS_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_IPV4 = r"(?:\d{1,3}\.){3}\d{1,3}"
_IPV6 = r"\[[0-9A-Fa-f:.]{2,45}\]"
_SERVER_NAME = re.compile(rf"(?:{_IPV4}|{_IPV6}|{_DNS_NAME})(?::(\d{{1,5}}))?", re.ASCII)
_PORT_MAX = 65_535


class Kind(StrEnum):
    """What a key is about."""

    MEDIA = "media"
    ROOM = "room"


@dataclass(frozen=True)
class Subject:
    """A media ID or a room ID, already validated. Make one with `media`, `room` or `parse_subject`."""

    kind: Kind
    id: str

    @cached_property
    def key(self) -> int:
        """The 256-bit DHT key, as an unsigned integer."""
        digest = hashlib.sha256(f"mediadht/1/{self.kind}/{self.id}".encode()).digest()
        return int.from_bytes(digest, "big")

    @cached_property
    def seal_key(self) -> bytes:
        """32 bytes that seal the payloads stored under `key`; whoever knows the ID can derive them."""
        return hashlib.sha256(f"mediadht/1/seal/{self.kind}/{self.id}".encode()).digest()

    def __str__(self) -> str:
        return self.id


def media(media_id: str) -> Subject:
    """The subject of a media ID, `sha256.<64 lower-case hex>` or `sha256-merkle.<64 lower-case hex>`.

    Raises CallerError if it is not one.
    """
    if not _MEDIA_ID.fullmatch(media_id):
        raise CallerError(
            f"{_shown(media_id)} is not a media ID: write sha256.<64 lower-case hexadecimal digits>, "
            "or sha256-merkle.<the same>"
        )
    return Subject(Kind.MEDIA, media_id)


def room(room_id: str) -> Subject:
    """The subject of a room ID of any room version: `!opaque:server`, or `!` and 43 characters (version 12).

    `!sha256.<hex>`, the room ID that the proposal "Media as Rooms" gives a media room, is the subject of that media.
    Raises CallerError if it is none of these.
    """
    if _MEDIA_ID.fullmatch(room_id[1:]) and room_id.startswith("!"):
        return Subject(Kind.MEDIA, room_id[1:])
    if _ROOM_ID_DOMAINLESS.fullmatch(room_id):
        return Subject(Kind.ROOM, room_id)
    localpart, colon, server = room_id.partition(":")
    if (
        colon
        and _ROOM_LOCALPART.fullmatch(localpart)
        and is_server_name(server)
        and len(room_id.encode(errors="replace")) <= ROOM_ID_BYTES_MAX
    ):
        return Subject(Kind.ROOM, room_id)
    raise CallerError(
        f"{_shown(room_id)} is not a room ID: write !opaque:server.name, or ! and 43 base64url characters "
        "(room version 12)"
    )


def parse_subject(text: str) -> Subject:
    """The subject that `text` names: a media ID, or a room ID. Raises CallerError if it is neither."""
    return room(text) if text.startswith("!") else media(text)


def is_server_name(text: str) -> bool:
    """Whether `text` follows the grammar of Matrix server names (hostname or IP literal, optional port)."""
    if len(text) > SERVER_NAME_CHARACTERS_MAX:
        return False
    match = _SERVER_NAME.fullmatch(text)
    return match is not None and (match[1] is None or 0 < int(match[1]) <= _PORT_MAX)


def check_server_name(text: str) -> str:
    """`text`, if it is a Matrix server name. Raises CallerError if it is not."""
    if not is_server_name(text):
        raise CallerError(
            f"{_shown(text)} is not a Matrix server name: write host, host:port, 192.0.2.1 or [2001:db8::1]:8448"
        )
    return text


def _shown(text: str) -> str:
    """`text` as an error message may repeat it: quoted, escaped and cut."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
