"""What a sweep found: one row a run, and for every point the mean of each metric with its 95 % confidence interval.

The interval is Student's t over the point's runs: with the few seeds that a sweep has, a bootstrap would be too narrow.
One run gives a mean and no interval. Failed runs have a row with their error, and count in no mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from mediadht_sim.sweep_points import Task, Value, read_summary

__all__ = ["Estimate", "Point", "Row", "estimate", "markdown_table", "points_of", "rich_table", "rows_of", "write_rows"]

# Quantiles of Student's t at 97.5 %, for 1, 2, 3, ... degrees of freedom; beyond them the expansion below is exact to
# three decimals.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)
_NORMAL = 1.959964


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    values: tuple[tuple[str, Value], ...]
    seed: int
    metrics: Mapping[str, float | None]
    violations: int = 0
    trace: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's mean over the runs of a point; `low` and `high` bound it with 95 % confidence, if there were two."""

    mean: float
    low: float | None
    high: float | None
    runs: int

    @property
    def margin(self) -> float | None:
        """Half the interval's width."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of the varied values."""

    values: tuple[tuple[str, Value], ...]
    runs: int
    failed: int
    violations: int
    metrics: Mapping[str, Estimate]


def estimate(samples: Sequence[float]) -> Estimate:
    """The mean of at least one sample, with its interval."""
    count = len(samples)
    mean = math.fsum(samples) / count
    if count < 2:
        return Estimate(mean, None, None, count)
    deviation = math.sqrt(math.fsum((sample - mean) ** 2 for sample in samples) / (count - 1))
    margin = _t_quantile(count - 1) * deviation / math.sqrt(count)
    return Estimate(mean, mean - margin, mean + margin, count)


def rows_of(tasks: Sequence[Task], errors: Mapping[str, str], runs: Path) -> list[Row]:
    """A row for every run, in the order of the grid. `errors` maps names of failed runs to what went wrong."""
    rows: list[Row] = []
    for task in tasks:
        if task.name in errors:
            rows.append(Row(task.values, task.seed, {}, error=errors[task.name]))
            continue
        summary = read_summary(task, runs)
        metrics, violations = summary.get("metrics"), summary.get("violations")
        rows.append(
            Row(
                task.values,
                task.seed,
                {name: _number(value) for name, value in metrics.items()} if isinstance(metrics, dict) else {},
                len(violations) if isinstance(violations, list) else 0,
                str(summary.get("trace", "")),
            )
        )
    return rows


def points_of(rows: Sequence[Row]) -> list[Point]:
    """The rows' points, in their order. A metric that no run of a point has is left out."""
    by_values: dict[tuple[tuple[str, Value], ...], list[Row]] = {}
    for row in rows:
        by_values.setdefault(row.values, []).append(row)
    points: list[Point] = []
    for values, of_point in by_values.items():
        samples: dict[str, list[float]] = {}
        for row in of_point:
            for name, value in row.metrics.items():
                if value is not None:
                    samples.setdefault(name, []).append(value)
        failed = sum(row.error is not None for row in of_point)
        violations = sum(row.violations for row in of_point)
        metrics = {name: estimate(found) for name, found in samples.items()}
        points.append(Point(values, len(of_point), failed, violations, metrics))
    return points


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """`sweep.parquet`: varied keys, seed, violations, trace, error, and every metric that some run has."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    columns: dict[str, pa.Array] = {}
    for position, (key, _) in enumerate(rows[0].values if rows else ()):
        columns[key] = _array([row.values[position][1] for row in rows])
    columns["seed"] = pa.array([row.seed for row in rows], pa.int64())
    columns["violations"] = pa.array([None if row.error else row.violations for row in rows], pa.int32())
    columns["trace"] = pa.array([row.trace or None for row in rows], pa.string())
    columns["error"] = pa.array([row.error for row in rows], pa.string())
    for name in metrics:
        columns[name] = pa.array([row.metrics.get(name) for row in rows], pa.float64())
    unfinished = path.with_name(f".{path.name}.unfinished")
    pq.write_table(pa.table(columns), unfinished)
    unfinished.replace(path)


def rich_table(points: Sequence[Point], metrics: Sequence[str]) -> Table:
    """For the terminal."""
    headings, *rows = _cells(points, metrics)
    table = Table(title="mean ± 95 % confidence")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(points: Sequence[Point], metrics: Sequence[str]) -> str:
    """For a document."""
    headings, *rows = _cells(points, metrics)
    lines = [headings, ["---:"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _cells(points: Sequence[Point], metrics: Sequence[str]) -> list[list[str]]:
    """The heading and a line for every point; failed runs and violations are a column where there are any."""
    keys = [key.removeprefix("constants.") for key, _ in points[0].values] if points else []
    failed, violated = any(point.failed for point in points), any(point.violations for point in points)
    lines = [[*keys, "runs", *(["failed"] if failed else []), *(["violations"] if violated else []), *metrics]]
    for point in points:
        counts = [point.runs, *([point.failed] if failed else []), *([point.violations] if violated else [])]
        found = [_said(point.metrics.get(name)) for name in metrics]
        lines.append([*(str(value) for _, value in point.values), *map(str, counts), *found])
    return lines


def _said(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.margin is None:
        return _rounded(found.mean, abs(found.mean) / 1000)
    return f"{_rounded(found.mean, found.margin)} ± {_rounded(found.margin, found.margin)}"


def _rounded(value: float, precision: float) -> str:
    """With as many places as the precision gives meaning to: its first two digits, and no more than six."""
    if precision <= 0:
        return f"{value:.6g}"
    places = min(6, max(0, 1 - math.floor(math.log10(precision))))
    return f"{value:,.{places}f}"


def _t_quantile(freedom: int) -> float:
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _array(values: Sequence[Value]) -> pa.Array:
    """A column of one key's values: numbers as such where all are numbers, otherwise as text."""
    if all(isinstance(value, bool) for value in values) or all(type(value) is int for value in values):
        return pa.array(list(values))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return pa.array([float(value) for value in values])
    return pa.array([str(value) for value in values])
