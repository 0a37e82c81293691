"""Observed on/off intervals from a file: a row for each session of a node, in seconds.

CSV, with this header, or JSON lines with the same names (told apart by the first character); plain or gzip:

    node,up_s,down_s                {"node": "a", "up_s": 3600, "down_s": 120.5}
    a,3600,120.5                    {"node": "a", "up_s": 60, "down_s": null}
    a,60,

`up_s` is how long the node stayed, `down_s` how long it was away after that; empty, null or left out where the trace
ends before the node returned. A length that the trace cuts off counts as it stands, which makes long ones too short.
All nodes' lengths go into one pot: that some nodes stay longer than others is lost.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mediadht_sim.data_files import number, read_text, refusal
from mediadht_sim.lives import Trace

__all__ = ["ROWS_MAX", "Intervals", "load_trace"]

ROWS_MAX = 2_000_000
"""Sessions in a file: 120 MB of memory."""
_FILE_BYTES_MAX = 128 * 1024 * 1024
_LENGTH_S_MAX = 3.2e8
"""Ten years."""
_COLUMNS = ("node", "up_s", "down_s")
_NODE_CHARACTERS_MAX = 200

_Row = tuple[int, str, str, str]
"""The line, and the three values as text; "" for none."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """What a file holds."""

    sessions: Trace
    absences: Trace
    nodes: int
    """How many different ones."""


def load_trace(path: Path) -> Intervals:
    """The sessions and absences of that file.

    Raises EnvironmentFault if it cannot be read, ConfigurationError if it is not of the form above, with the line.
    """
    text = read_text(path, _FILE_BYTES_MAX)
    rows = _json_rows(path, text) if text.lstrip()[:1] == "{" else _csv_rows(path, text)
    nodes: set[str] = set()
    up_s: list[float] = []
    down_s: list[float] = []
    for line, node, up, down in rows:
        if len(up_s) == ROWS_MAX:
            raise refusal(path, line, f"is row {ROWS_MAX + 1}", f"name a file of at most {ROWS_MAX} sessions")
        if not 0 < len(node) <= _NODE_CHARACTERS_MAX:
            raise refusal(
                path, line, "has no node, or too long a name", "write which node this is, in a few characters"
            )
        nodes.add(node)
        up_s.append(number(path, line, up, "up_s", _LENGTH_S_MAX))
        if down:
            down_s.append(number(path, line, down, "down_s", _LENGTH_S_MAX))
    for name, lengths_s in (("up_s", up_s), ("down_s", down_s)):
        if not any(lengths_s):
            raise refusal(path, 0, f"no {name} is above 0", "name a file in which nodes stay, go and return")
    return Intervals(Trace(up_s), Trace(down_s), len(nodes))


def _csv_rows(path: Path, text: str) -> Iterator[_Row]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = next(reader, [])
        if tuple(name.strip() for name in header) != _COLUMNS:
            raise refusal(path, 1, f"is not the header {','.join(_COLUMNS)}", "write it as the first line")
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(_COLUMNS):
                raise refusal(path, reader.line_num, f"holds {len(fields)} values", f"write {','.join(_COLUMNS)}")
            node, up, down = (field.strip() for field in fields)
            yield reader.line_num, node, up, down
    except csv.Error as error:
        raise refusal(path, reader.line_num, f"is no CSV ({error})", "write commas between, and quote names") from error


def _json_rows(path: Path, text: str) -> Iterator[_Row]:
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as error:
            raise refusal(path, line, f"is no JSON ({error})", "write one object a line") from error
        if not isinstance(row, dict) or not set(row) <= set(_COLUMNS):
            raise refusal(path, line, "is no object of these names", f"write {', '.join(_COLUMNS)} and nothing else")
        node = row.get("node")
        if isinstance(node, bool) or not isinstance(node, str | int):
            raise refusal(path, line, "names no node", 'write "node": a text or a whole number')
        yield line, str(node), _text(path, line, row, "up_s"), _text(path, line, row, "down_s")


def _text(path: Path, line: int, row: dict[str, object], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(path, line, f"{name} is no number", "write seconds, or null for none")
    return repr(value)
