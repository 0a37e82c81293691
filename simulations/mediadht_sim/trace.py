"""What a simulation said, as one hash: two runs with the same trace sent the same messages at the same times."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

from mediadht.core.messages import (
    Answer,
    Claim,
    Find,
    Found,
    Get,
    Got,
    Message,
    Ping,
    Pong,
    Put,
    PutDone,
    PutRoom,
    Query,
    RoomDone,
    Vote,
)

__all__ = ["Trace"]

_PENDING_BYTES_MAX = 1 << 16
_HEAD = struct.Struct("<dIIIB")

_WEIGHTS: dict[type, tuple[int, Callable[[Any], int]]] = {
    Ping: (1, lambda _: 0),
    Find: (2, lambda m: m.target & 0xFFFFFFFF),
    Get: (3, lambda m: m.sample & 0xFFFFFFFF),
    Put: (4, lambda m: len(m.records)),
    Pong: (5, lambda _: 0),
    Found: (6, lambda m: len(m.contacts)),
    Got: (7, lambda m: len(m.records) << 8 | len(m.contacts)),
    PutDone: (8, lambda m: len(m.outcomes) << 8 | len(m.contacts)),
    # 9 is everything else.
    Claim: (10, lambda m: len(m.claim[0])),
    Vote: (11, lambda m: len(m.code) << 16 | len(m.rooms) << 12 | len(m.records) << 8 | len(m.contacts)),
    PutRoom: (12, lambda m: len(m.room.receipts)),
    RoomDone: (13, lambda m: len(m.code) << 16 | len(m.rooms) << 8 | len(m.contacts)),
}
_OTHER = (9, lambda _: 0)


class Trace:
    """SHA-256 over time, sender, receiver, kind, transaction and a number of each message's content, in order."""

    __slots__ = ("_hash", "_pending")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pending = bytearray()

    def sent(self, now: float, sender: int, receiver: int, message: Message) -> None:
        """Take a message in."""
        if type(message) is Query:
            content: Any = message.request
        else:
            assert type(message) is Answer
            content = message.response
        kind, number = _WEIGHTS.get(type(content), _OTHER)
        self._pending += _HEAD.pack(now, sender, receiver, message.transaction, kind)
        self._pending += number(content).to_bytes(4, "little")
        if len(self._pending) > _PENDING_BYTES_MAX:
            self._hash.update(self._pending)
            self._pending.clear()

    def note(self, text: str) -> None:
        """Take in something that is no message: an event of the scenario, say."""
        self._pending += text.encode() + b"\n"

    def hexdigest(self) -> str:
        """The hash of all so far, 64 hexadecimal digits."""
        self._hash.update(self._pending)
        self._pending.clear()
        return self._hash.hexdigest()
