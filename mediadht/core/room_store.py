"""The room records that a node keeps: few of a key, the best of them.

One of a signer, few of a domain, `ROOM_RECORDS_PER_KEY_MAX` of a key; the worst-ranked gives way to a better one.
Receipts were checked before a record comes here, once: what stays is until when they are those of a quorum. Implements
`docs/protocol.md`, section "Room records".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mediadht.core.claim_rules import canonical, room_ranks
from mediadht.core.constants import ROOM_RECORDS_PER_KEY_MAX, ROOM_RECORDS_PER_KEY_PER_DOMAIN_MAX, ROOMS_MAX
from mediadht.core.errors import Code
from mediadht.core.record_store import count_down
from mediadht.core.room_records import Room
from mediadht.core.xor_index import XorIndex

__all__ = ["HeldRoom", "RoomStore"]

_SIGNER_SHARE = 5


@dataclass(frozen=True, slots=True)
class HeldRoom:
    """A room record, and until when (Unix time) its receipts certify it; 0 if they do not."""

    room: Room
    certified_until_s: float = 0.0

    def is_certified(self, now_s: float) -> bool:
        """Whether a quorum's receipts are valid at Unix time `now_s`."""
        return now_s < self.certified_until_s


class RoomStore:
    """Room records by key and signer."""

    def __init__(
        self, own_id: int, registrable_domain: Callable[[str], str | None], *, rooms_max: int = ROOMS_MAX
    ) -> None:
        self._own_id = own_id
        self._domain = registrable_domain
        self._rooms_max = rooms_max
        self._held: dict[int, dict[int, HeldRoom]] = {}
        self._keys = XorIndex()
        self._per_signer: Counter[int] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[HeldRoom]:
        for of_key in self._held.values():
            yield from of_key.values()

    def put(self, new: HeldRoom, now_s: float) -> tuple[Code | None, list[Room]]:
        """Keep a record, or say why not; and what had to go for it."""
        record = new.room.record
        of_key = self._held.get(record.key, {})
        held = of_key.get(record.node_id)
        if held is not None:
            if held.room.record.body != record.body and not record.supersedes(held.room.record):
                return Code.STALE, []
            of_key[record.node_id] = new
            return None, []
        if self._per_signer[record.node_id] >= max(1, self._rooms_max // _SIGNER_SHARE):
            return Code.SIGNER_FULL, []
        domain = self._domain(record.server_name) or record.server_name
        same = sum((self._domain(n) or n) == domain for n in (h.room.record.server_name for h in of_key.values()))
        if same >= ROOM_RECORDS_PER_KEY_PER_DOMAIN_MAX:
            return Code.DOMAIN_FULL, []
        dropped: list[Room] = []
        if len(of_key) >= ROOM_RECORDS_PER_KEY_MAX:
            worst = self._ordered([*of_key.values(), new], record.key, now_s)[-1]
            if worst is new:
                return Code.KEY_FULL, []
            dropped.append(worst.room)
        elif self._count >= self._rooms_max:
            farthest = self._keys.farthest(self._own_id, 1)[0]
            if farthest ^ self._own_id <= record.key ^ self._own_id:
                return Code.STORE_FULL, []
            dropped.append(next(iter(self._held[farthest].values())).room)
        for room in dropped:
            self.discard(room)
        if record.key not in self._held:
            self._held[record.key] = {}
            self._keys.add(record.key)
        self._held[record.key][record.node_id] = new
        self._per_signer[record.node_id] += 1
        self._count += 1
        return None, dropped

    def discard(self, room: Room) -> None:
        """Forget a record, if it is held."""
        key, signer = room.record.key, room.record.node_id
        if self._held.get(key, {}).pop(signer, None) is None:
            return
        if not self._held[key]:
            del self._held[key]
            self._keys.discard(key)
        count_down(self._per_signer, signer)
        self._count -= 1

    def held(self, key: int, signer: int) -> HeldRoom | None:
        """This signer's record at this key."""
        return self._held.get(key, {}).get(signer)

    def of_key(self, key: int, now_s: float) -> list[HeldRoom]:
        """The live records of a key, the canonical room's first."""
        live = [
            h
            for h in self._held.get(key, {}).values()
            if not h.room.record.withdrawn and h.room.record.expires_s > now_s
        ]
        return self._ordered(live, key, now_s)

    def canonical(self, key: int, now_s: float) -> bytes | None:
        """The digest of the canonical room, as far as this node knows; None if it holds none."""
        if key not in self._held:
            return None
        live = self.of_key(key, now_s)
        return canonical(key, (h.room.standing(certified=h.is_certified(now_s)) for h in live))

    def keys_between(self, low: int, high: int, limit: int | None = None) -> list[int]:
        """Keys held with low <= key < high, ascending."""
        return self._keys.between(low, high, limit)

    def expire(self, now_s: float) -> list[Room]:
        """Drop what has expired; returns it."""
        over = [held.room for held in self if held.room.record.expires_s <= now_s]
        for room in over:
            self.discard(room)
        return over

    def _ordered(self, held: list[HeldRoom], key: int, now_s: float) -> list[HeldRoom]:
        standings = [h.room.standing(certified=h.is_certified(now_s)) for h in held]
        ranks = room_ranks(key, standings)
        return sorted(
            held,
            key=lambda h: (
                h.room.record.withdrawn,
                ranks[h.room.digest],
                h.room.digest,
                not h.is_certified(now_s),
                h.room.record.node_id,
            ),
        )
