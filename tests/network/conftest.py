"""A network of real daemons, stopped when the test ends; processes that are killed at the latest then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from network_support import Network, Process, StartProcess

from mediadht.daemon.config import DaemonConfig


@pytest.fixture
async def network(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Network]:
    started = Network(nursery, tmp_path)
    yield started
    await started.stop()


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    started: list[Process] = []

    def start(*configs: DaemonConfig, clock_offset_s: float = 0.0) -> Process:
        process = Process.start(list(configs), tmp_path / "process.log", clock_offset_s=clock_offset_s)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
