"""`/openapi.json`: the framework's document, corrected where it would not be true.

Always holds: the document is made once; its errors are the ones that `faults` makes (the framework would add a 422 of
its own form); it says whether this daemon asks for a token.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mediadht_bridge.api.gate import LIVE_PATH

__all__ = ["install_document"]

_DESCRIPTION = (
    "Consulted by a Matrix homeserver before it creates a media room or joins a room by its ID. "
    "Errors have Matrix's form. Every answer has a deadline; the caller's own should be a second longer. "
    "Whatever goes wrong here, the homeserver goes on without it."
)
_VERSION = "1"
_TAGS = [
    {"name": "media", "description": "Who has a media file, and whether this server seeds it."},
    {"name": "rooms", "description": "Through whom a room can be joined, and whether this server is in it."},
    {"name": "node", "description": "The daemon itself."},
]


def install_document(app: FastAPI, *, token_needed: bool) -> None:
    """Make `app.openapi()`, and so `/openapi.json`, the document of this API."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, token_needed=token_needed)
        return app.openapi_schema

    # FastAPI documents this assignment as the way to extend the document.
    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, *, token_needed: bool) -> dict[str, Any]:
    made = get_openapi(title="mediadht", version=_VERSION, description=_DESCRIPTION, routes=app.routes, tags=_TAGS)
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if token_needed and path == LIVE_PATH:
                operation["security"] = []
    components = made["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "The token of api.token_file."}
    }
    made["security"] = [{"bearer": []}] if token_needed else [{}, {"bearer": []}]
    return made
