"""Settings from a TOML file, the environment and the command line, laid over one another and checked once.

Knows nothing of what the settings mean: a section is a name and a frozen pydantic model that forbids extra keys, and
all names (TOML keys, environment variables) follow from the models. The section with the empty name is the file's top
level. Every fault is one line of a ConfigurationError that says which key, where it came from, why, and what to write
instead; all faults are told at once. Precedence: command line, environment, file, the model's default.

What the sections are is `mediadht.cli.config`'s business.
"""

from __future__ import annotations

import json
import re
import tomllib
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from mediadht.core.errors import ConfigurationError, nearest

__all__ = ["Section", "Setting", "Settings", "is_secret", "nearest", "read_file", "variable_of"]

ENVIRONMENT_PREFIX: Final = "MEDIADHT_"
CONFIGURATION_FILE_BYTES_MAX: Final = 1 << 20
"""A configuration file is written by hand; a larger one is the wrong file."""


_SHOWN_CHARACTERS_MAX: Final = 80
_SECRET: Final = re.compile(r"token|secret|password")
_KUBERNETES_SERVICE: Final = re.compile(
    r"MEDIADHT(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)
"""Variables that Kubernetes sets in every container beside a service named mediadht: not meant for us."""

_INSTEAD: Final[dict[str, str]] = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "model_type": "write a table of keys",
    "path_type": "write a path, in quotes",
    "string_type": "write text, in quotes",
}
_INSTEAD_LIST: Final = frozenset({"tuple_type", "list_type", "set_type", "frozen_set_type"})


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the configuration: its name in the file, and the model of its keys."""

    name: str
    model: type[BaseModel]
    optional: bool = False
    """Off while nothing names it."""

    def key(self, field: str) -> str:
        """The field as people write it: `listen`, or `api.listen`."""
        return f"{self.name}.{field}" if self.name else field


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as somebody gave it, and where."""

    value: object
    origin: str


def variable_of(section: str, field: str) -> str:
    """The environment variable of a key: `MEDIADHT_DATA_DIR`, `MEDIADHT_API_LISTEN`."""
    return ENVIRONMENT_PREFIX + "_".join(part for part in (section, field) if part).upper()


def is_secret(field: str, model: type[BaseModel] | None = None) -> bool:
    """Whether a value of this field must never be shown."""
    if model is not None and field in model.model_fields:
        kinds = _flat(model.model_fields[field].annotation)
        if any(kind in {SecretStr, SecretBytes} for kind in kinds):
            return True
    return _SECRET.search(field) is not None and not field.endswith(("_file", "_path"))


def read_file(path: Path) -> dict[str, Any]:
    """The TOML file's tables. Raises ConfigurationError if it cannot be read or is no TOML."""
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIGURATION_FILE_BYTES_MAX + 1)
    except OSError as fault:
        raise ConfigurationError(
            f"{path}: the configuration file cannot be read ({fault.strerror}): name another with --config, "
            "or make this one readable for this user"
        ) from fault
    if len(raw) > CONFIGURATION_FILE_BYTES_MAX:
        raise ConfigurationError(f"{path}: larger than 1 MiB, so hardly a configuration file: name the right one")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as fault:
        raise ConfigurationError(f"{path}: byte {fault.start} is not UTF-8: save the file as UTF-8") from fault
    except tomllib.TOMLDecodeError as fault:
        raise ConfigurationError(f'{path}: not TOML: {fault}; write lines like network = "mediadht"') from fault


