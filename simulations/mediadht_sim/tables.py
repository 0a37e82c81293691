"""What a run leaves behind: three tables and a summary, as a directory that other tools can read.

The columns are in `columns.py`. What always holds: equal results give equal bytes (only `wall_s` in `summary.json`
differs between two runs of one seed); `summary.json` is written last, so a directory that has one is whole; every
Parquet file says in its metadata which scenario, seed and version made it. The figures of merit are in `metrics.py`;
what people look at is in `summary.py` and `report/`.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mediadht import __version__
from mediadht.core.errors import CallerError, EnvironmentFault
from mediadht_sim.columns import ARROW_TYPES, INTERVALS, LOOKUPS, NODES, TABLES, Column, Table
from mediadht_sim.toml_text import write_toml

__all__ = [
    "FORMAT",
    "INTERVALS",
    "LOOKUPS",
    "NODES",
    "SUMMARY_FILE",
    "TABLES",
    "Column",
    "Results",
    "ResultsError",
    "RunLike",
    "Table",
    "Violated",
    "ViolationSeen",
    "arrow_table",
    "read_results",
    "read_summary",
    "results_of",
    "write_results",
]

FORMAT = "1"
"""The version of the directory's layout; a reader refuses any other."""
SUMMARY_FILE = "summary.json"
SCENARIO_FILE = "scenario.toml"
_META = "mediadht_sim."
_COMPRESSION_LEVEL = 3


class ResultsError(EnvironmentFault):
    """The results on disk are missing, damaged, or of another version."""


class ViolationSeen(Protocol):
    """A checker's complaint: which, when, at which node (None: the network as a whole), and what was wrong."""

    @property
    def checker(self) -> str: ...
    @property
    def at_s(self) -> float: ...
    @property
    def node(self) -> int | None: ...
    @property
    def what(self) -> str: ...


class _ScenarioLike(Protocol):
    def model_dump(self, *, mode: str = ..., exclude_none: bool = ...) -> dict[str, Any]: ...


