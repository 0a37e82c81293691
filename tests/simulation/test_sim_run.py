"""Whole runs: the same seed gives the same bytes in any process, and each scenario that is shipped runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediadht_sim.api import load_scenario, read_results, run, write_results

SCENARIOS = sorted(path.stem for path in (Path(__file__).parents[2] / "simulations" / "scenarios").glob("*.toml"))

EVENTFUL = """
name = "eventful"
duration_s = 120.0
[network]
nodes = 40
start = "joined"
settle_s = 30.0
unreachable_share = 0.1
[links]
loss = 0.03
clock_skew_s = 5.0
slow_share = 0.1
[lives]
session = { kind = "weibull", shape = 0.6, scale_s = 300.0 }
absence = { kind = "exponential", mean_s = 30.0 }
keep_state_share = 0.5
[[events]]
kind = "partition"
at_s = 20.0
[[events]]
kind = "freeze"
at_s = 30.0
count = 3
[[events]]
kind = "heal"
at_s = 50.0
[[events]]
kind = "thaw"
at_s = 60.0
count = 3
[[events]]
kind = "join"
at_s = 70.0
count = 3
[[adversaries]]
strategy = "withhold"
count = 2
[[adversaries]]
strategy = "sybil"
count = 3
[[workloads]]
kind = "mix"
lookups_per_s = 5.0
withdraws_per_s = 0.2
absent_share = 0.2
[[workloads]]
kind = "joins"
rooms = 3
joiners_per_room = 5
"""


def digest(folder: Path) -> dict[str, str]:
    """What a run left behind, but for the time that it took."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.pop("wall_s") > 0
    files = sorted(path for path in folder.iterdir() if path.name not in {"summary.json", "report.html"})
    assert {path.suffix for path in files} == {".parquet", ".toml"}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {"summary": json.dumps(summary)}


def in_a_process(scenario: Path, out: Path, hash_seed: str, seed: int) -> dict[str, str]:
    """Run the command line in a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "mediadht_sim", "run", str(scenario), "--seed", str(seed), "--out", str(out), "--quiet"],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=False,
        timeout=240,
    )
    return digest(out)


def test_one_seed_gives_the_same_bytes_in_processes_with_different_hash_seeds(tmp_path: Path) -> None:
    scenario = tmp_path / "eventful.toml"
    scenario.write_text(EVENTFUL)
    first = in_a_process(scenario, tmp_path / "a", "1", seed=5)
    assert in_a_process(scenario, tmp_path / "b", "2", seed=5) == first
    write_results(run(load_scenario(scenario), 5), tmp_path / "c")
    assert digest(tmp_path / "c") == first, "nor does it matter what a process did before"
    other = in_a_process(scenario, tmp_path / "d", "1", seed=6)
    assert json.loads(other["summary"])["trace"] != json.loads(first["summary"])["trace"]


def test_faked_signatures_and_messages_by_reference_change_no_message() -> None:
    """What saves time must not change what happens: only the keys differ, so the shape of the traffic is compared."""
    small = ["network.nodes=30", "duration_s=30", "network.settle_s=20", "interval_s=10", "workloads.0.subjects=20"]
    by_reference = run(load_scenario("baseline", small))
    encoded = run(load_scenario("baseline", [*small, "network.codec=bytes"]))
    assert encoded.trace == by_reference.trace
    assert encoded.lookups == by_reference.lookups
    signed = run(load_scenario("baseline", [*small, "network.signatures=real"]))
    assert signed.metrics["success_share"] == by_reference.metrics["success_share"] == 1.0
    assert not signed.violations


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_shipped_scenario_runs_small(name: str, tmp_path: Path) -> None:
    """A fiftieth of the nodes, all of the story: rows of every kind, and figures that can be read back."""
    scenario = load_scenario(name)
    nodes = max(40, scenario.network.nodes // 50)
    short = ["network.nodes=" + str(nodes), "checks.found_share_min=0", "checks.gone_share_min=0"]
    result = run(load_scenario(name, [*short, *smaller(name)]))
    read = read_results(write_results(result, tmp_path))
    assert read.trace == result.trace
    assert read.metrics == result.metrics
    assert len(result.intervals) == round(result.scenario.duration_s / result.scenario.interval_s)
    assert len(result.nodes) >= nodes
    assert result.lookups
    assert sum(row[2] for row in result.intervals) > 0


def smaller(name: str) -> list[str]:
    """What a scenario asks for more than forty nodes can give."""
    return {
        "mass-republish": ["workloads.0.servers=2", "workloads.0.records_per_server=50"],
    }.get(name, [])
