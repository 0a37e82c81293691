"""From what pydantic refuses to what a person reads: where, which key, what is wrong, what to write instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mediadht.core.errors import ConfigurationError, nearest
from mediadht_sim.scenario import Scenario
from mediadht_sim.scenario_reference import Place, allowed, is_tag, models_in, place_of, tag_of
from mediadht_sim.toml_text import KeyPath

__all__ = ["ScenarioError", "explained"]

_FAULTS_SHOWN_MAX: Final = 20
_SHOWN_CHARACTERS_MAX: Final = 80
_QUOTED: Final = re.compile(r"'([^']*)'")

Where = Callable[[KeyPath], str]
"""Where a key stands, for people: `churn.toml:12`, or `--set network.nodes=1`."""


class ScenarioError(ConfigurationError):
    """A scenario is wrong; each line of the text says where, which key, why, and what to write instead."""


def explained(faults: ValidationError, where: Where) -> ScenarioError:
    """All faults, a line each."""
    lines = list(dict.fromkeys(line for details in faults.errors(include_url=False) for line in _lines(details, where)))
    if len(lines) > _FAULTS_SHOWN_MAX:
        lines[_FAULTS_SHOWN_MAX:] = [f"and {len(lines) - _FAULTS_SHOWN_MAX} more"]
    return ScenarioError("\n".join(lines))


def _lines(details: ErrorDetails, where: Where) -> Iterator[str]:
    place = place_of(details["loc"])
    if details["type"] == "together":
        for path, text in details["ctx"]["faults"]:
            whole = (*place.path, *path)
            yield f"{where(whole)}: {'.'.join(map(str, whole))}: {text}"
        return
    kind = details["type"]
    if kind == "extra_forbidden":
        yield f"{where(place.path)}: {_unknown(place)}"
    elif kind in {"union_tag_invalid", "union_tag_not_found"}:
        yield _wrong_tag(details, place, where)
    elif kind == "missing":
        yield f"{where(place.path)}: {place.dotted} is missing: write {place.path[-1]} = …{_hints(place)}"
    else:
        shown = "" if isinstance(details["input"], (dict, list)) else f" = {_shown(details['input'])}"
        yield f"{where(place.path)}: {place.dotted}{shown}: {_why(details, place)}{_hints(place)}"


def _unknown(place: Place) -> str:
    *around, word = place.path
    table = ".".join(map(str, around))
    known = [field for model in place.around for field in model.model_fields]
    text = f"unknown key {word}{f' in [{table}]' if table else ''}"
    model = place.around[0] if len(place.around) == 1 else None
    choice = tag_of(model) if model else None
    if choice:
        text += f" of {choice}"
    if not difflib.get_close_matches(str(word), known, n=1):
        elsewhere = _elsewhere(str(word))
        if elsewhere:
            return f"{text}: {elsewhere}"
    return f"{text}: {nearest(str(word), known)}"


def _elsewhere(word: str) -> str:
    """Where a key like `word` stands in a scenario, if in one table only; else ""."""
    homes: dict[str, set[str]] = {field: {"at the top of the file"} for field in Scenario.model_fields}
    for name, info in Scenario.model_fields.items():
        for field in (field for model in models_in(info.annotation) for field in model.model_fields):
            homes.setdefault(field, set()).add(f"below [{name}]")
    near = difflib.get_close_matches(word, sorted(homes), n=1, cutoff=0.75)
    if not near or len(homes[near[0]]) != 1:
        return ""
    return f"{near[0]} stands {min(homes[near[0]])}"


def _wrong_tag(details: ErrorDetails, place: Place, where: Where) -> str:
    context = details["ctx"]
    tag = context["discriminator"].strip("'")
    path = (*place.path, tag)
    dotted = ".".join(map(str, path))
    if details["type"] == "union_tag_not_found":
        return f"{where(path)}: {dotted} is missing: write one of {', '.join(_tags(place))}"
    return f"{where(path)}: {dotted} = {_shown(context['tag'])}: unknown: {nearest(context['tag'], _tags(place))}"


def _tags(place: Place) -> list[str]:
    fields = place.around[0].model_fields
    last = next(part for part in reversed(place.path) if isinstance(part, str))
    return [tag for model in models_in(fields[last].annotation) if (tag := tag_of(model)) is not None]


def _why(details: ErrorDetails, place: Place) -> str:
    if details["type"] == "literal_error" and isinstance(details["input"], str):
        return nearest(details["input"], _QUOTED.findall(details["ctx"]["expected"]))
    if details["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        return f"it must be a table of keys: write [{place.dotted}], and its keys below it"
    if details["type"] == "tuple_type":
        of_tables = len(place.path) == 1
        return f"it must be a list: write {f'[[{place.dotted}]], and the keys below it' if of_tables else '[1.0, 2.0]'}"
    message = details["msg"]
    return f"it must {message.removeprefix('Input should ')}" if message.startswith("Input should ") else message


def _hints(place: Place) -> str:
    """What is allowed, and what the key is."""
    last = place.path[-1] if place.path else None
    if len(place.around) != 1 or not isinstance(last, str) or last not in place.around[0].model_fields:
        return ""
    model: type[BaseModel] = place.around[0]
    described = model.model_fields[last].description
    text = f"; allowed: {allowed(model, last)}" if not is_tag(model, last) else ""
    return f"{text}. It is: {described}" if described else text


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX - 3] + "..."
