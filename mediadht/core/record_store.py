"""The records that a node keeps for others: bounded in every direction, farthest out first.

Caps hold per key, per key and domain, per signer, per domain and in total; a full store gives up the record farthest
from the node before it refuses one that is nearer. A withdrawal takes the place of what it withdraws and stays until
that would have expired. Expired records are never handed out. Signatures were checked before records come here.
Implements `docs/protocol.md`, section "What a replica keeps".
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from mediadht.core.constants import (
    STORE_DOMAIN_SHARE,
    STORE_RECORDS_MAX,
    STORE_RECORDS_PER_KEY_MAX,
    STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX,
    STORE_SIGNER_SHARE,
    WITHDRAWALS_PER_ANSWER_MAX,
)
from mediadht.core.errors import Code
from mediadht.core.records import Record
from mediadht.core.xor_index import XorIndex

__all__ = ["PutResult", "RecordStore", "count_down"]

_DOMAINS_CACHED_MAX = 16_384
_Name = TypeVar("_Name", int, str, bytes)


@dataclass(slots=True)
class _Slot:
    """The records of one key, by signer."""

    records: dict[int, Record] = field(default_factory=dict)
    signers: XorIndex = field(default_factory=XorIndex)
    withdrawn: int = 0
    """How many of the records are withdrawals."""
    expires_s: float = float("inf")
    """None of the records expires before."""
    domains: dict[str, int] | None = None
    """Records by domain, counted once there are as many as one domain may have."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of a record: kept (`code` None) or refused, and what had to go for it."""

    code: Code | None
    dropped: tuple[Record, ...] = ()
    held: Record | None = None
    """The record of the same signer that was held before or is held still."""
    is_new: bool = False
    """False for a record that was already held."""


