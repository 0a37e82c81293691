"""What the log tells of the daemon's status."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from mediadht.cli.watch import REPEAT_S, watch_status


async def test_changes_are_told_once(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now: Any = SimpleNamespace(sessions=0, network_size_estimate=1, warnings=("the clock is 100 s behind",))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_status, lambda: now)
        await trio.sleep(1)
        assert caplog.messages == []
        await trio.sleep(59)
        now.sessions, now.network_size_estimate = 3, 7
        now.warnings = ("the clock is 101 s behind",)
        await trio.sleep(60)
        now.sessions, now.warnings = 0, ()
        await trio.sleep(60)
        assert caplog.messages == [
            "the clock is 100 s behind",
            "connected to 3 peers, of about 7 nodes",
            "all peers are lost",
        ]
        now.warnings = ("the clock is 102 s behind",)
        await trio.sleep(REPEAT_S)
        assert caplog.messages[3:] == ["the clock is 102 s behind"]
        nursery.cancel_scope.cancel()
