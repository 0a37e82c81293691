"""The points of a sweep: the grid of varied keys, one run of a point, and what a finished run's directory must say.

A run is known by its fingerprint: the scenario as run, the seed, and the source of the core and the simulator. So a
directory that agrees holds exactly what a run now would give, and one that does not is never mistaken for it. A run is
measured in a directory of its own and handed back as files, so that workers need no disk in common.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import mediadht.core
import mediadht_sim
from mediadht.core.errors import CallerError, EnvironmentFault
from mediadht_sim.scenario import Scenario

__all__ = [
    "SUMMARY_FILE",
    "Measure",
    "Task",
    "Value",
    "clear_unfinished",
    "grid",
    "is_finished",
    "measured_files",
    "read_summary",
    "source_digest",
    "tasks",
    "write_run",
]

Value: TypeAlias = bool | int | float | str
Measure: TypeAlias = Callable[[Scenario, int, Path], None]
"""Runs a scenario with a seed and writes its results into an empty directory, `summary.json` among them."""

RUN_FILE = "sweep-run.json"
SUMMARY_FILE = "summary.json"
_UNFINISHED = ".unfinished-"
_NAME_CHARACTERS_MAX = 120


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a point of the grid, and a seed."""

    values: tuple[tuple[str, Value], ...]
    seed: int
    scenario: Scenario
    fingerprint: str

    @property
    def name(self) -> str:
        """The run's directory: readable, and unlike that of any other run."""
        words = [f"{key}={value}" for key, value in self.values] + [f"seed={self.seed}"]
        readable = re.sub(r"[^A-Za-z0-9.,_=+-]+", "-", ",".join(words))
        return f"{readable[:_NAME_CHARACTERS_MAX]}-{self.fingerprint[:8]}"

    @property
    def row(self) -> dict[str, Value]:
        """The varied keys and the seed."""
        return {**dict(self.values), "seed": self.seed}


def grid(vary: Mapping[str, Sequence[Value]]) -> list[tuple[tuple[str, Value], ...]]:
    """Every combination of the varied keys' values, the last key varying fastest; one empty point if none varies."""
    for key, values in vary.items():
        if not values:
            raise CallerError(f"{key} is to be varied but has no values; give at least one")
        if len(set(map(str, values))) < len(values):
            raise CallerError(f"{key} has a value twice: {', '.join(map(str, values))}; give each once")
    return [tuple(zip(vary, point, strict=True)) for point in itertools.product(*vary.values())]


def tasks(
    vary: Mapping[str, Sequence[Value]],
    seeds: Sequence[int],
    scenario_at: Callable[[Mapping[str, Value]], Scenario],
    measure: Measure,
) -> list[Task]:
    """All runs of a sweep, point by point. Every point gets the same seeds, so that points differ by nothing else.

    Every point's scenario is made, and so checked, before the first run starts.
    """
    made: list[Task] = []
    for values in grid(vary):
        scenario = scenario_at(dict(values))
        made += [Task(values, seed, scenario, _fingerprint(scenario, seed, measure)) for seed in seeds]
    return made


def measured_files(scenario_json: str, seed: int, measure: Measure, digest: str) -> dict[str, bytes]:
    """Run in a worker: what `measure` wrote. `digest` is the caller's `source_digest()`: the worker's must be equal."""
    if digest != source_digest():
        raise EnvironmentFault("this worker has another version of mediadht than its sweep; install the same on both")
    with tempfile.TemporaryDirectory(prefix="mediadht-sim-") as place:
        directory = Path(place)
        measure(Scenario.model_validate_json(scenario_json), seed, directory)
        if not (directory / SUMMARY_FILE).is_file():
            raise CallerError(f"the run wrote no {SUMMARY_FILE}; a measure must")
        return {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }


def write_run(task: Task, files: Mapping[str, bytes], runs: Path) -> None:
    """Make the run's directory below `runs`, all at once: written under a temporary name, then renamed."""
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=runs))
    for name, content in files.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    said = {"fingerprint": task.fingerprint, **task.row}
    (unfinished / RUN_FILE).write_text(json.dumps(said, indent=1) + "\n")
    unfinished.chmod(0o755)
    goal = runs / task.name
    if goal.exists():  # something else of that name: whatever it is, it is not this run
        shutil.rmtree(goal)
    unfinished.rename(goal)


def clear_unfinished(runs: Path) -> None:
    """Remove what an interrupted sweep was writing."""
    for path in runs.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def is_finished(task: Task, runs: Path) -> bool:
    """Whether the run's directory is there and holds this very run."""
    try:
        said = json.loads((runs / task.name / RUN_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("fingerprint") == task.fingerprint


def read_summary(task: Task, runs: Path) -> dict[str, object]:
    """The `summary.json` of a finished run."""
    summary = json.loads((runs / task.name / SUMMARY_FILE).read_text())
    assert isinstance(summary, dict)
    return summary


@cache
def source_digest() -> str:
    """A digest of the source of the core and the simulator: of all that decides what a run gives, but its scenario."""
    digest = hashlib.sha256()
    for package in (mediadht.core, mediadht_sim):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _fingerprint(scenario: Scenario, seed: int, measure: Measure) -> str:
    said = (scenario.model_dump_json(), str(seed), measure.__module__, measure.__qualname__, source_digest())
    return hashlib.sha256("\0".join(said).encode()).hexdigest()
