"""The commands that run a node, or prepare one: `run`, `keygen`, `demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediadht.cli.exit_codes import ExitCode
from mediadht.cli.options import Sources, configured, json_option, own_option

if TYPE_CHECKING:
    from mediadht.cli.config import Configuration

__all__ = ["demo", "keygen", "run"]


@click.command(short_help="Run the daemon, its HTTP API and what is configured.")
@configured(
    "--data-dir",
    "--server-name",
    "--peer-listen",
    "--peer-url",
    "--bootstrap",
    "--api-listen",
    "--log-level",
    "--log-format",
)
@own_option("--check", is_flag=True, help="Validate the configuration, show it, and exit.")
@json_option("the `ready` line, or the checked configuration, as JSON")
def run(sources: Sources, *, check: bool, as_json: bool) -> ExitCode:
    """Run the daemon, its HTTP API and what else is configured.

    The log goes to standard error. Once everything answers, one line that begins with `ready` goes to standard output
    and READY=1 to systemd. SIGTERM or SIGINT ends it within 10 seconds, a second one at once; SIGHUP is ignored.
    """
    from mediadht.cli.config import load_configuration

    configuration = load_configuration(**sources.arguments())
    configuration.api.read_token()  # raises what is wrong with the token files, before anything starts
    if configuration.feed is not None:
        configuration.feed.token()
    if check:
        _show_configuration(configuration, as_json=as_json)
        return ExitCode.OK
    import trio

    from mediadht.cli.logs import set_up_logging
    from mediadht.cli.run import run_node

    set_up_logging(configuration.log)
    trio.run(lambda: run_node(configuration, as_json=as_json))
    return ExitCode.OK


def _show_configuration(configuration: Configuration, *, as_json: bool) -> None:
    values = configuration.shown()
    file = str(configuration.file) if configuration.file else None
    if as_json:
        settings = {key: {"value": value, "from": configuration.origins[key]} for key, value in values.items()}
        click.echo(json.dumps({"valid": True, "file": file, "settings": settings}, indent=2))
        return
    for key, value in values.items():
        origin = configuration.origins[key]
        if value is None:
            click.echo(f"# {key} is not set")
        else:
            click.echo(f"{key} = {json.dumps(value)}" + ("" if origin == "default" else f"  # {origin}"))
    for name, part in (("front", configuration.front), ("feed", configuration.feed)):
        if part is None:
            click.echo(f"# [{name}] is off")
    click.echo(f"the configuration is valid (file: {file or 'none'})")


@click.command(short_help="Create the node key, and print the node ID.")
@configured("--data-dir")
@json_option("an object with `node_id`")
def keygen(sources: Sources, *, as_json: bool) -> ExitCode:
    """Create the node key in the data folder, and print the node ID that follows from it.

    A key that is there already is kept. The key itself is never printed.
    """
    from mediadht.cli.config import load_node_config
    from mediadht.core.keys import node_id_hex
    from mediadht.daemon.identity import load_or_create_key

    keys = load_or_create_key(load_node_config(**sources.arguments()).data_dir)
    node_id = node_id_hex(keys.node_id)
    click.echo(json.dumps({"node_id": node_id}) if as_json else node_id)
    return ExitCode.OK


@click.command(short_help="Show it all on this machine, with real Synapse servers.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@own_option("--folder", type=click.Path(path_type=Path), metavar="DIR", help="Empty folder for its files; it is kept.")
@own_option("--keep", is_flag=True, help="Keep the temporary folder.")
@json_option("one JSON object a line for each step, and the whole report at the end")
def demo(*, file: Path | None, folder: Path | None, keep: bool, as_json: bool) -> ExitCode:
    """Show it all on this machine: five daemons, two Synapse servers, a join by room ID alone, a file found.

    FILE is the file that is announced; without it, one is made. Needs the extra `homeserver` (`make demo` installs it).
    Takes under three minutes and stops everything that it started.
    """
    import trio
    from rich.console import Console

    from mediadht.cli.demo import Step, run_demo

    def emit(step: Step) -> None:
        click.echo(json.dumps(step.as_dict()))

    console = Console(stderr=as_json)
    report = trio.run(lambda: run_demo(file, console=console, folder=folder, keep=keep, emit=emit if as_json else None))
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    report.raise_for_failure()
    return ExitCode.OK
