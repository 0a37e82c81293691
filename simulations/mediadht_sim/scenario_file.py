"""Scenarios from TOML files, by path or by name, with settings laid over them.

Every fault is one line of a `ScenarioError`: the file and line (or the setting), the dotted key, what is wrong, what
is allowed. A setting is `key=value`: the key dotted, with indices for lists (`workloads.0.lookups_per_s=50`), the
value as in TOML, where text may go without quotes. Paths in a file are relative to the file, in a setting to the
working directory.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mediadht.core.errors import nearest
from mediadht_sim.scenario import Scenario
from mediadht_sim.scenario_faults import ScenarioError, explained
from mediadht_sim.scenario_reference import TAGS
from mediadht_sim.toml_text import KeyPath, line_of, lines_of, write_toml

__all__ = [
    "ScenarioError",
    "load_scenario",
    "scenario_from_toml",
    "scenario_path",
    "scenario_paths",
    "scenario_to_toml",
    "with_settings",
    "with_values",
]

SCENARIO_BYTES_MAX: Final = 1 << 20
"""A scenario is written by hand; a larger file is the wrong one."""

_FILES: Final[tuple[tuple[str, ...], ...]] = (
    ("latency", "file"),
    ("lives", "session", "file"),
    ("lives", "absence", "file"),
)
_AT_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)")


def scenario_paths() -> dict[str, Path]:
    """The scenarios that come with the simulator, by name."""
    here = Path(__file__).resolve().parent
    for folder in (here / "scenarios", here.parent / "scenarios"):  # in a wheel, in the repository
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def scenario_path(path_or_name: str | Path) -> Path:
    """The file that is meant. Raises ScenarioError if there is none."""
    path, known = Path(path_or_name), scenario_paths()
    if path.is_file():
        return path
    name = str(path_or_name)
    if name in known:
        return known[name]
    if path.is_dir() and (path / "scenario.toml").is_file():
        return path / "scenario.toml"
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise ScenarioError(f"{name}: there is no such file; {nearest(path.stem, known)}")
    raise ScenarioError(f"{name}: neither a file nor a scenario that comes with this: {nearest(name, known)}")


def load_scenario(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a TOML file, with `overrides` (`key=value`) laid over it. Raises ScenarioError."""
    path = scenario_path(path_or_name)
    try:
        with path.open("rb") as file:
            raw = file.read(SCENARIO_BYTES_MAX + 1)
    except OSError as fault:
        raise ScenarioError(f"{path}: cannot be read ({fault.strerror}): make it readable, or name another") from fault
    if len(raw) > SCENARIO_BYTES_MAX:
        raise ScenarioError(f"{path}: larger than 1 MiB, so hardly a scenario: name the right file")
    try:
        text = raw.decode()
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise ScenarioError(f"{path}:{line}: byte {fault.start} is not UTF-8: save the file as UTF-8") from fault
    return scenario_from_toml(text, overrides, origin=str(path), base=path.parent)


