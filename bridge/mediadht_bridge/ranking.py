"""Which of several servers to try first: one order for the API's `via` lists and for the join front.

Always holds: each server once; verified before unproven, then the most recently heard from, then in an order that
differs from room to room (so that no server is everybody's first choice) but not from call to call.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

from mediadht.core.identifiers import Subject
from mediadht.daemon.face import Provider

__all__ = ["rank"]


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
