"""The safety search: random networks with random faults, one a seed, until time is up or something is found.

What a seed does depends on the seed and on the largest network allowed, and on nothing else: not on how long the search
runs, nor on what came before. A failure is told with its plan, what was not met, and the command that reproduces it,
and then cut down to the smallest plan found that fails in the same way.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mediadht_sim.fuzz_scenarios import Plan, draw, plan_from_json, plan_to_json
from mediadht_sim.fuzz_shrink import shrunk
from mediadht_sim.fuzz_trial import Found, try_plan

__all__ = ["NODES_MAX", "Failure", "FuzzResult", "Told", "fuzz", "progress_bar", "replay"]

NODES_MAX = 60
"""The largest network, unless told otherwise: three times k, so that not everybody is everybody's replica."""
SHRINK_S = 60.0
"""Real time spent on cutting one failure down."""

Told: TypeAlias = Callable[[int, int, int], None]
"""Told after every seed: the seed, seeds tried, failures."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that failed."""

    plan: Plan
    nodes_max: int
    found: Found
    shrunk: Plan | None
    """The smallest plan found that fails alike; None where that was not tried."""
    shrunk_found: Found | None
    plan_file: Path | None
    """Where the smallest plan was written."""

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.plan.seed

    @property
    def command(self) -> str:
        """What reproduces it."""
        return f"mediadht-sim fuzz --only-seed {self.seed} --max-nodes {self.nodes_max}"

    def said(self) -> str:
        """All of it, for people."""
        lines = [
            f"seed {self.seed} fails: {self.found.kind}, at {self.found.at_s:.1f} s of virtual time",
            self.found.what.rstrip(),
            "",
            self.plan.said(),
            "",
            f"reproduce it: {self.command}",
        ]
        if self.shrunk is not None and self.shrunk_found is not None:
            lines += ["", "cut down:", self.shrunk.said()]
            lines += [f"  {step}" for step in self.shrunk.steps[:40]]
            lines += [self.shrunk_found.what.rstrip()] if self.shrunk_found != self.found else []
        if self.plan_file is not None:
            lines.append(f"the plan that was cut down: mediadht-sim fuzz --plan {self.plan_file}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class FuzzResult:
    """What a search gave."""

    seeds: int
    """Seeds tried, from the first on without a gap."""
    failures: list[Failure]
    virtual_s: float
    messages: int
    wall_s: float


def fuzz(
    minutes: float,
    seed_start: int = 1,
    nodes_max: int = NODES_MAX,
    out: Path | None = None,
    progress: Told | None = None,
    *,
    only_seed: int | None = None,
    failures_max: int = 1,
    shrink_s: float = SHRINK_S,
) -> FuzzResult:
    """Try seeds from `seed_start` on for so many minutes of real time, or `only_seed` alone, whatever the time.

    At least one seed is tried. It ends after `failures_max` failures. `out`: a directory for the plans of failures.
    """
    started_s = time.monotonic()
    failures: list[Failure] = []
    seeds, virtual_s, messages = 0, 0.0, 0
    chosen: Iterable[int] = itertools.count(seed_start) if only_seed is None else (only_seed,)
    for seed in chosen:
        plan = draw(seed, nodes_max)
        outcome = try_plan(plan)
        seeds, virtual_s, messages = seeds + 1, virtual_s + outcome.virtual_s, messages + outcome.messages
        if outcome.found is not None:
            failures.append(_failure(plan, nodes_max, outcome.found, out, shrink_s))
        if progress is not None:
            progress(seed, seeds, len(failures))
        if len(failures) >= failures_max or time.monotonic() - started_s >= 60 * minutes:
            break
    return FuzzResult(seeds, failures, virtual_s, messages, time.monotonic() - started_s)


def replay(plan_file: Path) -> Failure | None:
    """Run a plan that a search wrote; what fails in it, or None."""
    plan = plan_from_json(plan_file.read_text())
    found = try_plan(plan).found
    return None if found is None else Failure(plan, plan.nodes, found, None, None, plan_file)


def _failure(plan: Plan, nodes_max: int, found: Found, out: Path | None, shrink_s: float) -> Failure:
    def fails(candidate: Plan) -> bool:
        other = try_plan(candidate).found
        return other is not None and other.kind == found.kind

    small = shrunk(plan, fails, shrink_s) if shrink_s > 0 else None
    small_found = None if small is None else try_plan(small).found
    path = None
    if out is not None and small is not None:
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"seed-{plan.seed}.json"
        path.write_text(plan_to_json(small) + "\n")
    return Failure(plan, nodes_max, found, small, small_found, path)


@contextmanager
def progress_bar(minutes: float) -> Iterator[Told]:
    """A bar on standard error with the seeds tried, their rate, and the time left, to be given to `fuzz`."""
    started_s = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("searching", total=60 * minutes)

        def tell(seed: int, seeds: int, failures: int) -> None:
            passed_s = time.monotonic() - started_s
            what = f"seed {seed}, {60 * seeds / passed_s:.0f} seeds/min, {failures} failures"
            bar.update(task, completed=passed_s, description=what)

        yield tell
