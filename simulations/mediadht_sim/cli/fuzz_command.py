"""`fuzz`: the safety search, and what reproduces its failures."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import click

from mediadht_sim.cli.exit_codes import ExitCode
from mediadht_sim.cli.options import quiet_option
from mediadht_sim.cli.run_commands import SEED_MAX

__all__ = ["fuzz"]


@click.command()
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="How long.")
@click.option("--seed-start", type=click.IntRange(0, SEED_MAX), default=1, show_default=True, help="The first seed.")
@click.option("--only-seed", type=click.IntRange(0, SEED_MAX), help="Try this seed alone: to reproduce a failure.")
@click.option("--max-nodes", type=click.IntRange(5, 10_000), default=60, show_default=True, help="Largest network.")
@click.option("--failures", type=click.IntRange(1, 1_000), default=1, show_default=True, help="End after so many.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where to put the plans of failures.")
@click.option(
    "--plan", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run a plan that was put there."
)
@quiet_option
def fuzz(
    *,
    minutes: float,
    seed_start: int,
    only_seed: int | None,
    max_nodes: int,
    failures: int,
    out: Path | None,
    plan: Path | None,
    quiet: bool,
) -> ExitCode:
    """Search for a failure: a random network with random faults from each seed, first under fire, then in peace.

    Prints the command that reproduces what it finds, and the smallest case found that fails alike.
    """
    from mediadht_sim import fuzz as search

    if plan is not None:
        failure = search.replay(plan)
        click.echo("all demands are met" if failure is None else failure.said())
        return ExitCode.OK if failure is None else ExitCode.VIOLATED
    bar = nullcontext() if quiet or not sys.stderr.isatty() else search.progress_bar(minutes)
    with bar as told:
        result = search.fuzz(minutes, seed_start, max_nodes, out, told, only_seed=only_seed, failures_max=failures)
    for failure in result.failures:
        click.echo(failure.said())
        click.echo()
    if not quiet:
        found = f"{len(result.failures)} failures" if result.failures else "nothing found"
        click.echo(
            f"{result.seeds} networks, {result.messages:,} messages, {result.virtual_s / 3600:.1f} h of virtual time"
            f" in {result.wall_s:.0f} s: {found}"
        )
    return ExitCode.VIOLATED if result.failures else ExitCode.OK