class Settings:
    """The settings of some sections, gathered from all sources; `build` makes a section's model of them."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._sections = {section.name: section for section in sections}
        self._given: dict[str, dict[str, Setting]] = {section.name: {} for section in sections}
        self._named: set[str] = set()
        self._faults: list[str] = []
        self._file: Path | None = None

    def add_file(self, path: Path, tables: Mapping[str, Any], *, ignore: Collection[str] = ()) -> None:
        """Lay the file's keys over what is there. Tables in `ignore` are another command's business."""
        self._file = path
        top = self._sections[""]
        for key, value in tables.items():
            if key in ignore:
                continue
            if key in self._sections:
                self._add_table(path, key, value)
            elif key in top.model.model_fields:
                self._given[""][key] = Setting(value, str(path))
            else:
                self._faults.append(f"{path}: {self._unknown_at_top(key, value, ignore)}")

    def _add_table(self, path: Path, name: str, table: object) -> None:
        if not isinstance(table, dict):
            self._faults.append(f"{path}: {name} is a section: write [{name}], and its keys below it")
            return
        self._named.add(name)
        for key, value in table.items():
            self._given[name][key] = Setting(value, str(path))

    def _unknown_at_top(self, key: str, value: object, ignore: Collection[str]) -> str:
        sections = {name for name in self._sections if name} | set(ignore)
        if isinstance(value, dict):
            return f"unknown section [{key}]: {nearest(key, sections)}"
        for section in self._sections.values():
            if key in section.model.model_fields:
                return f"{key} stands at the top of the file: write it below [{section.name}]"
        return f"unknown key {key}: {nearest(key, set(self._sections[''].model.model_fields) | sections)}"

    def add_environment(
        self, environ: Mapping[str, str], *, others: Collection[str], ignore_prefixes: Collection[str] = ()
    ) -> None:
        """Lay the environment's `MEDIADHT_…` variables over what is there; empty ones count as unset.

        `others` are variables that have a meaning elsewhere; names with one of `ignore_prefixes` are another
        command's business.
        """
        known = {
            variable_of(section.name, field): (section, field)
            for section in self._sections.values()
            for field in section.model.model_fields
        }
        for variable in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
            text = environ[variable]
            if variable in known:
                section, field = known[variable]
                if text:
                    self._add_text(section, field, text, f"environment variable {variable}")
            elif not (
                variable in others
                or variable.startswith(tuple(ignore_prefixes))
                or _KUBERNETES_SERVICE.fullmatch(variable)
            ):
                self._faults.append(f"unknown environment variable {variable}: {nearest(variable, {*known, *others})}")

    def add_option(self, section: str, field: str, text: str | Sequence[str], option: str) -> None:
        """Lay an option of the command line over what is there."""
        self._add_text(self._sections[section], field, text, f"option {option}")

    def _add_text(self, section: Section, field: str, text: str | Sequence[str], origin: str) -> None:
        try:
            value = _from_text(section.model.model_fields[field].annotation, text)
        except ValueError as fault:
            self._faults.append(f"{section.key(field)} ({origin}): {fault}")
            self._named.add(section.name)
            return
        self._given[section.name][field] = Setting(value, origin)

    def given(self, name: str) -> bool:
        """Whether anybody named the section, or a key of it."""
        return name in self._named or bool(self._given[name])

    def origin(self, section: str, field: str) -> str:
        """Where the value of a key comes from, for people."""
        setting = self._given[section].get(field)
        return "default" if setting is None else setting.origin

    def fault(self, text: str) -> None:
        """Add a fault that somebody else found, to be told with the others."""
        self._faults.append(text)

    def build(self, name: str) -> BaseModel | None:
        """The section's model; None if it is optional and not named, or faulty (then `raise_faults` raises)."""
        section = self._sections[name]
        if section.optional and not self.given(name):
            return None
        try:
            return section.model(**{field: setting.value for field, setting in self._given[name].items()})
        except ConfigurationError as fault:
            self._faults.append(f"{fault} ({self._origins(section)})")
            return None
        except ValidationError as faults:
            for details in faults.errors(include_url=False):
                self._faults.append(self._explain(section, details))
            return None

    def raise_faults(self) -> None:
        """Raise ConfigurationError with every fault found so far, if there is one."""
        if self._faults:
            raise ConfigurationError("\n".join(self._faults))

    def _explain(self, section: Section, details: ErrorDetails) -> str:
        location = tuple(str(part) for part in details["loc"])
        given = self._given[section.name]
        if not location:
            return f"{section.name and f'[{section.name}] '}{_why(details)} ({self._origins(section)})"
        field, setting = location[0], given.get(location[0])
        key = section.key(".".join(location))
        if details["type"] == "missing":
            return self._missing(section, field, key)
        origin = setting.origin if setting is not None else "default"
        if details["type"] == "extra_forbidden":
            return self._unknown(section, location, origin)
        hidden = isinstance(details["input"], dict) or any(is_secret(part, section.model) for part in location)
        shown = "" if hidden else f" = {_shown(details['input'])}"
        return f"{key}{shown} ({origin}): {_why(details)}{_described(section.model, field)}"

    def _origins(self, section: Section) -> str:
        """Where each key of the section comes from, for a fault that lies in how they go together."""
        given = self._given[section.name]
        origins = [f"{section.key(field)} from {setting.origin}" for field, setting in given.items()]
        return f"given: {', '.join(origins) or 'nothing'}"

    def _missing(self, section: Section, field: str, key: str) -> str:
        where = f"below [{section.name}] in " if section.name else "in "
        file = str(self._file) if self._file else "the configuration file"
        return (
            f"{key} is missing: write it {where}{file}, or set {variable_of(section.name, field)}"
            f"{_described(section.model, field)}"
        )

    def _unknown(self, section: Section, location: Sequence[str], origin: str) -> str:
        *path, word = location
        model = _model_at(section.model, path)
        table = ".".join(part for part in (section.name, *path) if part)
        inside = f" in [{table}]" if table else ""
        return f"{origin}: unknown key {word}{inside}: {nearest(word, model.model_fields if model else ())}"


