"""Asking the DHT which servers are in a room, in bounded time, without ever failing.

What always holds: `find` returns within the configured deadline, whatever the DHT does; an error of the DHT is logged
when it begins and when it ends, never once a join.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from mediadht.daemon.face import DHT, Provider
from mediadht_bridge.front.config import (
    LOOKUP_AT_HOME_S,
    LOOKUPS_AT_ONCE_MAX,
    PROVIDERS_MAX,
    SETTLE_S,
    SETTLE_UNPROVEN_S,
    FrontConfig,
)
from mediadht_bridge.front.metrics import FrontMetrics
from mediadht_bridge.front.via import Join, is_good, rank

__all__ = ["Found", "ServerFinder"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup brought."""

    servers: list[str]
    """Ranked, the best first; at most PROVIDERS_MAX."""
    why_none: str
    """Why there are none, where there are none: `nothing`, `deadline`, `busy` or `error`."""


class ServerFinder:
    """Looks rooms up for joins."""

    def __init__(self, dht: DHT, config: FrontConfig, metrics: FrontMetrics) -> None:
        self._dht = dht
        self._config = config
        self._metrics = metrics
        self._under_way = 0
        self._failing = False

    async def find(self, join: Join) -> Found:
        """Servers in the room, never raising. Ends early once enough good ones are known.

        After the first good one (verified, heard of lately) others have SETTLE_S to come in, after the first of any
        kind SETTLE_UNPROVEN_S.
        """
        if self._under_way >= LOOKUPS_AT_ONCE_MAX:
            return Found([], "busy")
        self._under_way += 1
        providers: list[Provider] = []
        try:
            with self._metrics.lookup_s.time():
                why_none = await self._look(join, providers)
            self._note_health(None)
        except Exception as fault:  # noqa: BLE001  (fail open: nothing that goes wrong in the DHT may fail a join)
            why_none = "error"
            self._note_health(fault)
        finally:
            self._under_way -= 1
        return Found(rank(join, providers, self._dht.server_name), why_none)

    async def _look(self, join: Join, providers: list[Provider]) -> str:
        deadline_s = self._deadline_s(join)
        good = 0
        with trio.move_on_after(deadline_s) as scope:
            async with self._dht.lookup(join.subject, providers_max=PROVIDERS_MAX, deadline_s=deadline_s) as lookup:
                async for provider in lookup:
                    if provider.server_name == self._dht.server_name:
                        continue
                    providers.append(provider)
                    good += is_good(provider)
                    settle_s = SETTLE_S if is_good(provider) else SETTLE_UNPROVEN_S
                    scope.deadline = min(scope.deadline, trio.current_time() + settle_s)
                    if good >= self._config.via_max or len(providers) >= PROVIDERS_MAX:
                        scope.cancel()
        return "deadline" if scope.cancelled_caught else "nothing"

    def _deadline_s(self, join: Join) -> float:
        own = self._dht.announcement(join.subject)
        at_home = own is not None and not own.withdrawn
        return min(self._config.lookup_deadline_s, LOOKUP_AT_HOME_S) if at_home else self._config.lookup_deadline_s

    def _note_health(self, fault: Exception | None) -> None:
        if fault is not None and not self._failing:
            _log.warning("The DHT fails; joins go on as they come until it is back: %r", fault, exc_info=fault)
        elif fault is None and self._failing:
            _log.info("The DHT answers again; joins are helped again")
        self._failing = fault is not None