def scenario_from_toml(
    text: str, overrides: Sequence[str] = (), *, origin: str = "scenario", base: Path | None = None
) -> Scenario:
    """The scenario of a TOML text. `origin` names it in errors; `base` is where its paths start."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise ScenarioError(_not_toml(text, origin, fault)) from fault
    lines = lines_of(text.replace("\r\n", "\n"))
    return _made(tables, overrides, lambda path: f"{origin}:{line_of(lines, path)}", base)


def with_settings(scenario: Scenario, settings: Sequence[str]) -> Scenario:
    """The scenario with `key=value` settings laid over it. Raises ScenarioError."""
    return _made(_tables_of(scenario), settings, lambda path: scenario.name, None)


def with_values(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """The same, of dotted keys and plain values. Raises ScenarioError."""
    tables = _tables_of(scenario)
    given = {_path_of(key): f"{key}={value}" for key, value in values.items()}
    for key, value in values.items():
        _lay(tables, _path_of(key), value, f"{key}={value}")
    return _checked(tables, given, lambda path: scenario.name)


def scenario_to_toml(scenario: Scenario) -> str:
    """The whole scenario as TOML, every default written out."""
    return write_toml(scenario.to_json())


def _not_toml(text: str, origin: str, fault: Exception) -> str:
    if isinstance(fault, RecursionError):
        return f"{origin}: not a scenario: nested too deeply"
    said = str(fault)
    match = _AT_LINE.search(said)
    line, column = (match.group(1), f", column {match.group(2)}") if match else (str(text.count("\n") + 1), "")
    why = _AT_LINE.sub("", said).removesuffix(" (at end of document)")
    return f'{origin}:{line}: not TOML: {why}{column}; write lines like name = "churn" or nodes = 100'


def _made(tables: dict[str, Any], settings: Sequence[str], where: Any, base: Path | None) -> Scenario:
    given: dict[KeyPath, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ScenarioError(f"--set {setting}: write key=value, like network.nodes=500")
        path = _path_of(key.strip())
        _lay(tables, path, _value_of(text.strip()), setting)
        given[path] = setting
    _find_files(tables, given, where, base)
    return _checked(tables, given, where)


def _path_of(key: str) -> KeyPath:
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def _value_of(text: str) -> Any:
    """The value that TOML reads there, or the text itself."""
    if "\n" not in text and "\r" not in text:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            pass
    return text


def _lay(tables: dict[str, Any], path: KeyPath, value: Any, setting: str) -> None:
    """Put `value` at `path`; tables on the way that are not there begin as the scenario's default."""
    inner: Any = tables
    for number, part in enumerate(path):
        is_last = number == len(path) - 1
        shown = ".".join(map(str, path[:number])) or "the scenario"
        if isinstance(inner, list):
            if not isinstance(part, int) or part > len(inner):
                raise ScenarioError(
                    f"--set {setting}: {shown} is a list of {len(inner)}: write a number up to {len(inner)} "
                    f"(which adds one) where {part} stands"
                )
            if part == len(inner):
                inner.append({})
        elif not isinstance(inner, dict) or isinstance(part, int):
            raise ScenarioError(f"--set {setting}: {shown} is no {'list' if isinstance(part, int) else 'table'}")
        elif not is_last and part not in inner:
            inner[part] = _default_at(path[: number + 1], path[number + 1])
        if is_last:
            inner[part] = value
        else:
            inner = inner[part]


def _default_at(path: KeyPath, following: str | int) -> Any:
    """What the scenario has at `path` where nothing is said; without its tag's keys, if the tag itself is set."""
    value: Any = _DEFAULTS
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return {}
    return {} if following in TAGS and isinstance(value, dict) else _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _tables_of(value: Any) -> Any:
    """A model's tables without what is default anyway; tags and required keys stay."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            key: _tables_of(item)
            for key, item in value
            if key in TAGS or fields[key].is_required() or item != fields[key].default
        }
    if isinstance(value, (tuple, list)):
        return [_tables_of(item) for item in value]
    return {key: _tables_of(item) for key, item in value.items()} if isinstance(value, dict) else value


_DEFAULTS: Final = {
    key: _tables_of(info.default) for key, info in Scenario.model_fields.items() if not info.is_required()
} | {"lives": {key: _tables_of(value) for key, value in Scenario.model_fields["lives"].default}}


def _find_files(tables: dict[str, Any], given: Mapping[KeyPath, str], where: Any, base: Path | None) -> None:
    """Make the paths in the tables absolute; ScenarioError where there is no such file."""
    for path in _FILES:
        table: Any = tables
        for part in path[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        name = table.get(path[-1]) if isinstance(table, dict) else None
        if not isinstance(name, str) or not name:
            continue
        setting = next((given[key] for key in (path, path[:-1]) if key in given), None)
        file = (Path.cwd() if setting is not None or base is None else base) / name
        if not file.is_file():
            origin = where(path) if setting is None else f"--set {setting}"
            raise ScenarioError(f"{origin}: {'.'.join(path)} = {name!r}: there is no such file: {file}")
        table[path[-1]] = str(file.resolve())


def _checked(tables: dict[str, Any], given: Mapping[KeyPath, str], where: Any) -> Scenario:
    def origin(path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            for key, setting in given.items():
                if key == path[:length]:
                    return f"--set {setting}"
        return str(where(path))

    try:
        return Scenario.model_validate(tables)
    except ValidationError as faults:
        raise explained(faults, origin) from None
