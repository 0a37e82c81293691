"""What a sweep's tests measure instead of a simulation; importable by worker processes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from mediadht_sim.scenario import Scenario


def quick(scenario: Scenario, seed: int, directory: Path) -> None:
    """Figures that depend on the point and the seed."""
    metrics = {"nodes_seen": scenario.network.nodes + seed / 10, "loss_seen": scenario.links.loss, "nothing": None}
    (directory / "more").mkdir()
    (directory / "more" / "rows.bin").write_bytes(b"rows")
    said = {"metrics": metrics, "violations": [{}] if seed == 2 else [], "trace": f"{scenario.network.nodes}-{seed}"}
    (directory / "summary.json").write_text(json.dumps(said))


def failing_once(scenario: Scenario, seed: int, directory: Path) -> None:
    """As `quick`, but one run of one point fails."""
    if seed == 2 and scenario.network.nodes == 10:
        raise ZeroDivisionError("this run was meant to fail")
    quick(scenario, seed, directory)


def slow(scenario: Scenario, seed: int, directory: Path) -> None:
    """As `quick`; all but the first seed take their time."""
    if seed > 1:
        time.sleep(60)
    quick(scenario, seed, directory)
