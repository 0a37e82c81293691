"""The rules of claims as pure functions: quorum, rank, canonical room, lease, and when a network seems cut in two.

Everybody who counts votes, gives receipts or reads room records uses these and no others. Implements
`docs/protocol.md`, section "Claims". Why they are safe: `docs/claims.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_high

from mediadht.core.constants import ABNORMAL_SHARE, ID_BYTES, LEASE_MARGIN, SIZE_HALF_LIFE_S, K
from mediadht.core.identifiers import Subject

__all__ = [
    "DIGEST_BYTES",
    "SizeMemory",
    "Standing",
    "canonical",
    "lease_ends_s",
    "quorum",
    "rank",
    "replicas_named",
    "room_digest",
    "room_ranks",
]

DIGEST_BYTES = 32
_ROOM_DOMAIN = b"mediadht/1/room\n"
_RANK_DOMAIN = b"mediadht/1/rank\n"


def quorum(replicas: int) -> int:
    """How many of a key's `replicas` must agree: more than two thirds, 14 of 20.

    Two quorums of the same n share at least 2 * quorum(n) - n replicas, more than a third of them.
    """
    assert 1 <= replicas <= K
    return 2 * replicas // 3 + 1


def replicas_named(own: int, named: Iterable[int]) -> int:
    """How many replicas a key has, from the own count and what its replicas say: the upper median of them.

    Fewer liars than half cannot move a median out of what the honest say; the own count bounds it from below.
    """
    counts = [count for count in named if 1 <= count <= K]
    return max(1, min(K, max([own, median_high(counts)] if counts else [own])))


def rank(key: int, server_name: str) -> bytes:
    """Where a server's claim or room stands at a key, lower first. A server has one, and another at each key."""
    return hashlib.sha256(_RANK_DOMAIN + key.to_bytes(ID_BYTES, "big") + server_name.encode()).digest()


def room_digest(subject: Subject, room_id: str) -> bytes:
    """What replicas see of a room ID: enough to tell two rooms apart, nothing to whoever does not know `subject`."""
    return hashlib.blake2b(_ROOM_DOMAIN + room_id.encode(), digest_size=DIGEST_BYTES, key=subject.seal_key).digest()


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides among rooms: one record's word for one room."""

    digest: bytes
    server_name: str
    certified: bool


def room_ranks(key: int, standings: Iterable[Standing]) -> dict[bytes, tuple[bool, bytes]]:
    """The rank of each room by digest, lower first: certified before provisional, then the best of its servers."""
    best: dict[bytes, tuple[bool, bytes]] = {}
    certified: set[bytes] = set()
    for standing in standings:
        if standing.certified:
            certified.add(standing.digest)
        place = (False, rank(key, standing.server_name))
        best[standing.digest] = min(best.get(standing.digest, place), place)
    return {digest: (digest not in certified, place) for digest, (_, place) in best.items()}


def canonical(key: int, standings: Iterable[Standing]) -> bytes | None:
    """The digest of the room that every honest server derives from these; None if there is none.

    The result depends on the set of `standings` only: not on their order, on repeats, or on any clock.
    """
    ranks = room_ranks(key, standings)
    return min(ranks, key=lambda digest: (ranks[digest], digest), default=None)


def lease_ends_s(votes: Sequence[tuple[float, float]]) -> float:
    """Until when a claimant may rely on its votes: pairs of when each was asked for, and the lease it was given.

    The replica counts from when it answered, so this is earlier than the first of them to lapse.
    """
    return min(asked_s + (1 - LEASE_MARGIN) * lease_s for asked_s, lease_s in votes)


@dataclass(slots=True)
class SizeMemory:
    """The largest size that the network seemed to have, fading: what a part of it is compared with."""

    _largest: float = 1.0
    _at_s: float = 0.0

    def seen(self, size: int, now: float) -> None:
        """The network seems to have `size` nodes now."""
        self._largest, self._at_s = max(float(size), self.remembered(now)), now

    def remembered(self, now: float) -> float:
        """The largest size seen, less what has faded."""
        return float(self._largest * 0.5 ** (max(0.0, now - self._at_s) / SIZE_HALF_LIFE_S))

    def is_abnormal(self, size: int, now: float) -> bool:
        """Whether so few nodes are left that a partition must be suspected."""
        return size <= ABNORMAL_SHARE * self.remembered(now)
