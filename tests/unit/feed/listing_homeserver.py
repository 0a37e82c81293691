"""Synapse's two lists of rooms on raw sockets, and a DHT that counts what is asked of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from fake_dht import FakeDHT

from mediadht.core.identifiers import Subject
from mediadht.daemon.face import Announcement

ADMIN = "/_synapse/admin/v1/rooms"
Reply = tuple[int, Any, dict[str, str]]


@dataclass
class CountingDHT(FakeDHT):
    calls: list[tuple[str, list[Subject]]] = field(default_factory=list)

    async def announce(self, wishes: Any) -> list[Announcement]:
        self.calls.append(("announce", [wish.subject for wish in wishes]))
        return await super().announce(wishes)

    async def withdraw(self, subjects: Any, *, source: str | None = None) -> list[Subject]:
        assert source == "feed"
        self.calls.append(("withdraw", list(subjects)))
        return await super().withdraw(subjects, source=source)

    def names(self) -> set[str]:
        return {str(subject) for subject, each in self.standing.items() if not each.withdrawn}


@dataclass
class FakeHomeserver:
    """Synapse's two lists, paged as Synapse does. `script` holds replies that come first."""

    rooms: dict[str, dict[str, Any]] = field(default_factory=dict)
    admin_reply: Reply | None = None
    directory_reply: Reply | None = None
    script: list[Reply | bytes | None] = field(default_factory=list)
    """None stands for the usual answer."""
    targets: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, *room_ids: str, **changes: Any) -> None:
        usual = {"joined_local_members": 1, "join_rules": "public", "federatable": True, "public": True}
        for room_id in room_ids:
            self.rooms[room_id] = {"room_id": room_id, **usual, **changes}

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                piece = await stream.receive_some()
                if not piece:
                    return
                data += piece
            target = data.split(b" ")[1].decode()
            self.targets.append(target)
            self.tokens += [
                line[22:].decode() for line in data.split(b"\r\n") if line.startswith(b"authorization: Bearer")
            ]
            step = self.script.pop(0) if self.script else None
            if isinstance(step, bytes):
                await stream.send_all(step)
                return
            status, content, headers = step or self._answer(target)
            body = json.dumps(content).encode()
            lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
            await stream.send_all("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)

    def _answer(self, target: str) -> Reply:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == ADMIN:
            return self.admin_reply or (200, self._admin_page(int(query["from"]), int(query["limit"])), {})
        return self.directory_reply or (200, self._directory_page(int(query.get("since", "0"))), {})

    def _admin_page(self, start: int, limit: int) -> dict[str, Any]:
        page: dict[str, Any] = {"offset": start, "total_rooms": len(self.rooms)}
        page["rooms"] = list(self.rooms.values())[start : start + limit]
        if start + limit < len(self.rooms):
            page["next_batch"] = start + limit
        return page

    def _directory_page(self, start: int) -> dict[str, Any]:
        published = [each for each in self.rooms.values() if each["public"]]
        chunk = [{"room_id": each["room_id"], "join_rule": each["join_rules"]} for each in published]
        for entry in chunk:
            if entry["join_rule"] is None:
                del entry["join_rule"]
        page: dict[str, Any] = {"chunk": chunk[start : start + 100], "total_room_count_estimate": 0}
        if start + 100 < len(published):
            page["next_batch"] = str(start + 100)
        return page
