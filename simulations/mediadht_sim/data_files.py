"""Data files that a user names: read within bounds, and refused with the file, the line, what is wrong and what to do.

Text as it is or compressed by gzip, told apart by the first two bytes, not by the name. What cannot be read is the
machine's fault (`EnvironmentFault`); what is in it is the fault of whoever named it (`ConfigurationError`).
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

from mediadht.core.errors import ConfigurationError, EnvironmentFault

__all__ = ["number", "read_text", "refusal"]

_GZIP_MAGIC = b"\x1f\x8b"
_SHOWN_MAX = 40


def refusal(path: Path, line: int, what: str, advice: str) -> ConfigurationError:
    """The error to raise for line `line`, counted from 1, of that file; 0 for the file as a whole."""
    where = f"{path}, line {line}" if line else str(path)
    return ConfigurationError(f"{where}: {what}; {advice}")


def read_text(path: Path, bytes_max: int) -> str:
    """The file's text (UTF-8), uncompressed if it is compressed; never more than `bytes_max` are unpacked.

    Raises EnvironmentFault for a file that cannot be read, ConfigurationError for one that is too large or no text.
    """
    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if is_compressed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    data = unpacked.read(bytes_max + 1)
            else:
                data = file.read(bytes_max + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise refusal(path, 0, f"is damaged ({error})", "fetch the file again") from error
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be read ({error.strerror or error}); name a file that exists and that you may read"
        ) from error
    if len(data) > bytes_max:
        raise refusal(path, 0, f"is larger than {bytes_max} bytes", "name the right file, or cut it down")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refusal(path, line, "is not UTF-8 text", "name a text file, or one compressed by gzip") from error


def number(path: Path, line: int, text: str, name: str, maximum: float) -> float:
    """The finite number from 0 to `maximum` that `text` is; refused otherwise, as the value of `name`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= maximum:
        shown = text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."
        raise refusal(path, line, f"{name} is {shown!r}", f"write a number from 0 to {maximum:g}")
    return value
