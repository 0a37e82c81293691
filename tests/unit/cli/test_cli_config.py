"""The whole configuration, from the houses' own models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from mediadht.cli import config as cli_config
from mediadht.cli.config import Option, load_api_config, load_configuration, load_node_config
from mediadht.cli.exit_codes import ExitCode
from mediadht.cli.logs import LogConfig
from mediadht.cli.main import command
from mediadht.cli.options import command_variables
from mediadht.cli.settings import variable_of
from mediadht.core.errors import ConfigurationError
from mediadht.daemon.config import DaemonConfig
from mediadht_bridge.api import ApiConfig
from mediadht_bridge.front import FrontConfig
from mediadht_bridge.matrix import FeedConfig

Cli = Callable[..., Any]
MODELS = {"": DaemonConfig, "api": ApiConfig, "front": FrontConfig, "feed": FeedConfig, "log": LogConfig}


def write(folder: Path, text: str) -> Path:
    path = folder / "mediadht.toml"
    path.write_text(text)
    return path


def test_nothing_said_is_valid_and_listens_on_loopback() -> None:
    made = load_configuration(environ={})
    assert (made.node, made.api, made.log) == (DaemonConfig(), ApiConfig(), LogConfig())
    assert (made.front, made.feed, made.file) == (None, None, None)
    assert not made.api.exposed


def test_precedence(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'server_name = "file.example"\ndata_dir = "/file"\nrecords_max = 2000\n'
        '[api]\nlisten = ["127.0.0.1:1"]\n[front]\nvia_max = 3\n[log]\nlevel = "error"\n',
    )
    made = load_configuration(
        path,
        environ={"MEDIADHT_SERVER_NAME": "env.example", "MEDIADHT_DATA_DIR": "/env", "MEDIADHT_FRONT_VIA_MAX": "4"},
        options=[
            Option("", "server_name", "--server-name", "option.example"),
            Option("log", "level", "--log-level", "debug"),
        ],
    )
    assert made.node.server_name == "option.example"
    assert made.node.data_dir == Path("/env")
    assert made.node.records_max == 2000
    assert made.api.listen == ("127.0.0.1:1",)
    assert made.front is not None
    assert made.front.via_max == 4
    assert made.log.level == "debug"
    assert made.origins["server_name"] == "option --server-name"
    assert made.origins["data_dir"] == "environment variable MEDIADHT_DATA_DIR"
    assert made.origins["records_max"] == str(path)
    assert made.origins["network"] == "default"


def test_the_file_is_named_by_the_option_then_the_environment_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for name in ("option", "environment", "default"):
        files[name] = tmp_path / name
        files[name].write_text(f'network = "{name}"\n')
    monkeypatch.setattr(cli_config, "CONFIG_FILE_DEFAULT", files["default"])
    environ = {"MEDIADHT_CONFIG": str(files["environment"])}
    assert load_configuration(files["option"], environ=environ).node.network == "option"
    assert load_configuration(environ=environ).node.network == "environment"
    assert load_configuration(environ={}).node.network == "default"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: the configuration file cannot be read"):
        load_configuration(tmp_path / "none.toml", environ={})


def test_no_two_keys_share_a_variable() -> None:
    variables = [variable_of(name, field) for name, model in MODELS.items() for field in model.model_fields]
    variables += [*command_variables(command), "MEDIADHT_CONFIG"]
    assert len(set(variables)) == len(variables)


def test_every_key_is_described() -> None:
    for model in MODELS.values():
        for field, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{field}"


def test_every_option_of_every_command_has_a_variable_in_its_help() -> None:
    for name, subcommand in command.commands.items():
        help_text = subcommand.get_help(
            click.Context(subcommand, info_name=name, auto_envvar_prefix=f"MEDIADHT_{name}".upper())
        )
        for parameter in subcommand.params:
            if isinstance(parameter, click.Option) and parameter.name != "help":
                assert "MEDIADHT_" in help_text.partition(parameter.opts[0])[2], parameter.opts


def test_commands_variables_are_no_unknown_ones(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIADHT_LOOKUP_DEADLINE_S", "2")
    monkeypatch.setenv("MEDIADHT_STATUS_JSON", "1")
    assert cli("run", "--check").code == ExitCode.OK
    monkeypatch.setenv("MEDIADHT_LOOKUP_DEADLNE_S", "2")
    told = cli("run", "--check")
    assert told.code == ExitCode.CONFIGURATION
    assert "the nearest known one is MEDIADHT_LOOKUP_DEADLINE_S" in told.err


def test_a_command_minds_its_own_sections_only(tmp_path: Path) -> None:
    path = write(tmp_path, 'sessions_max = 1\n[front]\nnonsense = 1\n[api]\nlisten = ["127.0.0.1:7"]\n')
    environ = {"MEDIADHT_FRONT_NONSENSE": "1"}
    assert load_api_config(path, environ=environ).listen == ("127.0.0.1:7",)
    with pytest.raises(ConfigurationError, match="sessions_max"):
        load_node_config(path, environ=environ)
    with pytest.raises(ConfigurationError, match="nonsense"):
        load_configuration(path, environ=environ)


def test_misspelt_sections_are_noticed_by_every_command(tmp_path: Path) -> None:
    path = write(tmp_path, "[frond]\n")
    for load in (load_api_config, load_node_config, load_configuration):
        with pytest.raises(ConfigurationError, match=r"unknown section \[frond\]: the nearest known one is front"):
            load(path, environ={})


def test_an_exposed_api_without_a_token_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ={"MEDIADHT_API_LISTEN": "0.0.0.0:80"})
    assert "without a token" in str(caught.value)
    assert "(given: api.listen from environment variable MEDIADHT_API_LISTEN)" in str(caught.value)


def test_a_feed_without_a_server_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"\[feed\] announces rooms for a homeserver.*MEDIADHT_SERVER_NAME"):
        load_configuration(environ={"MEDIADHT_FEED_HOMESERVER_URL": "http://127.0.0.1:8008"})


def test_check(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, 'server_name = "a.example"\n[feed]\naccess_token = "hush_hush_hush_hush"\n')
    told = cli("run", "--check", "--config", path, "--log-level", "debug")
    assert told.code == ExitCode.OK
    assert f'server_name = "a.example"  # {path}\n' in told.out
    assert 'log.level = "debug"  # option --log-level\n' in told.out
    assert "# [front] is off\n" in told.out
    assert told.out.endswith(f"the configuration is valid (file: {path})\n")
    assert "hush" not in told.out
    told = cli("run", "--check", "--json", "--config", path)
    assert told.json()["settings"]["feed.access_token"] == {"value": "(hidden)", "from": str(path)}
    assert told.json()["settings"]["network"]["from"] == "default"
    assert json.loads(told.out)["valid"] is True


def test_check_of_a_wrong_configuration(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, "boostrap = []\n")
    told = cli("run", "--check", "--config", path)
    assert (told.code, told.out) == (ExitCode.CONFIGURATION, "")
    assert told.err == f"mediadht: {path}: unknown key boostrap: the nearest known one is bootstrap\n"
