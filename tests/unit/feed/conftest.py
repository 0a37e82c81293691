"""A homeserver with rooms, the feed beside it, and a clock that jumps from poll to poll."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from listing_homeserver import CountingDHT, FakeHomeserver
from trio.testing import MockClock

from mediadht_bridge.matrix import FeedConfig, run_room_feed

StartFeed = Callable[..., Awaitable[CountingDHT]]


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0.01)


@pytest.fixture
async def homeserver(nursery: trio.Nursery) -> FakeHomeserver:
    server = FakeHomeserver()
    listeners = await nursery.start(trio.serve_tcp, server.serve, 0)
    server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    return server


@pytest.fixture
async def start_feed(
    nursery: trio.Nursery, homeserver: FakeHomeserver, autojump_clock: MockClock
) -> AsyncIterator[StartFeed]:
    async def start(dht: CountingDHT | None = None, **config: Any) -> CountingDHT:
        dht = dht or CountingDHT()
        settings = FeedConfig(**{"homeserver_url": homeserver.url, **config})
        await nursery.start(partial(run_room_feed, dht, settings, uniform=lambda low, high: (low + high) / 2))
        return dht

    return start
