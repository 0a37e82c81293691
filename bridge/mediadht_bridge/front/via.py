"""Reading a join request and adding servers to it: pure functions over the request's bytes.

What always holds: what the client sent stays where it was, byte for byte; servers are only ever appended, each once.
`via` and the older `server_name` are both written. Synapse reads `server_name` only where there is no `via` (MSC4156),
so a `via` of ours alone would hide the client's `server_name`; homeservers from before MSC4156 read only `server_name`.
Hence both end up with the same list: the client's, then ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from mediadht.core.errors import CallerError
from mediadht.core.identifiers import Kind, Subject, is_server_name, room
from mediadht.daemon.face import Provider
from mediadht_bridge.front.config import ALIVE_S_MAX
from mediadht_bridge.ranking import rank as rank_providers

__all__ = ["Join", "add_servers", "body_for_join", "is_good", "parse_join", "rank"]

_JOIN = re.compile(rb"(/_matrix/client/(?:v3|r0))/join/([^/]+)")
_ROOMS_JOIN = re.compile(rb"(/_matrix/client/(?:v3|r0))/rooms/([^/]+)/join")
_QUERY_FIELDS_MAX = 200


@dataclass(frozen=True, slots=True)
class Join:
    """A request to join a room by its ID."""

    subject: Subject
    room_id: str
    path: bytes
    """Where the request goes once servers are added: always `/join/{room ID}`, the ID's own bytes kept."""
    servers_ignored: bool
    """Whether it came as `/rooms/{room ID}/join`, of which Synapse ignores `via`."""


def parse_join(method: str, raw_path: bytes) -> Join | None:
    """The join that a request asks for; None if it is anything else, an alias or an invalid room ID included."""
    if method != "POST":
        return None
    match = _JOIN.fullmatch(raw_path) or _ROOMS_JOIN.fullmatch(raw_path)
    if match is None:
        return None
    try:
        room_id = unquote_to_bytes(match[2]).decode()
        subject = room(room_id)
    except (UnicodeDecodeError, CallerError):
        return None
    return Join(subject, room_id, match[1] + b"/join/" + match[2], match.re is _ROOMS_JOIN)


def add_servers(join: Join, query: bytes, servers: Iterable[str]) -> bytes | None:
    """The request target with `servers` appended; None if the client has named all of them, or an unreadable query."""
    try:
        fields = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="replace", max_num_fields=_QUERY_FIELDS_MAX
        )
    except ValueError:
        return None
    via = [value for name, value in fields if name == "via"]
    server_name = [value for name, value in fields if name == "server_name"]
    wanted = list(dict.fromkeys([*via, *server_name, *servers]))
    if len(wanted) == len({*via, *server_name}):
        return None
    added = [("via", name) for name in wanted if name not in via]
    added += [("server_name", name) for name in wanted if name not in server_name]
    tail = "&".join(f"{key}={quote(name, safe=':[]')}" for key, name in added).encode("ascii")
    return join.path + b"?" + query + (b"&" if query and not query.endswith(b"&") else b"") + tail


def body_for_join(join: Join, body: bytes) -> bytes | None:
    """The body with which `join` can go to `/join/{room ID}` and mean the same; None if there is none.

    Synapse's `/rooms/{room ID}/join` reads `reason` and `third_party_signed` and drops the rest; its `/join/{room ID}`
    writes the whole body into the member event. So a rewritten request carries `reason` alone, and one with
    `third_party_signed` (an invite by e-mail) is not rewritten.
    """
    if not join.servers_ignored or not body.strip():
        return body
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "third_party_signed" in content:
        return None
    if content.keys() <= {"reason"}:
        return body
    return json.dumps({"reason": content["reason"]} if "reason" in content else {}).encode()


def is_good(provider: Provider) -> bool:
    """Whether the provider has proved its server name and its node was heard lately."""
    return provider.verified and provider.alive_s_ago is not None and provider.alive_s_ago <= ALIVE_S_MAX


def rank(join: Join, providers: Sequence[Provider], own_server_name: str | None) -> list[str]:
    """Server names to join through, the best first, each once: verified first, then those heard of most lately.

    Leaves out this server itself, names that are none, and, where a media ID is used as the room ID, servers that have
    the media in another room.
    """
    usable = [
        provider
        for provider in providers
        if provider.server_name != own_server_name
        and is_server_name(provider.server_name)
        and (join.subject.kind is Kind.ROOM or provider.room_id in {None, join.room_id})
    ]
    return [provider.server_name for provider in rank_providers(join.subject, usable)]
