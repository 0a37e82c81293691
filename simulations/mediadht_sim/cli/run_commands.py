"""`run`, `list`, `replay`: one simulation at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediadht_sim.cli.errors import say
from mediadht_sim.cli.exit_codes import ExitCode
from mediadht_sim.cli.options import json_option, quiet_option, settings_option
from mediadht_sim.cli.progress import RunProgress

if TYPE_CHECKING:
    from mediadht_sim.run import RunResult
    from mediadht_sim.scenario import Scenario

__all__ = ["list_", "replay", "run"]

SEED_MAX = (1 << 63) - 1


@click.command()
@click.argument("scenario")
@click.option("--seed", type=click.IntRange(0, SEED_MAX), help="Decides everything random; wins over the scenario's.")
@settings_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Where to write.  [default: out/SCENARIO-SEED]"
)
@click.option("--force", is_flag=True, help="Overwrite results that are there.")
@click.option("--report/--no-report", "with_report", default=True, help="Whether to write report.html.  [default: yes]")
@quiet_option
@json_option
def run(
    *,
    scenario: str,
    seed: int | None,
    settings: tuple[str, ...],
    out: Path | None,
    force: bool,
    with_report: bool,
    quiet: bool,
    as_json: bool,
) -> ExitCode:
    """Run SCENARIO, a TOML file or one of the names that `list` shows; write its results and a report."""
    from mediadht_sim.scenario_file import load_scenario

    loaded = load_scenario(scenario, settings)
    if seed is not None:
        loaded = loaded.model_copy(update={"seed": seed})
    folder = out or Path("out") / f"{loaded.name}-{loaded.seed}"
    _make_room(folder, force=force)
    result = _simulated(loaded, quiet=quiet)

    from mediadht_sim.tables import write_results

    write_results(result, folder)
    (folder / "report.html").unlink(missing_ok=True)  # of results that were overwritten
    if with_report:
        from mediadht_sim.report import write_report

        write_report(folder)
    if as_json:
        click.echo((folder / "summary.json").read_text(), nl=False)
    elif not quiet:
        from rich.console import Console

        from mediadht_sim.summary import show

        show(result, Console(), folder)
        _show_paths(folder)
    return ExitCode.VIOLATED if result.violations else ExitCode.OK


def _make_room(folder: Path, *, force: bool) -> None:
    """Make the folder, before an hour of simulation finds out that it cannot be made."""
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise click.UsageError(f"{folder} is not empty: choose another with --out, or overwrite it with --force")
    folder.mkdir(parents=True, exist_ok=True)


def _simulated(scenario: Scenario, *, quiet: bool) -> RunResult:
    from mediadht_sim.run import run as simulate

    with RunProgress(scenario.name, is_quiet=quiet) as progress:
        return simulate(scenario, scenario.seed, progress)


def _show_paths(folder: Path) -> None:
    click.echo(f"Written to {folder}:")
    for path in sorted(folder.iterdir()):
        if path.is_file():
            click.echo(f"  {path.name:<18} {path.stat().st_size:>12,} bytes")


@click.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """The scenarios that come with the simulator."""
    from mediadht_sim.scenario_file import load_scenario, scenario_paths

    loaded = {name: (path, load_scenario(path)) for name, path in scenario_paths().items()}
    if as_json:
        rows = [{"name": n, "path": str(p), "nodes": s.network.nodes, "about": s.about} for n, (p, s) in loaded.items()]
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "nodes", "measured", "about"):
        table.add_column(
            heading, justify="right" if heading in {"nodes", "measured"} else "left", no_wrap=heading != "about"
        )
    for name, (_, scenario) in loaded.items():
        about = " ".join(scenario.about.split()).partition(". ")[0].rstrip(".") + "."
        table.add_row(name, f"{scenario.network.nodes:,}", f"{scenario.duration_s:,.0f} s", about)
    Console(width=None if sys.stdout.isatty() else 160, markup=False).print(table)


@click.command()
@click.argument("what", metavar="DIR|SEED")
@click.option("--scenario", help="Of a SEED: the scenario, run twice.  [default: what `fuzz` draws from the seed]")
@click.option("--max-nodes", default=60, show_default=True, type=click.IntRange(5, 10_000), help="As given to `fuzz`.")
@settings_option
@quiet_option
def replay(what: str, scenario: str | None, max_nodes: int, settings: tuple[str, ...], *, quiet: bool) -> ExitCode:
    """Run again what DIR holds or SEED decides, and say whether the traces are equal.

    Of a DIR written by `run`, its scenario and seed are run again and compared with what is written there. A SEED is
    run twice: the scenario named, or else what the safety search draws from it, telling what it finds.
    """
    folder = Path(what)
    if folder.is_dir():
        return _replay_folder(folder, settings, quiet=quiet)
    if not (what.isascii() and what.isdecimal()) or int(what) > SEED_MAX:
        raise click.UsageError(f"{what} is neither a folder with results nor a seed")
    if scenario is None:
        if settings:
            raise click.UsageError("--set needs --scenario: what the safety search draws has no settings")
        return _replay_trial(int(what), max_nodes, quiet=quiet)
    from mediadht_sim.scenario_file import load_scenario

    loaded = load_scenario(scenario, settings).model_copy(update={"seed": int(what)})
    first, second = _simulated(loaded, quiet=quiet), _simulated(loaded, quiet=quiet)
    return _verdict(first.trace, second.trace, bool(second.violations))


def _replay_folder(folder: Path, settings: tuple[str, ...], *, quiet: bool) -> ExitCode:
    from mediadht import __version__
    from mediadht.core.errors import EnvironmentFault
    from mediadht_sim.scenario_file import load_scenario

    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        seed, trace, version = int(summary["seed"]), str(summary["trace"]), summary.get("version")
    except FileNotFoundError as fault:
        raise click.UsageError(f"{folder} holds no results: there is no summary.json in it") from fault
    except (ValueError, KeyError, TypeError) as fault:
        raise EnvironmentFault(f"{folder / 'summary.json'} is damaged: run the scenario again") from fault
    if version != __version__:
        say(f"{folder} was written by version {version}, this is {__version__}: traces may well differ")
    loaded = load_scenario(folder / "scenario.toml", settings).model_copy(update={"seed": seed})
    result = _simulated(loaded, quiet=quiet)
    return _verdict(trace, result.trace, bool(result.violations))


def _replay_trial(seed: int, nodes_max: int, *, quiet: bool) -> ExitCode:
    from mediadht_sim.fuzz_scenarios import draw
    from mediadht_sim.fuzz_trial import try_plan

    plan = draw(seed, nodes_max)
    if not quiet:
        say(f"seed {seed}: {plan.nodes} nodes, {len(plan.steps)} steps, run twice")
    first, second = try_plan(plan), try_plan(plan)
    if second.found is not None:
        click.echo(f"{second.found.kind}, at {second.found.at_s:.3f} s: {second.found.what}")
    return _verdict(first.trace, second.trace, second.found is not None)


def _verdict(first: str, second: str, is_violated: bool) -> ExitCode:
    if first != second:
        click.echo(f"The traces differ: {first} and {second}.")
        return ExitCode.VIOLATED
    click.echo(f"The traces are equal: {second}.")
    if is_violated:
        click.echo("A checker was violated, as it says above or in summary.json.")
        return ExitCode.VIOLATED
    return ExitCode.OK
