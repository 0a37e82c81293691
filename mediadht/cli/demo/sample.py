"""The file that the demo shares: the caller's, or a picture made on the fly; and its media ID."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from mediadht.core.errors import EnvironmentFault
from mediadht.core.identifiers import Subject, media

__all__ = ["Sample", "take_sample"]

_SIDE_PIXELS: Final = 128
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and what the DHT knows it by."""

    path: Path
    size_bytes: int
    subject: Subject


async def take_sample(file: Path | None, folder: Path) -> Sample:
    """Hash `file`; without one, a PNG picture that is written to `folder` and is the same at every run.

    Raises EnvironmentFault if it cannot be read.
    """
    if file is None:
        file = folder / "demo.png"
        file.write_bytes(_picture())
    try:
        return await trio.to_thread.run_sync(_hash, file)
    except OSError as refused:
        raise EnvironmentFault(
            f"{file} cannot be read ({refused.strerror}): name a regular file that you may read, or none"
        ) from refused


def _hash(file: Path) -> Sample:
    digest = hashlib.sha256()
    size_bytes = 0
    with file.open("rb") as opened:
        while part := opened.read(_READ_BYTES):
            digest.update(part)
            size_bytes += len(part)
    return Sample(file, size_bytes, media(f"sha256.{digest.hexdigest()}"))


def _picture() -> bytes:
    """A PNG of coloured rings (W3C PNG specification: 8-bit RGB, no filter, one IDAT)."""
    rows = bytearray()
    for y in range(_SIDE_PIXELS):
        rows.append(0)
        for x in range(_SIDE_PIXELS):
            distance = math.hypot(x - _SIDE_PIXELS / 2, y - _SIDE_PIXELS / 2)
            rows += bytes(int(128 + 127 * math.sin(distance / 6 + phase)) for phase in (0.0, 2.1, 4.2))
    header = struct.pack(">IIBBBBB", _SIDE_PIXELS, _SIDE_PIXELS, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
