"""A plain mapping as TOML text that `tomllib` reads back as it was.

Only what a scenario holds: text, numbers, booleans, lists, tables, lists of tables. None is left out, for TOML has no
word for it. Keys keep their order, plain values before tables, so equal mappings give equal text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mediadht.core.errors import CallerError

__all__ = ["toml_text"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(values: Mapping[str, Any]) -> str:
    """`values` as TOML. Raises `CallerError` for a value that TOML cannot hold."""
    lines: list[str] = []
    _table(values, (), lines)
    return "\n".join(lines).strip("\n") + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) or _is_list_of_tables(value):
            later.append((key, value))
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in later:
        name = ".".join(_key(part) for part in (*path, key))
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]"]
            _table(value, (*path, key), lines)
        else:
            for entry in value:
                lines += ["", f"[[{name}]]"]
                _table(entry, (*path, key), lines)


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return "[" + ", ".join(_value(entry) for entry in value) + "]"
        case Mapping():
            pairs = (f"{_key(key)} = {_value(entry)}" for key, entry in value.items() if entry is not None)
            return "{ " + ", ".join(pairs) + " }"
        case _:
            raise CallerError(f"{value!r} cannot be written as TOML: it is a {type(value).__name__}")


def _text(text: str) -> str:
    """JSON's escapes are TOML's too, but for DEL, which TOML wants escaped, and surrogate pairs, which it refuses."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
