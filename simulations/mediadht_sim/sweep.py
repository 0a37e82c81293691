"""Many runs of one scenario: a grid of varied keys times seeds, on all cores or on a cluster, resumable.

`out` then holds `sweep.parquet` (one row a run), `runs/` (each run's own directory) and `failures/` (what went wrong
in runs that failed). What always holds: a directory below `runs/` is complete, for it is renamed into place; the same
sweep into the same `out` makes only the runs that are missing; every point is run with the same seeds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from mediadht.core.errors import CallerError
from mediadht_sim import sweep_points as points
from mediadht_sim.run import run
from mediadht_sim.scenario import Scenario
from mediadht_sim.scenario_file import with_settings, with_values
from mediadht_sim.sweep_points import Measure, Value
from mediadht_sim.sweep_tables import Point, Row, points_of, rows_of, write_rows
from mediadht_sim.tables import write_results

__all__ = ["SweepInterrupted", "SweepResult", "Told", "progress_bar", "run_and_write", "sweep"]

Told: TypeAlias = Callable[[int, int, int], None]
"""Told after every run: runs made, runs in all, runs failed."""

_RUNS, _FAILURES, _TABLE = "runs", "failures", "sweep.parquet"


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep gave."""

    rows: list[Row]
    """One a run, point by point."""
    points: list[Point]
    resumed: int
    """Runs that had been made before."""
    out: Path

    @property
    def failed(self) -> int:
        """Runs that ended in an error; `out`/failures says which."""
        return sum(row.error is not None for row in self.rows)

    @property
    def violations(self) -> int:
        """What the checkers found, in all runs."""
        return sum(row.violations for row in self.rows)


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C. The message says how to go on."""


def run_and_write(scenario: Scenario, seed: int, directory: Path) -> None:
    """Make one run and write its results, without the report."""
    write_results(run(scenario, seed), directory)


def sweep(
    scenario: Scenario,
    vary: Mapping[str, Sequence[Value]],
    seeds: int,
    out: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    set_: Sequence[str] = (),
    progress: Told | None = None,
    measure: Measure = run_and_write,
) -> SweepResult:
    """Run `scenario` with `seeds` seeds at every combination of the varied keys' values.

    Keys are dotted as for `--set`; `set_` holds `key=value` settings that apply everywhere. Seeds count from the
    scenario's own. `workers`: processes on this machine, None for one a core, 0 for none (all in this process);
    `scheduler`: the address of a Dask scheduler, whose workers are used instead. `measure` makes one run, by default
    `run_and_write`; it must be importable. Raises what a wrong key or value raises, before the first run, and
    `SweepInterrupted`.
    """
    if seeds < 1:
        raise CallerError(f"a sweep needs at least one seed, not {seeds}")
    base = with_settings(scenario, set_)
    chosen = range(base.seed, base.seed + seeds)
    tasks = points.tasks(vary, chosen, lambda values: with_values(base, values), measure)
    runs, failures = out / _RUNS, out / _FAILURES
    runs.mkdir(parents=True, exist_ok=True)
    points.clear_unfinished(runs)
    shutil.rmtree(failures, ignore_errors=True)
    missing = [task for task in tasks if not points.is_finished(task, runs)]
    resumed = made = len(tasks) - len(missing)
    errors: dict[str, str] = {}
    tell = progress or (lambda made, total, failed: None)
    tell(made, len(tasks), 0)
    try:
        with closing(_outcomes(missing, measure, scheduler, workers)) as outcomes:
            for task, files in outcomes:
                if isinstance(files, str):
                    errors[task.name] = files
                    failures.mkdir(exist_ok=True)
                    (failures / f"{task.name}.txt").write_text(files)
                else:
                    points.write_run(task, files, runs)
                made += 1
                tell(made, len(tasks), len(errors))
    except KeyboardInterrupt:
        kept = made - len(errors)
        msg = f"interrupted: {kept} of {len(tasks)} runs are kept in {out}; the same command makes the rest"
        raise SweepInterrupted(msg) from None
    rows = rows_of(tasks, errors, runs)
    write_rows(rows, out / _TABLE)
    return SweepResult(rows, points_of(rows), resumed, out)


def _outcomes(
    tasks: Sequence[points.Task], measure: Measure, scheduler: str | None, workers: int | None
) -> Generator[tuple[points.Task, dict[str, bytes] | str], None, None]:
    # Dask takes a second to import, which `list`, `run` and `--help` need not wait for.
    from mediadht_sim import sweep_workers  # noqa: PLC0415

    if tasks and (scheduler is not None or workers != 0):
        yield from sweep_workers.made_on_cluster(tasks, measure, scheduler=scheduler, workers=workers)
    else:
        yield from sweep_workers.made_here(tasks, measure)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{60 * rate:.3g} runs/min", style="progress.data.speed")


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Told]:
    """A bar with rate and time left, to be given to `sweep`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="red"),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        task = None

        def tell(made: int, total: int, failed: int) -> None:
            nonlocal task
            if task is None:
                # Runs of an earlier sweep are there at once: they must not count in the rate.
                task = bar.add_task("runs", total=total, completed=made, failed="")
            bar.update(task, completed=made, failed=f"{failed} failed" if failed else "")

        yield tell
