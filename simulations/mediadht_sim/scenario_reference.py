"""What a scenario's keys are, read off the models: for error messages, for the documentation, for `describe`."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from mediadht_sim.scenario import Scenario

__all__ = [
    "TAGS",
    "Place",
    "Reference",
    "allowed",
    "is_tag",
    "markdown",
    "models_in",
    "place_of",
    "reference",
    "tag_of",
]

TAGS: Final = ("kind", "strategy", "model")
"""Keys whose value decides which other keys a table has."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A key: `table` as people write it (`workloads`), `choice` the tag's value that it belongs to, or ""."""

    table: str
    choice: str
    key: str
    allowed: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a scenario something is: its keys, and the models that the table around the last key may have."""

    path: tuple[str | int, ...]
    around: tuple[type[BaseModel], ...]

    @property
    def dotted(self) -> str:
        """As `--set` takes it."""
        return ".".join(str(part) for part in self.path)


def tag_of(model: type[BaseModel]) -> str | None:
    """The value of the tag that chooses this model."""
    for tag in TAGS:
        if tag in model.model_fields and is_tag(model, tag):
            return str(model.model_fields[tag].default)
    return None


def is_tag(model: type[BaseModel], field: str) -> bool:
    """Whether the field is the one that chose the model."""
    return field in TAGS and len(get_args(model.model_fields[field].annotation)) == 1


def models_in(annotation: object) -> tuple[type[BaseModel], ...]:
    """The models that a value of this type is made of."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return models_in(get_args(annotation)[0])
    if origin in (Union, types.UnionType, tuple):
        return tuple(model for argument in get_args(annotation) for model in models_in(argument))
    return (annotation,) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else ()


def place_of(location: Sequence[str | int]) -> Place:
    """The place that pydantic means by `location`, which also names the tags that it followed."""
    path: list[str | int] = []
    around: tuple[type[BaseModel], ...] = ()
    options: tuple[type[BaseModel], ...] = (Scenario,)
    for part in location:
        if isinstance(part, int):
            path.append(part)
            continue
        chosen = tuple(model for model in options if tag_of(model) == part) if len(options) > 1 else ()
        if chosen:
            options = chosen
            continue
        path.append(part)
        around = options
        fields = options[0].model_fields if len(options) == 1 else {}
        options = models_in(fields[part].annotation) if part in fields else ()
    return Place(tuple(path), around)


def allowed(model: type[BaseModel], field: str) -> str:
    """What may be written for a field, in words: "whole number, 2 to 1000000"."""
    if (model, field) == (Scenario, "constants"):
        return "names of `mediadht.core.constants`, with numbers like theirs"
    return _in_words(model.model_json_schema()["properties"].get(field, {}))


def _in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_in_words(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return "whole number" + _range(schema)
        case "number":
            return "number" + _range(schema)
        case "string":
            return "text"
        case "array":
            return "list of numbers" if schema.get("items", {}).get("type") == "number" else "list of tables"
        case _:
            return "table"


def _range(schema: dict[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    lower = f"more than {_number(above)}" if above is not None else "" if low is None else _number(low)
    upper = f"less than {_number(below)}" if below is not None else "" if high is None else _number(high)
    if lower and upper and above is None and below is None:
        return f", {lower} to {upper}"
    low_text = lower if above is not None or not lower else f"at least {lower}"
    high_text = upper if below is not None or not upper else f"at most {upper}"
    return "".join(f", {part}" for part in (low_text, high_text) if part)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def reference() -> Iterator[Reference]:
    """Every key of a scenario, the top's first, then table by table."""
    yield from _keys_of(Scenario, "", "")


def _keys_of(model: type[BaseModel], table: str, choice: str) -> Iterator[Reference]:
    deeper: list[tuple[str, tuple[type[BaseModel], ...]]] = []
    for field, info in model.model_fields.items():
        inner = models_in(info.annotation)
        if inner:
            deeper.append((f"{table}.{field}" if table else field, inner))
        if is_tag(model, field) or (inner and not table):
            continue
        default = "required" if info.is_required() else _default(info.default)
        yield Reference(table, choice, field, allowed(model, field), default, info.description or "")
    for name, inner in deeper:
        for option in inner:
            yield from _keys_of(option, name, tag_of(option) or "")


def markdown() -> str:
    """The reference for `docs/simulation.md`: for every table its kinds, and its keys with the kinds that have them."""
    tables: dict[str, list[Reference]] = {}
    for row in reference():
        tables.setdefault(row.table, []).append(row)
    return "\n\n".join(_section(table, rows) for table, rows in tables.items()) + "\n"


def _section(table: str, rows: Sequence[Reference]) -> str:
    is_list = table in {"events", "adversaries", "workloads"}
    lines = [f"### `[[{table}]]`" if is_list else f"### `[{table}]`" if table else "### Top of the file", ""]
    choices = _choices(table)
    tag = next((tag for tag in TAGS for model in choices.values() if tag in model.model_fields), "")
    if len(choices) > 1:
        lines += [f'- `{tag} = "{name}"`: {_about(model)}' for name, model in choices.items()] + [""]
        lines += ["| key | of | allowed | default | what it is |", "| --- | --- | --- | --- | --- |"]
    else:
        lines += [*(_about(model) for model in choices.values() if table), ""] if table else []
        lines += ["| key | allowed | default | what it is |", "| --- | --- | --- | --- |"]
    alike: dict[Reference, list[str]] = {}
    for row in rows:
        alike.setdefault(replace(row, choice=""), []).append(row.choice)
    for row, of in alike.items():
        default = f"`{row.default}`" if row.default not in {"", "required"} else row.default or "none"
        kinds = f" {'all' if len(of) == len(choices) else ', '.join(of)} |" if len(choices) > 1 else ""
        lines.append(f"| `{row.key}` |{kinds} {row.allowed} | {default} | {row.description} |")
    return "\n".join(lines)


def _choices(table: str) -> dict[str, type[BaseModel]]:
    """The models that a table may have, by tag; one without a tag by ""."""
    options: tuple[type[BaseModel], ...] = (Scenario,)
    for part in table.split(".") if table else ():
        options = models_in(options[0].model_fields[part].annotation)
    return {tag_of(model) or "": model for model in options}


def _about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _default(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None | "" | () | {}:
            return ""
        case float():
            return f"{value:.12g}"
        case BaseModel():
            inner = (f"{key} = {item:.12g}" if isinstance(item, float) else f'{key} = "{item}"' for key, item in value)
            return f"{{{', '.join(sorted(inner))}}}"
        case _:
            return str(value)
