"""`report`, `compare`, `sweep`: what is made of many simulations, or after them."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from mediadht_sim.cli.exit_codes import ExitCode
from mediadht_sim.cli.options import json_option, quiet_option, settings_option

__all__ = ["compare", "report", "sweep"]

_METRICS_SHOWN = (
    "success_share",
    "first_ms_p50",
    "first_ms_p95",
    "requests_mean",
    "hops_mean",
    "stored_share",
    "routing_health",
)
_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", metavar="DIR", type=_folder)
def report(folder: Path) -> None:
    """Write DIR/report.html again, from the tables in DIR."""
    from mediadht_sim.report import write_report

    click.echo(write_report(folder))


@click.command()
@click.argument("a", type=_folder)
@click.argument("b", type=_folder)
def compare(a: Path, b: Path) -> None:
    """How the results in A and in B differ, and whether by more than chance."""
    from rich.console import Console

    from mediadht_sim.compare import compare as compared

    Console().print(compared(a, b))


@click.command()
@click.argument("scenario")
@click.option("--vary", metavar="KEY=V1,V2", multiple=True, help="Values of a key; several keys make a grid.")
@click.option("--seeds", type=click.IntRange(1, 100_000), default=10, show_default=True, help="Runs of each point.")
@settings_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: out/SCENARIO-sweep]")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, like tcp://host:8786, instead of this machine.")
@click.option("--workers", type=click.IntRange(0, 1_024), help="Processes; 0: none but this.  [default: one a core]")
@click.option("--metric", "metrics", multiple=True, help="Metrics to show (repeatable); all are in sweep.parquet.")
@quiet_option
@json_option
def sweep(
    *,
    scenario: str,
    vary: tuple[str, ...],
    seeds: int,
    settings: tuple[str, ...],
    out: Path | None,
    scheduler: str | None,
    workers: int | None,
    metrics: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> ExitCode:
    """Run SCENARIO at every combination of varied values. The same command goes on with an interrupted sweep."""
    from mediadht_sim import sweep as sweeps
    from mediadht_sim.scenario_file import load_scenario

    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler brings its own workers: leave out --workers")
    loaded = load_scenario(scenario, settings)
    varied = dict(_varied(text) for text in vary)
    folder = out or Path("out") / f"{loaded.name}-sweep"
    if quiet or not sys.stderr.isatty():
        result = sweeps.sweep(loaded, varied, seeds, folder, scheduler=scheduler, workers=workers)
    else:
        with sweeps.progress_bar() as told:
            result = sweeps.sweep(loaded, varied, seeds, folder, scheduler=scheduler, workers=workers, progress=told)
    if as_json:
        click.echo(json.dumps([_point_as_json(point) for point in result.points], indent=2))
    elif not quiet:
        from rich.console import Console

        from mediadht_sim.sweep_tables import rich_table

        Console().print(rich_table(result.points, metrics or _METRICS_SHOWN))
        click.echo(f"{len(result.rows)} runs, {result.resumed} of them made before: {folder / 'sweep.parquet'}")
        if result.failed:
            click.echo(f"{result.failed} failed: {folder / 'failures'} says why")
    if result.failed:
        return ExitCode.ENVIRONMENT
    return ExitCode.VIOLATED if result.violations else ExitCode.OK


def _varied(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise click.UsageError(f"--vary {text}: write KEY=V1,V2, like constants.ALPHA=2,3,5")
    try:
        parsed: list[Any] = tomllib.loads(f"values = [{values}]")["values"]
    except tomllib.TOMLDecodeError:
        parsed = [value.strip() for value in values.split(",")]
    return key, parsed


def _point_as_json(point: Any) -> dict[str, Any]:
    return {
        "values": dict(point.values),
        "runs": point.runs,
        "failed": point.failed,
        "violations": point.violations,
        "metrics": {name: {"mean": e.mean, "low": e.low, "high": e.high} for name, e in point.metrics.items()},
    }