class RunLike(Protocol):
    """What a run must give to be written: the face of `RunResult` that this module needs."""

    @property
    def scenario(self) -> _ScenarioLike: ...
    @property
    def seed(self) -> int: ...
    @property
    def trace(self) -> str: ...
    @property
    def lookups(self) -> Sequence[tuple[Any, ...]]: ...
    @property
    def intervals(self) -> Sequence[tuple[Any, ...]]: ...
    @property
    def nodes(self) -> Sequence[tuple[Any, ...]]: ...
    @property
    def violations(self) -> Sequence[ViolationSeen]: ...
    @property
    def metrics(self) -> Mapping[str, float | None]: ...
    @property
    def events(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def virtual_s(self) -> float: ...
    @property
    def wall_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Violated:
    """A violation as `summary.json` has it."""

    checker: str
    at_s: float
    node: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Results:
    """A run's results, as read back or as they would be written. The tables are Arrow's, for pandas, polars, DuckDB."""

    scenario: dict[str, Any]
    seed: int
    version: str
    trace: str
    events: int
    messages: int
    virtual_s: float
    wall_s: float
    violations: tuple[Violated, ...]
    metrics: dict[str, float | None]
    lookups: pa.Table
    intervals: pa.Table
    nodes: pa.Table
    phases: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The scenario's name."""
        return str(self.scenario.get("name", "unnamed"))

    @property
    def about(self) -> str:
        """What the scenario shows, in its author's words."""
        return str(self.scenario.get("about", ""))


# --- From a run to a directory ----------------------------------------------------------------------------------------


def results_of(result: RunLike | Results) -> Results:
    """The run's results as they would be read back. Raises `CallerError` where a row does not fit its table."""
    if isinstance(result, Results):
        return result
    scenario = result.scenario.model_dump(mode="json", exclude_none=True)
    metadata = _metadata(str(scenario.get("name", "unnamed")), result.seed, __version__)
    return Results(
        scenario=scenario,
        seed=result.seed,
        version=__version__,
        trace=result.trace,
        events=result.events,
        messages=result.messages,
        virtual_s=result.virtual_s,
        wall_s=result.wall_s,
        violations=tuple(Violated(seen.checker, seen.at_s, seen.node, seen.what) for seen in result.violations),
        metrics={name: _finite(value) for name, value in result.metrics.items()},
        lookups=arrow_table(LOOKUPS, result.lookups, metadata),
        intervals=arrow_table(INTERVALS, result.intervals, metadata),
        nodes=arrow_table(NODES, result.nodes, metadata),
        phases=dict(getattr(result, "phases", {})),
    )


def write_results(result: RunLike | Results, folder: Path) -> Path:
    """Write `scenario.toml`, the three tables and `summary.json` into `folder`, made if missing; returns `folder`.

    What an earlier run left there is overwritten. Raises `CallerError` for rows that do not fit their tables (before
    anything is written) and `ResultsError` where the disk refuses.
    """
    results = results_of(result)
    summary = folder / SUMMARY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        summary.unlink(missing_ok=True)
        (folder / SCENARIO_FILE).write_text(write_toml(results.scenario), encoding="utf-8")
        for table, held in _tables_of(results):
            _write_parquet(table, held, folder / f"{table.name}.parquet")
        part = folder / f"{SUMMARY_FILE}.part"
        part.write_text(json.dumps(_summary(results), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(summary)
    except OSError as why:
        raise ResultsError(f"cannot write results into {folder}: {why}; choose another directory with --out") from why
    return folder


def arrow_table(table: Table, rows: Sequence[tuple[Any, ...]], metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Rows, values in the table's order, as an Arrow table. `CallerError` names the row and column that is wrong."""
    width = len(table.columns)
    for index, row in enumerate(rows):
        if len(row) != width:
            raise CallerError(f"{table.name}: row {index} has {len(row)} values; the table has {width} columns")
    arrays = [_array(table, column, [row[place] for row in rows]) for place, column in enumerate(table.columns)]
    return pa.Table.from_arrays(arrays, schema=table.schema(metadata))


def _array(table: Table, column: Column, values: list[Any]) -> pa.Array:
    for index, value in enumerate(values):
        where = f"{table.name}.{column.name}, row {index}"
        if value is None:
            if not column.nullable:
                raise CallerError(f"{where}: there is no value, and this column must have one")
        elif column.kind == "f8" and not (isinstance(value, int | float) and math.isfinite(value)):
            raise CallerError(f"{where}: {value!r} is not a finite number; a value that does not exist is None")
        elif column.words and value not in column.words:
            raise CallerError(f"{where}: {value!r} is none of {', '.join(column.words)}")
    try:
        return pa.array(values, ARROW_TYPES[column.kind])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as why:
        raise CallerError(f"{table.name}.{column.name}: a value is no {ARROW_TYPES[column.kind]}: {why}") from why


def _write_parquet(table: Table, held: pa.Table, path: Path) -> None:
    texts = [column.name for column in table.columns if column.kind == "str"]
    pq.write_table(held, path, compression="zstd", compression_level=_COMPRESSION_LEVEL, use_dictionary=texts)


def _tables_of(results: Results) -> Iterable[tuple[Table, pa.Table]]:
    return ((LOOKUPS, results.lookups), (INTERVALS, results.intervals), (NODES, results.nodes))


def _metadata(scenario: str, seed: int, version: str) -> dict[str, str]:
    told = {"format": FORMAT, "scenario": scenario, "seed": str(seed), "version": version}
    return {_META + name: value for name, value in told.items()}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _summary(results: Results) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "scenario": results.name,
        "seed": results.seed,
        "version": results.version,
        "trace": results.trace,
        "wall_s": round(results.wall_s, 3),
        "events": results.events,
        "messages": results.messages,
        "virtual_s": results.virtual_s,
        "violations": [
            {"checker": seen.checker, "at_s": seen.at_s, "node": seen.node, "what": seen.what}
            for seen in results.violations
        ],
        "phases": results.phases,
        "metrics": results.metrics,
    }


# --- From a directory to results --------------------------------------------------------------------------------------


def read_results(folder: Path) -> Results:
    """What `write_results` wrote, checked; `ResultsError` says what is missing or wrong and what to do."""
    summary = read_summary(folder)
    try:
        scenario = tomllib.loads((folder / SCENARIO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise ResultsError(f"{folder / SCENARIO_FILE} cannot be read: {why}; run the scenario again") from why
    lookups, intervals, nodes = (_read_parquet(table, folder, summary) for table in TABLES)
    try:
        return Results(
            scenario=scenario,
            seed=int(summary["seed"]),
            version=str(summary["version"]),
            trace=str(summary["trace"]),
            events=int(summary["events"]),
            messages=int(summary["messages"]),
            virtual_s=float(summary["virtual_s"]),
            wall_s=float(summary["wall_s"]),
            violations=tuple(
                Violated(str(seen["checker"]), float(seen["at_s"]), seen["node"], str(seen["what"]))
                for seen in summary["violations"]
            ),
            metrics={str(name): _number(value) for name, value in summary["metrics"].items()},
            lookups=lookups,
            intervals=intervals,
            nodes=nodes,
            phases=dict(summary.get("phases", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as why:
        raise ResultsError(f"{folder / SUMMARY_FILE} is damaged ({why!r}); run the scenario again") from why


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a metric is {value!r}")
    return value


def read_summary(folder: Path) -> dict[str, Any]:
    """`summary.json` alone: figures without tables. `ResultsError` says what is missing or wrong."""
    path = folder / SUMMARY_FILE
    if not folder.is_dir():
        raise ResultsError(f"{folder} is no directory; give the one that a run wrote with --out")
    if not path.is_file():
        raise ResultsError(f"{folder} has no {SUMMARY_FILE}: no run wrote it, or the run was stopped; run it again")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise ResultsError(f"{path} cannot be read: {why}; run the scenario again") from why
    if not isinstance(summary, dict) or summary.get("format") != FORMAT:
        found = summary.get("format") if isinstance(summary, dict) else type(summary).__name__
        raise ResultsError(f"{path} has format {found!r}, this version reads {FORMAT!r}; run the scenario again")
    return summary


def _read_parquet(table: Table, folder: Path, summary: Mapping[str, Any]) -> pa.Table:
    path = folder / f"{table.name}.parquet"
    try:
        held = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as why:
        raise ResultsError(f"{path} cannot be read: {why}; run the scenario again") from why
    _check_columns(table, held, path)
    told = {key.decode(): value.decode() for key, value in (held.schema.metadata or {}).items()}
    for name in ("scenario", "seed"):
        if told.get(_META + name) != str(summary.get(name)):
            raise ResultsError(
                f"{path} is of {name} {told.get(_META + name)!r}, {SUMMARY_FILE} beside it of {summary.get(name)!r}: "
                "two runs are mixed in one directory; run the scenario again"
            )
    return held


def _check_columns(table: Table, held: pa.Table, path: Path) -> None:
    wanted, found = [column.name for column in table.columns], held.schema.names
    if wanted != found:
        missing, strange = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
        what = f"lacks {', '.join(missing) or 'none'}, has unknown {', '.join(strange) or 'none'}"
        raise ResultsError(
            f"{path}: the columns are not those of a {table.name} table ({what}); run the scenario again"
        )
    for column in table.columns:
        values = held.column(column.name)
        if values.type != ARROW_TYPES[column.kind]:
            raise ResultsError(f"{path}: {column.name} is {values.type}, not {ARROW_TYPES[column.kind]}")
        if not column.nullable and values.null_count:
            raise ResultsError(f"{path}: {column.name} has {values.null_count} empty values, and may have none")
