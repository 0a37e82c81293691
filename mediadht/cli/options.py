"""Options that several commands share, and how they become settings.

A configuration option sets a key of the configuration; its environment variable is that of the key and is read with
the configuration, not by click, so that one rule of precedence holds. A command's own option (`--json`, `--wait`) has
the variable `MEDIADHT_<COMMAND>_<OPTION>`, which click reads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from mediadht.cli.config import CONFIG_VARIABLE, Option, SectionName
from mediadht.cli.settings import ENVIRONMENT_PREFIX, variable_of

__all__ = ["Sources", "command_variables", "configured", "json_option", "own_option"]


@dataclass(frozen=True, slots=True)
class _Shared:
    section: SectionName
    field: str
    metavar: str
    help: str
    multiple: bool = False

    def parameter(self, flag: str) -> str:
        """The option's name among click's arguments."""
        return flag.removeprefix("--").replace("-", "_")

    def option(self, flag: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """The option itself. Click does not read its variable: that is done with the configuration."""
        return click.option(
            flag,
            self.parameter(flag),
            metavar=self.metavar,
            multiple=self.multiple,
            allow_from_autoenv=False,
            help=f"{self.help}  [env: {variable_of(self.section, self.field)}]",
        )


_SHARED: Final[dict[str, _Shared]] = {
    "--data-dir": _Shared("", "data_dir", "DIR", "Folder for the node key and the database."),
    "--server-name": _Shared("", "server_name", "NAME", "Matrix server name of the homeserver beside this node."),
    "--peer-listen": _Shared("", "peer_listen", "HOST:PORT", "Where peers are answered (repeatable).", multiple=True),
    "--peer-url": _Shared("", "peer_url", "URL", "Public wss:// address of this node (repeatable).", multiple=True),
    "--bootstrap": _Shared(
        "", "bootstrap", "URL", "Node to join through: wss://…[#node ID] (repeatable).", multiple=True
    ),
    "--api-listen": _Shared(
        "api", "listen", "ADDRESS", "The HTTP API's address: host:port or unix:/path.", multiple=True
    ),
    "--log-level": _Shared("log", "level", "LEVEL", "debug, info, warning or error."),
    "--log-format": _Shared("log", "format", "FORMAT", "text or json."),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What the command line says of the configuration: for `load_configuration` and its like."""

    file: Path | None
    options: tuple[Option, ...]
    other_variables: frozenset[str]

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of the loaders in `mediadht.cli.config`."""
        return {"file": self.file, "options": self.options, "other_variables": self.other_variables}


def configured(*flags: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `--config` and the shared options `flags`; it receives a `Sources` as its first argument."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def with_sources(**arguments: Any) -> Any:
            file: Path | None = arguments.pop("config")
            texts = {flag: arguments.pop(_SHARED[flag].parameter(flag)) for flag in flags}
            options = tuple(
                Option(_SHARED[flag].section, _SHARED[flag].field, flag, text)
                for flag, text in texts.items()
                if text is not None and text != ()
            )
            variables = frozenset(command_variables(click.get_current_context().find_root().command))
            return command(Sources(file, options, variables), **arguments)

        decorated: Callable[..., Any] = functools.update_wrapper(with_sources, command)
        for flag in reversed(flags):
            decorated = _SHARED[flag].option(flag)(decorated)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            envvar=CONFIG_VARIABLE,
            help=f"TOML file to read. Default: /etc/mediadht/mediadht.toml, if it is there.  [env: {CONFIG_VARIABLE}]",
        )(decorated)

    return decorate


def own_option(*declarations: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option of one command; its environment variable is shown in the help."""
    return click.option(*declarations, show_envvar=True, **attributes)


def json_option(shape: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--json`, which the command receives as `as_json`; `shape` says what is printed then."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def renamed(*positional: Any, json: bool, **arguments: Any) -> Any:
            return command(*positional, as_json=json, **arguments)

        flag = own_option("--json", is_flag=True, help=f"For scripts: print {shape}.")
        return flag(functools.update_wrapper(renamed, command))

    return decorate


def command_variables(root: click.Command) -> Iterator[str]:
    """The environment variables of all commands' own options."""
    if not isinstance(root, click.Group):
        return
    for name, command in root.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.allow_from_autoenv and parameter.name:
                yield f"{ENVIRONMENT_PREFIX}{name}_{parameter.name}".upper().replace("-", "_")