def _flat(annotation: object) -> list[object]:
    """The alternatives of an annotation, without `Annotated` and `Optional`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _flat(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for argument in get_args(annotation) for kind in _flat(argument) if kind is not type(None)]
    return [annotation]


def _from_text(annotation: object, text: str | Sequence[str]) -> object:
    """What `text` says, in a form that the field's model takes. Raises ValueError with what to write instead."""
    kinds = _flat(annotation)
    origins = {get_origin(kind) or kind for kind in kinds}
    if origins & {tuple, list, set, frozenset}:
        if not isinstance(text, str):
            return [part for part in text if part]
        if text.lstrip().startswith("["):
            return _json(text, list)
        return [part.strip() for part in text.split(",") if part.strip()]
    if not isinstance(text, str):
        text = text[-1]
    if dict in origins or any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
        return _json(text, dict)
    return text


def _json(text: str, kind: type) -> object:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as fault:
        raise ValueError(f"not JSON: {fault}") from fault
    if not isinstance(value, kind):
        raise ValueError(f"write a JSON {'object' if kind is dict else 'list'}")  # noqa: TRY004 - the text is wrong
    return value


def _model_at(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel] | None:
    """The model of the table at `path` below `model`; None where the path leads through no model."""
    for part in path:
        info = model.model_fields.get(part)
        kinds = _flat(info.annotation) if info else []
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return None
        model = inner[0]
    return model


def _why(details: ErrorDetails) -> str:
    """Why pydantic refuses a value, and what to write instead."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    message = details["msg"].removeprefix("Input should ").removeprefix("Value error, ")
    message = f"it must {message}" if details["msg"].startswith("Input should ") else message
    if kind in _INSTEAD:
        return f"{message}: {_INSTEAD[kind]}"
    if kind in _INSTEAD_LIST:
        given = details["input"]
        example = json.dumps([given]) if isinstance(given, str) else '["...", "..."]'
        return f"it must be a list: write {example}"
    return message


def _described(model: type[BaseModel], field: str) -> str:
    info = model.model_fields.get(field)
    return f". It is: {info.description}" if info is not None and info.description else ""


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX - 3] + "..."
