"""Through which servers a room can be joined: the ranked `via` list.

Always holds: each server once; verified before unproven, then the most recently heard from, then in an order that
differs from room to room (so that no server is everybody's first choice) but not from call to call.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from mediadht.core.identifiers import Subject
from mediadht.daemon.face import DHT, Provider
from mediadht_bridge.api.limits import VIA_DEFAULT
from mediadht_bridge.api.lookups import collect
from mediadht_bridge.api.models import SummaryAnswer

__all__ = ["Via", "find_via", "rank"]

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


def rank(subject: Subject, providers: Iterable[Provider]) -> list[Provider]:
    """`providers`, best first, one for each server name."""

    def order(provider: Provider) -> tuple[bool, float, bytes, str]:
        alive_s_ago = math.inf if provider.alive_s_ago is None else provider.alive_s_ago
        tie = hashlib.sha256(f"{subject.id} {provider.server_name}".encode()).digest()
        return (not provider.verified, alive_s_ago, tie, provider.node_id)

    best: dict[str, Provider] = {}
    for provider in sorted(providers, key=order):
        best.setdefault(provider.server_name, provider)
    return list(best.values())
