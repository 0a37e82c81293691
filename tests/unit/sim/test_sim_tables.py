"""Results survive the disk, byte for byte the same, and what is wrong with them is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sim_synthetic import empty_run, made_up_run

from mediadht.core.errors import CallerError
from mediadht_sim.tables import (
    INTERVALS,
    LOOKUPS,
    NODES,
    TABLES,
    ResultsError,
    arrow_table,
    read_results,
    write_results,
)

ROW = (1.0, "lookup", 3, "media:1", 10.0, 20.0, 1, 1, 4, 2, 3, True, "found")
FILES = ["intervals.parquet", "lookups.parquet", "nodes.parquet", "scenario.toml", "summary.json"]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = made_up_run()
    results = read_results(write_results(run, tmp_path / "a" / "b"))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == FILES
    assert results.scenario == run.scenario.values
    assert (results.seed, results.trace, results.events, results.wall_s) == (7, run.trace, run.events, run.wall_s)
    assert results.metrics == run.metrics
    assert list(results.violations) == run.violations
    for table, held, rows in (
        (LOOKUPS, results.lookups, run.lookups),
        (INTERVALS, results.intervals, run.intervals),
        (NODES, results.nodes, run.nodes),
    ):
        assert [tuple(row.values()) for row in held.to_pylist()] == rows
        assert held.schema.names == [column.name for column in table.columns]
    assert results.lookups.schema.field("end_ms").metadata[b"unit"] == b"ms"
    assert results.nodes.schema.metadata[b"mediadht_sim.scenario"] == b"partition-heal"


def test_equal_results_are_equal_bytes_but_for_the_wall_clock(tmp_path: Path) -> None:
    write_results(made_up_run(), tmp_path / "a")
    slower = made_up_run()
    slower.wall_s = 99.0
    write_results(slower, tmp_path / "b")
    for name in FILES:
        a, b = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        if name == "summary.json":
            a, b = (json.dumps({**json.loads(text), "wall_s": 0}).encode() for text in (a, b))
        assert a == b, name


def test_read_results_can_be_written_again(tmp_path: Path) -> None:
    write_results(made_up_run(), tmp_path / "a")
    write_results(read_results(tmp_path / "a"), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_run_without_anything_is_written(tmp_path: Path) -> None:
    results = read_results(write_results(empty_run(), tmp_path))
    assert results.lookups.num_rows == results.intervals.num_rows == results.nodes.num_rows == 0
    assert results.metrics["success_share"] is None


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (0, None, "lookups.at_s, row 0: there is no value"),
        (0, float("nan"), "not a finite number"),
        (0, "soon", "not a finite number"),
        (1, "glance", "'glance' is none of lookup, announce, withdraw"),
        (2, 2**31, "lookups.node"),
        (2, "x", "lookups.node"),
        (3, 7, "lookups.subject"),
        (12, "lost", "'lost' is none of found"),
    ],
)
def test_a_wrong_value_is_named(place: int, value: object, told: str) -> None:
    row = (*ROW[:place], value, *ROW[place + 1 :])
    with pytest.raises(CallerError, match=told):
        arrow_table(LOOKUPS, [row])


def test_a_row_too_short_is_named() -> None:
    with pytest.raises(CallerError, match="row 1 has 12 values; the table has 13 columns"):
        arrow_table(LOOKUPS, [ROW, ROW[:-1]])


def test_no_directory_and_a_stopped_run_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is no directory"):
        read_results(tmp_path / "none")
    with pytest.raises(ResultsError, match="the run was stopped"):
        read_results(tmp_path)


def test_damage_is_told(tmp_path: Path) -> None:
    write_results(made_up_run(), tmp_path)
    for table in TABLES:
        path = tmp_path / f"{table.name}.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ResultsError, match=f"{table.name}.parquet cannot be read"):
            read_results(tmp_path)
        path.write_bytes(whole)
    summary = tmp_path / "summary.json"
    whole_text = summary.read_text()
    for text, told in (
        ("{", "cannot be read"),
        ("[]", "has format 'list'"),
        (whole_text.replace('"format": "1"', '"format": "2"'), "has format '2'"),
        (whole_text.replace('"events"', '"evts"'), "is damaged"),
        (whole_text.replace('"lookups":', '"lookups": "many", "x":'), "is damaged"),
    ):
        summary.write_text(text)
        with pytest.raises(ResultsError, match=told):
            read_results(tmp_path)
    summary.write_text(whole_text)
    (tmp_path / "scenario.toml").write_text("name = ")
    with pytest.raises(ResultsError, match=r"scenario\.toml cannot be read"):
        read_results(tmp_path)


def test_columns_of_another_version_are_told(tmp_path: Path) -> None:
    write_results(made_up_run(), tmp_path)
    path = tmp_path / "nodes.parquet"
    held = pq.read_table(path)
    pq.write_table(held.rename_columns(["nod", *held.schema.names[1:]]), path)
    with pytest.raises(ResultsError, match="lacks node, has unknown nod"):
        read_results(tmp_path)
    pq.write_table(held.set_column(0, "node", held.column("node").cast(pa.int64())), path)
    with pytest.raises(ResultsError, match="node is int64, not int32"):
        read_results(tmp_path)
    gone = pa.array([None] * held.num_rows, pa.int32())
    pq.write_table(held.set_column(0, "node", gone), path)
    with pytest.raises(ResultsError, match="node has 500 empty values"):
        read_results(tmp_path)


def test_two_runs_in_one_directory_are_told(tmp_path: Path) -> None:
    write_results(made_up_run(seed=1), tmp_path / "a")
    write_results(made_up_run(seed=2), tmp_path / "b")
    (tmp_path / "a" / "nodes.parquet").write_bytes((tmp_path / "b" / "nodes.parquet").read_bytes())
    with pytest.raises(ResultsError, match="two runs are mixed"):
        read_results(tmp_path / "a")


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="choose another directory"):
        write_results(made_up_run(nodes=1), tmp_path / "file" / "out")


def test_metrics_that_are_no_numbers_become_null(tmp_path: Path) -> None:
    run = replace(made_up_run(), metrics={"a": float("inf"), "b": 1.5, "c": None})
    assert read_results(write_results(run, tmp_path)).metrics == {"a": None, "b": 1.5, "c": None}
