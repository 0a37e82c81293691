"""The log's account of how the daemon is: what `mediadht status` would show, told when it changes.

What always holds: a warning is told once in `REPEAT_S` however often it comes and goes (numbers in it do not make it
another one); looking costs one snapshot of the status every `POLL_S_MAX` seconds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from mediadht.daemon.face import Status

__all__ = ["watch_status"]

POLL_S_MIN: Final = 2.0
"""The first look: by then a node that can reach its peers has done so, and a warning that it cannot means something."""
POLL_S_MAX: Final = 16.0
REPEAT_S: Final = 3600.0

_log = logging.getLogger("mediadht")


async def watch_status(status: Callable[[], Status]) -> None:
    """Log peers found, peers lost and warnings until cancelled."""
    told_s: dict[str, float] = {}
    connected = False
    wait_s = POLL_S_MIN
    while True:
        await trio.sleep(wait_s)
        wait_s = min(2 * wait_s, POLL_S_MAX)
        seen = status()
        if connected != (seen.sessions > 0):
            connected = not connected
            if connected:
                _log.info("connected to %d peers, of about %d nodes", seen.sessions, seen.network_size_estimate)
            else:
                _log.warning("all peers are lost")
        now = trio.current_time()
        for warning in seen.warnings:
            kind = re.sub(r"\d+", "0", warning)
            if now - told_s.get(kind, float("-inf")) >= REPEAT_S:
                told_s[kind] = now
                _log.warning("%s", warning)
