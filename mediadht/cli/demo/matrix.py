"""A stock Matrix client, as small as the demo and the tests need: what a user on a homeserver can do and see.

It speaks the client-server API and nothing of mediadht. What a homeserver refuses is raised as `Refusal`, with the
homeserver's own words. Every request opens its own connection, so that the objects here belong to no event loop and
hold nothing that must be closed.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from mediadht.core.errors import RemoteError

__all__ = ["Joined", "Refusal", "User", "log_in", "register", "request"]

REQUEST_DEADLINE_S: Final = 60.0
"""For one request: a homeserver may try a dead server for some seconds before it answers a join."""

_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used, as all URLs here are http://; httpx would read the system's certificates for every client otherwise."""


class Refusal(RemoteError):
    """A homeserver's answer of 400 or above, in its own words. `code` is the Matrix error code."""

    def __init__(self, status: int, code: str, why: str) -> None:
        super().__init__(code, why)
        self.status = status

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.why}"


async def request(
    method: str,
    url: str,
    *,
    token: str | None = None,
    json: object = None,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
    params: Sequence[tuple[str, str]] = (),
    deadline_s: float = REQUEST_DEADLINE_S,
) -> httpx.Response:
    """One HTTP request. Raises Refusal for an answer of 400 or above, httpx.TransportError if there is none."""
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    async with httpx.AsyncClient(verify=_TLS, trust_env=False, timeout=deadline_s) as client:
        answer = await client.request(
            method, url, json=json, content=content, headers=sent, params=httpx.QueryParams(tuple(params)) or None
        )
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise _refusal_of(answer)
    return answer


def _refusal_of(answer: httpx.Response) -> Refusal:
    try:
        body = answer.json()
        return Refusal(answer.status_code, str(body["errcode"]), str(body["error"]))
    except (ValueError, KeyError, TypeError):
        return Refusal(answer.status_code, "no Matrix error", answer.text[:200])


@dataclass(frozen=True, slots=True)
class Joined:
    """A join that succeeded."""

    room_id: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class User:
    """A logged-in user. `client_url` is the base of the client API that it talks to."""

    user_id: str
    client_url: str
    access_token: str = field(repr=False)

    async def _call(self, method: str, path: str, json: object = None, **options: Any) -> Any:
        answer = await request(method, self.client_url + path, token=self.access_token, json=json, **options)
        return answer.json()

    async def create_room(
        self, *, name: str, public: bool = True, room_version: str | None = None, listed: bool = True
    ) -> str:
        """The ID of a new room; a `public` one can be joined by anybody, and is in the room directory if `listed`."""
        body: dict[str, object] = {
            "name": name,
            "preset": "public_chat" if public else "private_chat",
            "visibility": "public" if public and listed else "private",
        }
        if room_version is not None:
            body["room_version"] = room_version
        created = await self._call("POST", "/_matrix/client/v3/createRoom", body)
        return str(created["room_id"])

    async def join(
        self,
        room: str,
        *,
        via: Sequence[str] = (),
        base_url: str | None = None,
        parameter: str = "via",
        by_rooms_path: bool = False,
        api_version: str = "v3",
    ) -> Joined:
        """Join a room by its ID or alias.

        `base_url` sends the same request elsewhere, to a proxy in front of the homeserver. `parameter` is `via`
        or its older name `server_name`. `by_rooms_path` uses `/rooms/{id}/join` instead of `/join/{id}`.
        """
        quoted = quote(room, safe="")
        path = f"rooms/{quoted}/join" if by_rooms_path else f"join/{quoted}"
        answer = await request(
            "POST",
            f"{base_url or self.client_url}/_matrix/client/{api_version}/{path}",
            token=self.access_token,
            json={},
            params=[(parameter, server) for server in via],
        )
        return Joined(str(answer.json()["room_id"]), answer.elapsed.total_seconds())

    async def leave(self, room_id: str) -> None:
        """Leave a room."""
        await self._call("POST", f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/leave", {})

    async def joined_rooms(self) -> list[str]:
        """The IDs of the rooms that the user is in."""
        answer = await self._call("GET", "/_matrix/client/v3/joined_rooms")
        return list(answer["joined_rooms"])

    async def send(self, room_id: str, text: str, *, transaction: str) -> str:
        """Send a text message; its event ID. The same `transaction` twice sends it once."""
        path = f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/send/m.room.message/{quote(transaction, safe='')}"
        sent = await self._call("PUT", path, {"msgtype": "m.text", "body": text})
        return str(sent["event_id"])

    async def texts(self, room_id: str) -> list[str]:
        """The latest text messages that the user can see, newest first; the homeserver fetches older ones itself."""
        path = f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/messages"
        answer = await self._call("GET", path, params=[("dir", "b"), ("limit", "50")])
        return [event["content"]["body"] for event in answer["chunk"] if event["type"] == "m.room.message"]

    async def upload(self, content: bytes, *, content_type: str, filename: str) -> str:
        """Upload media; its `mxc://` URI."""
        answer = await request(
            "POST",
            f"{self.client_url}/_matrix/media/v3/upload",
            token=self.access_token,
            content=content,
            headers={"Content-Type": content_type},
            params=[("filename", filename)],
        )
        return str(answer.json()["content_uri"])

    async def download(self, uri: str, *, base_url: str | None = None) -> bytes:
        """The bytes behind an `mxc://` URI."""
        server, _, media = uri.removeprefix("mxc://").partition("/")
        answer = await request(
            "GET",
            f"{base_url or self.client_url}/_matrix/client/v1/media/download/{server}/{media}",
            token=self.access_token,
        )
        return answer.content


async def register(client_url: str, shared_secret: str, localpart: str, password: str, *, admin: bool) -> User:
    """Make a user by Synapse's admin API; needs the homeserver's `registration_shared_secret`."""
    url = f"{client_url}/_synapse/admin/v1/register"
    nonce = (await request("GET", url)).json()["nonce"]
    signed = "\0".join((nonce, localpart, password, "admin" if admin else "notadmin"))
    answer = await request(
        "POST",
        url,
        json={
            "nonce": nonce,
            "username": localpart,
            "password": password,
            "admin": admin,
            "mac": hmac.new(shared_secret.encode(), signed.encode(), hashlib.sha1).hexdigest(),
        },
    )
    body = answer.json()
    return User(str(body["user_id"]), client_url, str(body["access_token"]))


async def log_in(client_url: str, localpart: str, password: str) -> User:
    """Log a user in: another device, another access token."""
    answer = await request(
        "POST",
        f"{client_url}/_matrix/client/v3/login",
        json={
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": localpart},
            "password": password,
        },
    )
    body = answer.json()
    return User(str(body["user_id"]), client_url, str(body["access_token"]))
