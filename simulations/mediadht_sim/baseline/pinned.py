"""What the package takes from the machine, given by the engine instead: clock, entropy, and nothing else.

`pinned(engine)` replaces attributes of the package's modules for the time of a run, in this process, and puts them
back:

- `kademlia.routing.time`, `kademlia.storage.time`: `monotonic()` is the virtual time (ages of buckets and of values);
- `kademlia.protocol.random`, `kademlia.network.random`: `randint()` for the IDs that a refresh looks up,
  `getrandbits()` for the ID of a node that was given none, from streams of the engine;
- `rpcudp.protocol.os`: `urandom()` for message IDs, from a stream of the engine;
- the levels of the loggers `kademlia` and `rpcudp`: silent. Each timeout would be an ERROR, which is no news here.

Nothing of the package depends on the order of a set or on `hash()`: its sets are asked for membership and size only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import kademlia.network
import kademlia.protocol
import kademlia.routing
import kademlia.storage
import rpcudp.protocol

from mediadht_sim.engine import Engine

__all__ = ["pinned"]


@contextmanager
def pinned(engine: Engine) -> Iterator[None]:
    """Run the package on the engine's clock and streams. Two runs at once in one process would share them: refused."""
    clock = SimpleNamespace(monotonic=lambda: engine.now)
    entropy = SimpleNamespace(urandom=engine.stream("baseline/message ids").randbytes)
    changes: list[tuple[Any, str, Any]] = [
        (kademlia.routing, "time", clock),
        (kademlia.storage, "time", clock),
        (kademlia.protocol, "random", engine.stream("baseline/refresh")),
        (kademlia.network, "random", engine.stream("baseline/node ids")),
        (rpcudp.protocol, "os", entropy),
    ]
    loggers = [logging.getLogger(name) for name in ("kademlia", "rpcudp")]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    levels = [logger.level for logger in loggers]
    assert not isinstance(rpcudp.protocol.os, SimpleNamespace), "another run is under way in this process"
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
