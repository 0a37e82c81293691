"""Examples in the OpenAPI document: one consistent story, also told in `docs/api.md`."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ANNOUNCEMENT", "MEDIA", "MEDIA_ID", "ROOM_ID", "VIA"]

MEDIA_ID: Final = "sha256.9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ROOM_ID: Final = "!5kXg9nN0pRk2dVq8mYtBvJw3cZaLhSfEuGiOoPqWxYz"

_PROVIDER: Final[dict[str, Any]] = {
    "server_name": "one.example",
    "room_id": ROOM_ID,
    "offers": ["bytes", "history"],
    "node_id": "3f" * 32,
    "verified": True,
    "alive_s_ago": 12.5,
    "expires_s": 1_767_312_000.0,
}

_SUMMARY: Final[dict[str, Any]] = {
    "heard": True,
    "complete": True,
    "providers_total": 1,
    "replicas_answered": 3,
    "requests": 3,
    "first_provider_s": 0.0009,
    "duration_s": 0.0031,
}

MEDIA: Final[dict[str, Any]] = {"media_id": MEDIA_ID, "providers": [_PROVIDER], "summary": _SUMMARY}

VIA: Final[dict[str, Any]] = {
    "room_id": ROOM_ID,
    "via": ["one.example"],
    "servers": [{**_PROVIDER, "offers": []}],
    "summary": _SUMMARY,
}

ANNOUNCEMENT: Final[dict[str, Any]] = {
    "kind": "media",
    "id": MEDIA_ID,
    "state": "pending",
    "sources": ["api"],
    "room_id": ROOM_ID,
    "offers": ["bytes"],
    "sequence": 1_767_139_200_000,
    "replicas": 0,
    "stored_s_ago": None,
    "next_in_s": 0.0,
    "trouble": None,
}
