"""Sweeps: the grid, directories that are whole or not there, resuming, failures, intervals, worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sim_measures import failing_once, quick

from mediadht.core.errors import CallerError, ConfigurationError
from mediadht_sim.scenario import Network, Scenario
from mediadht_sim.sweep import SweepInterrupted, SweepResult, sweep
from mediadht_sim.sweep_points import grid
from mediadht_sim.sweep_tables import estimate, markdown_table, rich_table

SCENARIO = Scenario(name="tiny", network=Network(nodes=10))
VARY = {"network.nodes": [10, 20], "links.loss": [0.0, 0.1]}


def swept(out: Path, **more: object) -> SweepResult:
    return sweep(SCENARIO, VARY, 3, out, **{"workers": 0, "measure": quick} | more)  # type: ignore[arg-type]


def test_the_grid_has_every_combination_once_and_every_point_the_same_seeds(tmp_path: Path) -> None:
    result = swept(tmp_path)
    assert [(dict(row.values), row.seed) for row in result.rows] == [
        ({"network.nodes": nodes, "links.loss": loss}, seed)
        for nodes in (10, 20)
        for loss in (0.0, 0.1)
        for seed in (1, 2, 3)
    ]
    assert grid({}) == [()]
    table = pq.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert table[4] == {
        "network.nodes": 10,
        "links.loss": 0.1,
        "seed": 2,
        "violations": 1,
        "trace": "10-2",
        "error": None,
        "nodes_seen": 10.2,
        "loss_seen": 0.1,
        "nothing": None,
    }
    assert result.violations == 4
    assert not result.failed


def test_each_runs_directory_holds_all_that_was_written(tmp_path: Path) -> None:
    swept(tmp_path)
    directories = sorted((tmp_path / "runs").iterdir())
    assert len(directories) == 12
    assert all((d / "more" / "rows.bin").read_bytes() == b"rows" for d in directories)
    assert directories[0].name.startswith("network.nodes=10,links.loss=0.0,seed=1-")


def test_settings_apply_at_every_point_and_wrong_ones_are_refused_before_anything_runs(tmp_path: Path) -> None:
    result = swept(tmp_path, set_=["seed=7"])
    assert {row.seed for row in result.rows} == {7, 8, 9}
    with pytest.raises(ConfigurationError, match="nodes"):
        sweep(SCENARIO, {"network.noodles": [3]}, 1, tmp_path / "other", workers=0, measure=quick)
    assert not (tmp_path / "other").exists()
    with pytest.raises(CallerError, match="twice"):
        sweep(SCENARIO, {"network.nodes": [3, 3]}, 1, tmp_path, workers=0, measure=quick)
    with pytest.raises(CallerError, match="no values"):
        sweep(SCENARIO, {"network.nodes": []}, 1, tmp_path, workers=0, measure=quick)
    with pytest.raises(CallerError, match="one seed"):
        sweep(SCENARIO, {}, 0, tmp_path, workers=0, measure=quick)


def test_a_sweep_makes_only_what_is_missing(tmp_path: Path) -> None:
    first = swept(tmp_path)
    runs = tmp_path / "runs"
    before = {d.name: d.stat().st_mtime_ns for d in runs.iterdir()}
    gone = sorted(before)[5]
    (runs / gone / "sweep-run.json").write_text("half a file")
    (runs / ".unfinished-x").mkdir()
    told: list[tuple[int, int, int]] = []
    again = swept(tmp_path, progress=lambda *counts: told.append(counts))
    assert again.rows == first.rows
    assert again.resumed == 11
    assert told == [(11, 12, 0), (12, 12, 0)]
    after = {d.name: d.stat().st_mtime_ns for d in runs.iterdir()}
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == [gone]
    assert swept(tmp_path, set_=["links.slow_share=0.5"]).resumed == 0, "another scenario is another run"
    assert swept(tmp_path, measure=failing_once).resumed == 0, "another measure too"


def test_a_failing_run_is_recorded_and_the_others_are_made(tmp_path: Path) -> None:
    result = swept(tmp_path, measure=failing_once)
    assert result.failed == 2
    [failed, other] = [row for row in result.rows if row.error]
    assert "ZeroDivisionError: this run was meant to fail" in (failed.error or "")
    assert (failed.seed, failed.metrics) == (2, {})
    assert len(list((tmp_path / "failures").iterdir())) == 2
    assert (result.points[0].runs, result.points[0].failed, result.points[0].metrics["nodes_seen"].runs) == (3, 1, 2)
    assert pq.read_table(tmp_path / "sweep.parquet").column("nodes_seen").null_count == 2
    assert "failed" in markdown_table(result.points, ["nodes_seen"])
    assert other.values[1] == ("links.loss", 0.1)


def test_an_interrupt_keeps_what_is_made_and_says_how_to_go_on(tmp_path: Path) -> None:
    def interrupting(made: int, total: int, failed: int) -> None:
        if made == 4:
            raise KeyboardInterrupt

    with pytest.raises(SweepInterrupted, match="4 of 12 runs are kept"):
        swept(tmp_path, progress=interrupting)
    assert swept(tmp_path).resumed == 4


def test_worker_processes_give_the_same(tmp_path: Path) -> None:
    here = swept(tmp_path / "here", measure=failing_once)
    there = swept(tmp_path / "there", measure=failing_once, workers=2)
    assert [row for row in there.rows if not row.error] == [row for row in here.rows if not row.error]
    assert there.failed == here.failed
    assert there.points == here.points


def _is_gone(group: int, within_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_ends_the_workers_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sim_measures import slow; from mediadht_sim.sweep import *;"
        "from mediadht_sim.scenario import Scenario\n"
        "if __name__ == '__main__':\n"
        "    try: sweep(Scenario(name='tiny'), {}, 4, Path(sys.argv[1]), workers=2, measure=slow)\n"
        "    except SweepInterrupted as why: print(why)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    running = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + 60
    while not list((tmp_path / "out" / "runs").glob("seed=1*")) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert "1 of 4 runs are kept" in out, err
    assert not err.strip()
    assert _is_gone(running.pid), "workers outlive the sweep"


def test_means_have_students_interval() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.margin == pytest.approx(3.182 * 1.2909944 / 2, rel=1e-4)
    assert estimate([3.0]).high is None
    thirty = estimate([float(n % 2) for n in range(32)])
    assert thirty.margin == pytest.approx(2.0395 * 0.508 / 32**0.5, rel=1e-3)


def test_tables_round_by_their_precision(tmp_path: Path) -> None:
    result = swept(tmp_path)
    assert markdown_table(result.points, ["nodes_seen", "missing"]).splitlines()[:3] == [
        "| network.nodes | links.loss | runs | violations | nodes_seen | missing |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 10 | 0.0 | 3 | 1 | 10.20 ± 0.25 | - |",
    ]
    assert rich_table(result.points, ["nodes_seen"]).row_count == 4
    assert json.loads(next((tmp_path / "runs").glob("*seed=1*/sweep-run.json")).read_text())["seed"] == 1
