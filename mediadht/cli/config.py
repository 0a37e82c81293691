"""The whole configuration: one TOML file, the environment and the command line, composed of each house's own model.

The file's top level is the node's (`DaemonConfig`); [api], [front], [feed] and [log] are sections. [front] and [feed]
are off while nothing names them. A command loads only the sections that it uses, so a fault in the front's section
does not keep `mediadht status` from answering; the sections' names are checked all the same.
The rules of precedence and the wording of faults are `mediadht.cli.settings`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never, cast

from pydantic import BaseModel

from mediadht.cli.logs import LogConfig
from mediadht.cli.settings import ENVIRONMENT_PREFIX, Section, Settings, is_secret, read_file, variable_of

if TYPE_CHECKING:
    from mediadht.daemon.config import DaemonConfig
    from mediadht_bridge.api import ApiConfig
    from mediadht_bridge.front import FrontConfig
    from mediadht_bridge.matrix import FeedConfig

__all__ = [
    "CONFIG_FILE_DEFAULT",
    "CONFIG_VARIABLE",
    "Configuration",
    "Option",
    "load_api_config",
    "load_configuration",
    "load_node_config",
]

CONFIG_FILE_DEFAULT = Path("/etc/mediadht/mediadht.toml")
"""Read if it is there and no other is named."""

CONFIG_VARIABLE: Final = "MEDIADHT_CONFIG"
SectionName = Literal["", "api", "front", "feed", "log"]
_ALL: Final[tuple[SectionName, ...]] = ("", "api", "front", "feed", "log")
_OPTIONAL: Final = frozenset({"front", "feed"})


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the command line that sets a key."""

    section: SectionName
    field: str
    flag: str
    text: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that `mediadht run` is told."""

    node: DaemonConfig
    api: ApiConfig
    front: FrontConfig | None
    feed: FeedConfig | None
    log: LogConfig
    file: Path | None
    origins: Mapping[str, str]
    """Of each key, as `section.key`, the source of its value, for people."""

    def shown(self) -> dict[str, object]:
        """Every key with its value, secrets hidden, in JSON's types."""
        values: dict[str, object] = {}
        models = {"": self.node, "api": self.api, "front": self.front, "feed": self.feed, "log": self.log}
        for name, model in models.items():
            if model is None:
                continue
            for field, value in model.model_dump(mode="json").items():
                hidden = value is not None and is_secret(field, type(model))
                values[f"{name}.{field}" if name else field] = "(hidden)" if hidden else value
        return values


def load_configuration(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    options: Sequence[Option] = (),
    other_variables: Collection[str] = (),
) -> Configuration:
    """The whole configuration. Raises ConfigurationError with one line for each fault."""
    settings, path = _gather(_ALL, file, environ, options, other_variables)
    built: dict[str, BaseModel | None] = {name: settings.build(name) for name in _ALL}
    node = cast("DaemonConfig | None", built[""])
    if node is not None and node.server_name is None and settings.given("feed"):
        settings.fault(
            f'[feed] announces rooms for a homeserver, and none is named: write server_name = "your.server" in '
            f"{path or 'the configuration file'}, or set {variable_of('', 'server_name')}"
        )
    settings.raise_faults()
    sections = {section.name: section for section in _sections(_ALL)}
    origins = {
        section.key(field): settings.origin(section.name, field)
        for section in sections.values()
        if built[section.name] is not None
        for field in section.model.model_fields
    }
    fields: dict[str, Any] = {name or "node": built[name] for name in _ALL}
    return Configuration(**fields, file=path, origins=origins)


def load_api_config(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    options: Sequence[Option] = (),
    other_variables: Collection[str] = (),
) -> ApiConfig:
    """What a command needs that talks to the running daemon. Raises ConfigurationError."""
    return cast("ApiConfig", _load_one("api", file, environ, options, other_variables))


def load_node_config(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    options: Sequence[Option] = (),
    other_variables: Collection[str] = (),
) -> DaemonConfig:
    """The node's own part alone. Raises ConfigurationError."""
    return cast("DaemonConfig", _load_one("", file, environ, options, other_variables))


def _load_one(
    name: SectionName,
    file: Path | None,
    environ: Mapping[str, str] | None,
    options: Sequence[Option],
    other_variables: Collection[str],
) -> object:
    names: tuple[SectionName, ...] = ("",) if name == "" else ("", name)
    settings, _ = _gather(names, file, environ, options, other_variables)
    built = settings.build(name)
    settings.raise_faults()
    return built


def _gather(
    names: Collection[SectionName],
    file: Path | None,
    environ: Mapping[str, str] | None,
    options: Sequence[Option],
    other_variables: Collection[str],
) -> tuple[Settings, Path | None]:
    environ = os.environ if environ is None else environ
    path = _file_to_read(file, environ)
    settings = Settings(_sections(names))
    ignored = [name for name in _ALL if name and name not in names]
    if path is not None:
        settings.add_file(path, read_file(path), ignore=ignored)
    settings.add_environment(
        environ,
        others={CONFIG_VARIABLE, *other_variables},
        ignore_prefixes=[f"{ENVIRONMENT_PREFIX}{name.upper()}_" for name in ignored],
    )
    for option in options:
        settings.add_option(option.section, option.field, option.text, option.flag)
    return settings, path


def _file_to_read(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return CONFIG_FILE_DEFAULT if CONFIG_FILE_DEFAULT.exists() else None


def _sections(names: Collection[SectionName]) -> list[Section]:
    return [Section(name, _model(name), optional=name in _OPTIONAL) for name in names]


def _model(name: SectionName) -> type[BaseModel]:
    """The section's model. Imports only the house that it comes from: the API's costs a quarter of a second."""
    match name:
        case "":
            from mediadht.daemon.config import DaemonConfig

            return DaemonConfig
        case "api":
            from mediadht_bridge.api import ApiConfig

            return ApiConfig
        case "front":
            from mediadht_bridge.front import FrontConfig

            return FrontConfig
        case "feed":
            from mediadht_bridge.matrix import FeedConfig

            return FeedConfig
        case "log":
            return LogConfig
    assert_never(name)
