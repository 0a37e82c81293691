"""Comparisons say what differs, and do not say more than the seeds show."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from rich.console import Console
from sim_synthetic import empty_run, made_up_run

from mediadht_sim.compare import Comparison, compare
from mediadht_sim.tables import ResultsError, write_results


def sweep_of(folder: Path, seeds: range, slower: float = 1.0, point: str = "a") -> Path:
    for seed in seeds:
        run = write_results(made_up_run(seed, nodes=20, slower=slower), folder / "runs" / f"{point}-{seed}")
        (run / "sweep-run.json").write_text(json.dumps({"fingerprint": "f", "network.k": point, "seed": seed}))
    return folder


def printed(comparison: Comparison) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(comparison)
    return capture.get()


def test_one_run_each_proves_nothing(tmp_path: Path) -> None:
    a = write_results(made_up_run(1), tmp_path / "a")
    b = write_results(made_up_run(2, slower=2.0), tmp_path / "b")
    found = compare(a, b)
    assert all(row.word == "" and row.chance is None for _, rows in found.points for row in rows)
    text = printed(found)
    assert "One run on a side proves nothing" in text
    assert "first provider, median" in text
    assert "2x" in text or "1.9" in text or "2.0" in text


def test_the_same_run_is_said_to_be_the_same(tmp_path: Path) -> None:
    a, b = (write_results(made_up_run(1), tmp_path / name) for name in "ab")
    assert "the same runs" in printed(compare(a, b))


def test_sweeps_show_what_is_slower_and_do_not_mark_the_rest(tmp_path: Path) -> None:
    a = sweep_of(tmp_path / "a", range(1, 7))
    b = sweep_of(tmp_path / "b", range(11, 17), slower=1.5)
    [(point, rows)] = compare(a, b).points
    by_name = {row.name: row for row in rows}
    assert point == "network.k=a"
    slower = by_name["first_ms_p50"]
    assert slower.word == "worse"
    assert slower.low is not None
    assert 0 < slower.low < (slower.difference or 0) < (slower.high or 0)
    assert by_name["requests_mean"].word == ""
    assert by_name["violations"].chance == 1.0
    [(_, back)] = compare(b, a).points
    assert {row.name: row.word for row in back}["first_ms_p50"] == "better"
    assert "Marked are figures" in printed(compare(a, b))


def test_too_few_seeds_are_told(tmp_path: Path) -> None:
    a = sweep_of(tmp_path / "a", range(1, 4))
    b = sweep_of(tmp_path / "b", range(11, 14), slower=3.0)
    found = compare(a, b)
    assert all(row.word == "" for _, rows in found.points for row in rows)
    assert "3 runs against 3 are too few" in printed(found)


def test_points_on_one_side_only_are_left_out(tmp_path: Path) -> None:
    a = sweep_of(sweep_of(tmp_path / "a", range(1, 3)), range(1, 3), point="x")
    b = sweep_of(sweep_of(tmp_path / "b", range(1, 3)), range(1, 3), point="y")
    found = compare(a, b)
    assert [point for point, _ in found.points] == ["network.k=a"]
    assert "2 points stand on one side only" in printed(found)
    with pytest.raises(ResultsError, match="no point in common"):
        compare(sweep_of(tmp_path / "c", range(1, 2), point="c"), a)


def test_figures_that_do_not_exist_are_dashes(tmp_path: Path) -> None:
    a = write_results(empty_run(), tmp_path / "a")
    b = write_results(made_up_run(1, nodes=3), tmp_path / "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = printed(compare(a, b))
    assert "The scenarios differ: nothing against partition-heal" in text


def test_what_is_no_result_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "runs").mkdir(parents=True)
    with pytest.raises(ResultsError, match="without a finished run"):
        compare(tmp_path / "sweep", tmp_path / "sweep")
    with pytest.raises(ResultsError, match=r"no summary\.json"):
        compare(tmp_path, tmp_path)
