"""Every study runs, small, and gives its tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "simulations" / "experiments"


@pytest.mark.parametrize(("name", "tables"), [("alpha", 2), ("k", 2), ("timeouts", 2), ("validity", 1)])
def test_a_study_runs_in_seconds_and_gives_markdown(name: str, tables: int, tmp_path: Path) -> None:
    command = [sys.executable, str(EXPERIMENTS / f"{name}.py"), "--quick", "--workers", "0", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=True)
    headings = [line for line in done.stdout.splitlines() if "| runs |" in line]
    assert len(headings) == tables
    assert all("success_share" in heading for heading in headings)
    assert done.stdout.count("\n| ") == tables * 4, "a heading, a rule and two points each"
    assert len(list(tmp_path.glob("part-*/sweep.parquet"))) == tables
