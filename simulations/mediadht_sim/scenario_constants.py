"""Which constants of the protocol a scenario may change, and to what.

A scenario changes them for an experiment, so that a sweep can settle their values. Those that decide the wire's form
stay: a network with another ID length is another protocol. Those that a key of the scenario decides are refused too.
"""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mediadht.core import constants
from mediadht_sim.fakes import constant_names

__all__ = ["Constants", "changeable"]

_ELSEWHERE: Final = {
    "K": "network.k",
    "SESSIONS_MAX": "network.sessions_max",
    "CONTACT_CACHE_MAX": "network.contacts_max",
}
_WIRE: Final = frozenset({"ID_BITS", "ID_BYTES", "KNOWN_PREFIX_BYTES", "PROTOCOL_VERSIONS"})
_WIRE_ENDINGS: Final = ("_BYTES_MAX", "_CHARACTERS_MAX")


def changeable() -> dict[str, int | float | tuple[float, ...]]:
    """The constants that a scenario may change, with the values that they have."""
    return {name: getattr(constants, name) for name in constant_names() if _refusal(name) is None}


def _refusal(name: str) -> str | None:
    if name in _ELSEWHERE:
        return f"write {_ELSEWHERE[name]} instead"
    if name in _WIRE or name.endswith(_WIRE_ENDINGS):
        return "it decides the form of messages, which is not a scenario's to change: network.k and the times are"
    return None


def _fault(name: str, text: str) -> PydanticCustomError:
    return PydanticCustomError("together", "{text}", {"text": text, "faults": [((name,), text)]})


def _checked(given: dict[str, Any]) -> dict[str, int | float | tuple[float, ...]]:
    known = changeable()
    checked: dict[str, int | float | tuple[float, ...]] = {}
    for name, value in given.items():
        refusal = _refusal(name)
        if refusal is not None:
            raise _fault(name, f"cannot be changed here: {refusal}")
        if name not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
            raise _fault(name, f"unknown constant: the nearest known one is {near[0]}")
        checked[name] = _like(name, value, known[name])
    return checked


def _like(name: str, value: Any, standard: float | tuple[float, ...]) -> int | float | tuple[float, ...]:
    """`value` in the type of the standard one."""
    if isinstance(standard, tuple):
        if (
            not isinstance(value, (list, tuple))
            or not value
            or not all(_is_number(item) and item >= 0 for item in value)
        ):
            raise _fault(name, f"it must be a list of numbers, none below 0, like {list(standard)}")
        return tuple(float(item) for item in value)
    if not _is_number(value) or value <= 0:
        raise _fault(name, f"it must be a number above 0, like {standard}")
    if isinstance(standard, int):
        if value != int(value):
            raise _fault(name, f"it must be a whole number, like {standard}")
        return int(value)
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


Constants = Annotated[dict[str, Any], AfterValidator(_checked)]
"""Name to value."""
