"""A driver that remembers what it was told, a storage on a real disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_parts import FakeDriver

from mediadht.daemon.storage import Storage


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage.open(tmp_path) as opened:
        yield opened
