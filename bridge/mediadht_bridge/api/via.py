"""Through which servers a room can be joined: the ranked `via` list.

Always holds: each server once, in the order of `ranking`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mediadht.core.identifiers import Subject
from mediadht.daemon.face import DHT, Provider
from mediadht_bridge.api.limits import VIA_DEFAULT
from mediadht_bridge.api.lookups import collect
from mediadht_bridge.api.models import SummaryAnswer
from mediadht_bridge.ranking import rank

__all__ = ["Via", "find_via"]

_SPARE_MIN = 6
"""Providers asked for beyond the limit, so that there is something to rank; with the default limit of 10 that is one
answer of a replica (16 providers), and no second page."""


@dataclass(frozen=True, slots=True)
class Via:
    """Servers to join through, best first, and how the lookup ended."""

    servers: tuple[Provider, ...]
    summary: SummaryAnswer

    @property
    def names(self) -> list[str]:
        """The server names, best first."""
        return [server.server_name for server in self.servers]


async def find_via(
    dht: DHT, subject: Subject, *, deadline_s: float, limit: int = VIA_DEFAULT, include_self: bool = False
) -> Via:
    """At most `limit` servers in the room (or media room) `subject`, found within `deadline_s` seconds.

    The server that `dht` serves is left out unless `include_self`: it is of no use to itself. Finding none is an
    empty list; `summary.heard` says whether that means anything.
    """
    wanted = limit + max(_SPARE_MIN, limit // 2)
    providers, summary = await collect(dht, subject, providers_max=wanted, deadline_s=deadline_s)
    own = None if include_self else dht.server_name
    ranked = rank(subject, (provider for provider in providers if provider.server_name != own))
    return Via(tuple(ranked[:limit]), summary)
