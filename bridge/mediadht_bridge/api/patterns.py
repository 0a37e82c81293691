"""The grammars of IDs as JSON Schema patterns (ECMA 262), for the OpenAPI document.

They say what `mediadht.core.identifiers` enforces, which stays the only judge: nothing is validated with these.
A test holds the two together. What a pattern cannot say: a room ID has 255 *bytes* at most; a server name
230 characters with its port, of which the pattern always reserves six for a port.
"""

from __future__ import annotations

from typing import Any, Final

from mediadht.core.constants import ROOM_ID_BYTES_MAX, SERVER_NAME_CHARACTERS_MAX

__all__ = ["MEDIA_ID_PATTERN", "MEDIA_ID_SCHEMA", "ROOM_ID_PATTERN", "ROOM_ID_SCHEMA"]

_HEX = "[0-9a-f]{64}"
_MEDIA_ID = f"(?:sha256|sha256-merkle)[.]{_HEX}"
_PORT = (
    "(?:0{0,4}[1-9]|0{0,3}[1-9][0-9]|0{0,2}[1-9][0-9]{2}|0?[1-9][0-9]{3}|[1-5][0-9]{4}"
    "|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
)
_IPV6 = r"\[[0-9A-Fa-f:.]{2,45}\]"
_LOCALPART = r"![^:\u0000-\u001f\u007f]+"


def _name(characters_max: int) -> str:
    return f"[A-Za-z0-9](?:[A-Za-z0-9.-]{{0,{characters_max - 2}}}[A-Za-z0-9])?"


_SERVER_NAME = (
    f"(?:(?:{_IPV6}|{_name(SERVER_NAME_CHARACTERS_MAX)})"
    f"|(?:{_IPV6}|{_name(SERVER_NAME_CHARACTERS_MAX - len(':65535'))}):{_PORT})"
)

MEDIA_ID_PATTERN: Final = f"^{_MEDIA_ID}$"
ROOM_ID_PATTERN: Final = f"^(?:!{_MEDIA_ID}|![A-Za-z0-9_-]{{43}}|{_LOCALPART}:{_SERVER_NAME})$"

MEDIA_ID_SCHEMA: Final[dict[str, Any]] = {"pattern": MEDIA_ID_PATTERN}
ROOM_ID_SCHEMA: Final[dict[str, Any]] = {"pattern": ROOM_ID_PATTERN, "maxLength": ROOM_ID_BYTES_MAX}
