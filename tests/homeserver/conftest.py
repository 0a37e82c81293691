"""Real Synapse servers for the tests in this folder: one cluster a session, a fresh user and room a test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio

from mediadht.cli.demo.children import Processes
from mediadht.cli.demo.homeservers import Homeserver, start_homeservers


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Homeserver]]:
    """Two federating servers for all tests of the session: nobody may stop them or rely on their being empty.

    A synchronous fixture, as those of pytest-trio live for one test. The servers belong to no event loop.
    """
    if find_spec("synapse") is None:
        pytest.skip("matrix-synapse is not installed: pip install -e '.[homeserver]'")
    folder: Path = tmp_path_factory.mktemp("homeservers")
    with Processes() as processes:
        yield trio.run(partial(start_homeservers, processes, 2, folder / "cluster"))


@pytest.fixture(scope="session")
def fresh_name() -> Callable[[str], str]:
    """Makes localparts that no other test of the session uses."""
    numbers = itertools.count(1)
    return lambda stem: f"{stem}-{next(numbers)}"