class RecordStore:
    """Records by key and signer. `registrable_domain` maps a server name's host to its registrable domain."""

    def __init__(
        self,
        own_id: int,
        registrable_domain: Callable[[str], str | None],
        *,
        records_max: int = STORE_RECORDS_MAX,
    ) -> None:
        self._own_id = own_id
        self._domain_of = lru_cache(maxsize=_DOMAINS_CACHED_MAX)(registrable_domain)
        self._records_max = records_max
        self._signer_max = max(1, records_max // STORE_SIGNER_SHARE)
        self._domain_max = max(1, records_max // STORE_DOMAIN_SHARE)
        self._slots: dict[int, _Slot] = {}
        self._keys = XorIndex()
        self._expiries: list[tuple[int, int, int]] = []
        self._per_signer: Counter[int] = Counter()
        self._per_domain: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        for slot in self._slots.values():
            yield from slot.records.values()

    def held(self, key: int, signer: int) -> Record | None:
        """The record of this signer at this key, withdrawn or not."""
        slot = self._slots.get(key)
        return None if slot is None else slot.records.get(signer)

    def put(self, record: Record) -> PutResult:
        """Keep `record`, or say why not. Its times are the caller's to check."""
        slot = self._slots.get(record.key)
        held = None if slot is None else slot.records.get(record.node_id)
        if held is not None:
            if held.body == record.body:
                return PutResult(None, held=held)
            if not record.supersedes(held):
                return PutResult(Code.STALE, held=held)
            if self._domain(record) != self._domain(held) and self._domain_is_full(record, slot):
                return PutResult(Code.DOMAIN_FULL, held=held)
            self._remove(held)
            self._insert(record)
            return PutResult(None, dropped=(held,), is_new=True)
        code = self._cap_reached(record, slot)
        if code is not None:
            return PutResult(code)
        dropped: tuple[Record, ...] = ()
        if self._count >= self._records_max:
            farthest = self._keys.farthest(self._own_id, 1)[0]
            if farthest ^ self._own_id <= record.key ^ self._own_id:
                return PutResult(Code.STORE_FULL)
            victim = min(self._slots[farthest].records.values(), key=lambda r: (r.expires_s, r.node_id))
            self._remove(victim)
            dropped = (victim,)
        self._insert(record)
        return PutResult(None, dropped=dropped, is_new=True)

    def sample(self, key: int, point: int, count: int, now_s: float, after: int | None = None) -> list[Record]:
        """At most `count` live records of `key`, in the order of their signers' distance from `point`.

        With `after`, those whose signers are farther than that node ID: the next page.
        """
        slot = self._slots.get(key)
        if slot is None or count <= 0:
            return []
        floor = -1 if after is None else after ^ point
        found: list[Record] = []
        for signer in slot.signers.by_distance(point):
            if signer ^ point <= floor:
                continue
            record = slot.records[signer]
            if not record.withdrawn and record.expires_s > now_s:
                found.append(record)
                if len(found) >= count:
                    break
        return found

    def withdrawals(self, key: int, now_s: float) -> list[Record]:
        """The latest withdrawals of `key`, at most `WITHDRAWALS_PER_ANSWER_MAX`."""
        slot = self._slots.get(key)
        if slot is None:
            return []
        if not slot.withdrawn:
            return []
        gone = [r for r in slot.records.values() if r.withdrawn and r.expires_s > now_s]
        gone.sort(key=lambda r: (-r.sequence, r.node_id))
        return gone[:WITHDRAWALS_PER_ANSWER_MAX]

    def live_count(self, key: int, now_s: float) -> int:
        """How many records of `key` are neither withdrawn nor expired."""
        slot = self._slots.get(key)
        if slot is None:
            return 0
        if slot.expires_s > now_s:
            return len(slot.records) - slot.withdrawn
        return sum(not r.withdrawn and r.expires_s > now_s for r in slot.records.values())

    def keys_between(self, low: int, high: int, limit: int | None = None) -> list[int]:
        """Keys held with low <= key < high, ascending; at most the first `limit` of them."""
        return self._keys.between(low, high, limit)

    def records_of(self, key: int) -> list[Record]:
        """All records of a key, withdrawals included."""
        slot = self._slots.get(key)
        return [] if slot is None else list(slot.records.values())

    def expire(self, now_s: float, limit: int = 1_000) -> list[Record]:
        """Drop what has expired, at most `limit` records at once; returns them."""
        dropped: list[Record] = []
        while self._expiries and self._expiries[0][0] <= now_s and len(dropped) < limit:
            expires_s, key, signer = heapq.heappop(self._expiries)
            record = self.held(key, signer)
            if record is not None and record.expires_s == expires_s:
                self._remove(record)
                dropped.append(record)
        return dropped

    def _cap_reached(self, record: Record, slot: _Slot | None) -> Code | None:
        if slot is not None and len(slot.records) >= STORE_RECORDS_PER_KEY_MAX:
            return Code.KEY_FULL
        if self._per_signer.get(record.node_id, 0) >= self._signer_max:
            return Code.SIGNER_FULL
        return Code.DOMAIN_FULL if self._domain_is_full(record, slot) else None

    def _domain_is_full(self, record: Record, slot: _Slot | None) -> bool:
        domain = self._domain(record)
        if self._per_domain.get(domain, 0) >= self._domain_max:
            return True
        if slot is None or len(slot.records) < STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX:
            return False
        if slot.domains is None:
            slot.domains = Counter(self._domain(r) for r in slot.records.values())
        return slot.domains.get(domain, 0) >= STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX

    def _domain(self, record: Record) -> str:
        return self._domain_of(record.server_name) or record.server_name

    def _insert(self, record: Record) -> None:
        slot = self._slots.get(record.key)
        if slot is None:
            slot = self._slots[record.key] = _Slot()
            self._keys.add(record.key)
        domain = self._domain(record)
        slot.withdrawn += record.withdrawn
        slot.expires_s = min(slot.expires_s, record.expires_s)
        if slot.domains is not None:
            slot.domains[domain] = slot.domains.get(domain, 0) + 1
        slot.records[record.node_id] = record
        slot.signers.add(record.node_id)
        heapq.heappush(self._expiries, (record.expires_s, record.key, record.node_id))
        self._per_signer[record.node_id] += 1
        self._per_domain[domain] += 1
        self._count += 1
        if len(self._expiries) > 2 * self._count + 64:
            self._expiries = [(r.expires_s, r.key, r.node_id) for r in self]
            heapq.heapify(self._expiries)

    def _remove(self, record: Record) -> None:
        slot = self._slots[record.key]
        del slot.records[record.node_id]
        slot.signers.discard(record.node_id)
        slot.withdrawn -= record.withdrawn
        domain = self._domain(record)
        if slot.domains is not None:
            count_down(slot.domains, domain)
        if not slot.records:
            del self._slots[record.key]
            self._keys.discard(record.key)
        self._count -= 1
        count_down(self._per_signer, record.node_id)
        count_down(self._per_domain, domain)


def count_down(counter: dict[_Name, int], name: _Name) -> None:
    """Count one less of `name`; what has come to nothing is forgotten, so that counters stay bounded."""
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
