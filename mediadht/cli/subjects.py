"""What a person names on the command line: a media ID, a room ID, or a file, which is hashed.

An ID wins over a file of the same name; write `./name` for the file. A file is read once, in pieces, so its size does
not matter; it must not change meanwhile (a change is noticed by its size and time, and is an error).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mediadht.cli.errors import explain_os_error
from mediadht.core.errors import CallerError, EnvironmentFault
from mediadht.core.identifiers import Subject, media, parse_subject

__all__ = ["Named", "Progress", "name_subject", "no_progress"]

_PIECE_BYTES: Final = 1 << 20

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a task (its description, its total) while entered; what it returns is told each advance."""


def no_progress(_description: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Shows nothing."""
    return nullcontext(lambda _advance: None)


@dataclass(frozen=True, slots=True)
class Named:
    """A subject, and the file that it is the hash of, if it was named by a file."""

    subject: Subject
    path: Path | None = None
    size_bytes: int | None = None


def name_subject(text: str, progress: Progress = no_progress) -> Named:
    """The subject that `text` names.

    Raises CallerError if it names none, EnvironmentFault if the file is unreadable or changes meanwhile.
    """
    try:
        return Named(parse_subject(text))
    except CallerError as not_an_id:
        path = Path(text)
        if path.is_dir():
            raise CallerError(f"{text} is a folder: name a file, a media ID or a room ID") from not_an_id
        if not path.exists():
            raise CallerError(_why_nothing(text, not_an_id)) from not_an_id
    try:
        digest, size_bytes = _hash(path, progress)
    except OSError as fault:
        raise EnvironmentFault(f"the file cannot be read: {explain_os_error(fault)}") from fault
    return Named(media(f"sha256.{digest}"), path, size_bytes)


def _why_nothing(text: str, not_an_id: CallerError) -> str:
    if text.startswith(("!", "sha256")):
        return f"{not_an_id}; nor is there a file of that name"
    shown = ascii(text[:80])
    if text.startswith("#"):
        return f"{shown} is an alias: name the room by its ID, !..., which the homeserver tells"
    return f"{shown} is neither a media ID (sha256.<64 hexadecimal digits>), nor a room ID (!...), nor a file"


def _hash(path: Path, progress: Progress) -> tuple[str, int]:
    """SHA-256 of the file as hexadecimal digits, and its size in bytes."""
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        with progress(f"hashing {path.name}", before.st_size) as advance:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size_bytes += len(piece)
                advance(len(piece))
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise EnvironmentFault(f"{path} changed while it was read: try again once nobody writes to it")
    return digest.hexdigest(), size_bytes
