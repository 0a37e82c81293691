"""What `tomllib` leaves out: on which line of a TOML text each key stands; and how tables become TOML again.

`lines_of` reads only what `tomllib` has accepted, so it need not find mistakes: it follows headers, dotted keys,
inline tables and arrays, and skips strings and comments. Lines count from 1.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

__all__ = ["KeyPath", "line_of", "lines_of", "write_toml"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the top: `("workloads", 0, "lookups_per_s")`."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\'',
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\r\n]+")


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line on which each key, table and list item of a correct TOML text first stands."""
    return _Reader(text).read()


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, or of the nearest that encloses it; 1 where nothing does."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1
        self._lines: dict[KeyPath, int] = {}
        self._items: dict[KeyPath, int] = {}
        """Arrays of tables: how many tables each has so far."""

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text):
                return self._lines
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _here(self) -> int:
        """The line at the current place, which only ever moves on."""
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line

    def _put(self, path: KeyPath, line: int) -> None:
        self._lines.setdefault(path, line)

    def _header(self) -> KeyPath:
        line = self._here()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        keys = self._keys()
        for number, key in enumerate(keys):
            path = (*path, key)
            self._put(path, line)
            if is_array and number == len(keys) - 1:
                self._items[path] = self._items.get(path, 0) + 1
            if path in self._items:
                path = (*path, self._items[path] - 1)
                self._put(path, line)
        self._at += 2 if is_array else 1
        return path

    def _keys(self) -> list[str]:
        """A dotted key, and the blanks after it."""
        keys: list[str] = []
        while True:
            self._skip(_BLANK)
            bare = self._skip(_BARE)
            keys.append(bare or _unquoted(self._skip(_STRING)))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _pair(self, table: KeyPath) -> None:
        line = self._here()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._put(path, line)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first == "[":
            self._at += 1
            self._list(path)
        elif first == "{":
            self._at += 1
            self._inline_table(path)
        elif first in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _list(self, path: KeyPath) -> None:
        index = 0
        while True:
            self._skip(_SPACE)
            if self._text[self._at] == "]":
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._put((*path, index), self._here())
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        while True:
            self._skip(_SPACE)
            if self._text[self._at] == "}":
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)


def _unquoted(quoted: str) -> str:
    value = tomllib.loads(f"key = {quoted}")["key"]
    assert isinstance(value, str)
    return value


def write_toml(tables: Mapping[str, Any]) -> str:
    """TOML for tables of plain values; None is left out. Two levels get headers, what is deeper stands in a line."""
    scalars = [(key, value) for key, value in tables.items() if not _is_table(value) and not _is_list_of_tables(value)]
    blocks = [_pairs(scalars)] if scalars else []
    for key, value in tables.items():
        if _is_table(value):
            blocks.append(f"[{_key(key)}]\n{_pairs(value.items())}")
        elif _is_list_of_tables(value):
            blocks += [f"[[{_key(key)}]]\n{_pairs(item.items())}" for item in value]
    return "\n".join(block for block in blocks if block)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(_is_table, value))


def _pairs(pairs: Any) -> str:
    return "".join(f"{_key(key)} = {_written(value)}\n" for key, value in pairs if value is not None)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _written(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(value)
        case Mapping():
            inner = (f"{_key(key)} = {_written(item)}" for key, item in value.items() if item is not None)
            return f"{{{', '.join(inner)}}}"
        case list() | tuple():
            return f"[{', '.join(_written(item) for item in value)}]"
        case _:
            msg = f"{type(value).__name__} has no form in TOML here"
            raise TypeError(msg)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
