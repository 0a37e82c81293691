"""What the studies beside this file share: sweeps of their parts, and tables in Markdown for docs/research.md.

A study is a module docstring (question, method, figures, verdict) and a list of parts. A part is one sweep: a scenario,
what is varied, and the metrics that answer the question. Sweeps resume: a study that was stopped goes on where it was.
"""

from __future__ import annotations

import inspect
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from mediadht_sim.columns import NODES
from mediadht_sim.run import run
from mediadht_sim.scenario import Checks, Scenario
from mediadht_sim.sweep import progress_bar, sweep
from mediadht_sim.sweep_points import Value
from mediadht_sim.sweep_tables import markdown_table
from mediadht_sim.tables import write_results

__all__ = ["UNCHECKED", "Part", "measured", "play"]

UNCHECKED = Checks(live_found=False, withdrawn_gone=False, bounds=False, routing=False, deadlines=False)
"""A study asks how well something works with values that may not work at all: no violations, only figures."""

QUICK_SEEDS = 1
_COLUMNS = [column.name for column in NODES.columns]


@dataclass(frozen=True, slots=True)
class Part:
    """One sweep of a study."""

    title: str
    scenario: Scenario
    vary: Mapping[str, Sequence[Value]]
    metrics: Sequence[str]
    seeds: int = 4


def measured(scenario: Scenario, seed: int, directory: Path) -> None:
    """A run with one more metric: the records that an honest node which was up at all keeps."""
    result = run(scenario, seed)
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in result.nodes]
    up = [row for row in rows if row["honest"] and row["up_s"] > 0]
    more = {"records_mean": statistics.fmean(row["records"] for row in up) if up else None}
    write_results(replace(result, metrics={**result.metrics, **more}), directory)


def play(doc: str | None, parts: Callable[[bool], Sequence[Part]]) -> None:
    """The study's command line; `parts(quick)` gives its parts, small ones where `quick`."""

    @click.command(help=inspect.cleandoc(doc or ""))
    @click.option("--seeds", type=click.IntRange(1, 1_000), help="Runs of each point.  [default: the study's own]")
    @click.option("--quick", is_flag=True, help="Tiny networks, one seed: whether it works, not what is true.")
    @click.option(
        "--workers", type=click.IntRange(0, 1_024), help="Processes; 0: none but this.  [default: one a core]"
    )
    @click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, instead of this machine.")
    @click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: out/STUDY]")
    def study(*, quick: bool, seeds: int | None, workers: int | None, scheduler: str | None, out: Path | None) -> None:
        name = Path(sys.argv[0]).stem
        folder = out or Path("out") / (f"{name}-quick" if quick else name)
        for number, part in enumerate(parts(quick), 1):
            count = seeds or (QUICK_SEEDS if quick else part.seeds)
            _play_part(part, folder / f"part-{number}", seeds=count, workers=workers, scheduler=scheduler)

    study()


def _play_part(part: Part, folder: Path, *, seeds: int, workers: int | None, scheduler: str | None) -> None:
    started_s = time.monotonic()
    with progress_bar() as told:
        result = sweep(
            part.scenario,
            part.vary,
            seeds,
            folder,
            workers=workers,
            scheduler=scheduler,
            progress=told,
            measure=measured,
        )
    click.echo(f"**{part.title}**\n")
    click.echo(markdown_table(result.points, part.metrics))
    took_s = time.monotonic() - started_s
    click.echo(f"{len(result.rows)} runs, {seeds} a row, means with 95 % confidence; {took_s:.0f} s.\n")
    if result.failed:
        raise click.ClickException(f"{result.failed} runs failed: {folder / 'failures'} says why")
