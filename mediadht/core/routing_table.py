"""The Kademlia routing table: buckets by range, admission by answer, diversity by cap.

Buckets cover disjoint ranges of the key space; a full one is split only if the own ID lies in its range, so its width
follows from the range and never from who happens to be in it. A contact enters only when it has answered at its own
endpoint (the caller's duty), and leaves only after several lost answers; until then newcomers wait in the bucket's
bounded replacement list. Contacts of one IP prefix or registrable domain are capped, per bucket and in all.
Maymounkov and Mazieres 2002, sections 2.2 and 4.1. Implements `docs/protocol.md`, section "Routing".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from mediadht.core.constants import (
    BUCKET_CONTACTS_PER_DOMAIN_MAX,
    BUCKET_CONTACTS_PER_PREFIX_MAX,
    BUCKET_REPLACEMENTS_MAX,
    ID_BITS,
    TABLE_CONTACTS_PER_DOMAIN_MAX,
    TABLE_CONTACTS_PER_PREFIX_MAX,
    K,
)
from mediadht.core.contacts import Groups
from mediadht.core.xor_index import XorIndex

__all__ = ["Admission", "RoutingTable"]


class Admission(Enum):
    """What the table did with a contact that answered."""

    ADMITTED = auto()
    KNOWN = auto()
    WAITING = auto()
    """In the replacement list of a full bucket."""
    REFUSED = auto()
    """A diversity cap, or the own ID."""


@dataclass(slots=True)
class _Bucket:
    low: int
    high: int
    """Covers low <= ID < high."""
    members: dict[int, Groups] = field(default_factory=dict)
    waiting: dict[int, Groups] = field(default_factory=dict)
    """Both in the order of their latest answers."""
    looked_up_s: float = float("-inf")


class RoutingTable:
    """Node IDs in buckets of `k`. Everything else known of a node is in the `PeerBook`."""

    def __init__(self, own_id: int, k: int = K) -> None:
        self._own_id = own_id
        self._k = k
        self._buckets = [_Bucket(0, 1 << ID_BITS)]
        self._lows = [0]
        self._index = XorIndex()
        self._per_prefix: dict[str, int] = {}
        self._per_domain: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._bucket(node_id).members

    def __iter__(self) -> Iterator[int]:
        return iter(self._index)

    @property
    def changes(self) -> int:
        """Goes up whenever a member comes or goes."""
        return self._index.changes

    def closest(self, target: int, count: int) -> list[int]:
        """The `count` members nearest to `target` by XOR, nearest first: exactly those."""
        return self._index.closest(target, count)

    def bucket_ranges(self) -> list[tuple[int, int, int]]:
        """(low, high, members) of each bucket, ascending."""
        return [(bucket.low, bucket.high, len(bucket.members)) for bucket in self._buckets]

    def wants(self, node_id: int, groups: Groups) -> bool:
        """Whether there may be a place for this contact: none of the caps and no full bucket is in its way."""
        if node_id == self._own_id:
            return False
        bucket = self._bucket(node_id)
        if node_id in bucket.members or not self._is_diverse(bucket, groups):
            return False
        return len(bucket.members) < self._k or self._can_split(bucket)

    def answered(self, node_id: int, groups: Groups) -> Admission:
        """The contact has answered at its endpoint: admit it, or let it wait.

        A member whose groups have changed to some that are full is refused, and is the caller's to remove.
        """
        if node_id == self._own_id:
            return Admission.REFUSED
        bucket = self._bucket(node_id)
        if node_id in bucket.members:
            return Admission.KNOWN if self._regroup(bucket, node_id, groups) else Admission.REFUSED
        if not self._is_diverse(bucket, groups):
            bucket.waiting.pop(node_id, None)
            return Admission.REFUSED
        while len(bucket.members) >= self._k and self._can_split(bucket):
            self._split(bucket)
            bucket = self._bucket(node_id)
        if len(bucket.members) < self._k and self._is_diverse(bucket, groups):
            bucket.waiting.pop(node_id, None)
            self._insert(bucket, node_id, groups)
            return Admission.ADMITTED
        bucket.waiting.pop(node_id, None)
        bucket.waiting[node_id] = groups
        if len(bucket.waiting) > BUCKET_REPLACEMENTS_MAX:
            del bucket.waiting[next(iter(bucket.waiting))]
        return Admission.WAITING

    def has_replacement(self, node_id: int) -> bool:
        """Whether somebody waits for this contact's place."""
        return bool(self._bucket(node_id).waiting)

    def remove(self, node_id: int, is_fit: Callable[[int], bool] = lambda _: True) -> int | None:
        """Take a contact out. Returns who moved up into its place, the latest that answered, if anybody.

        Whoever waits and is not fit any more is taken out too.
        """
        bucket = self._bucket(node_id)
        bucket.waiting.pop(node_id, None)
        groups = bucket.members.pop(node_id, None)
        if groups is None:
            return None
        self._index.discard(node_id)
        self._count(groups, -1)
        for candidate, candidate_groups in reversed(list(bucket.waiting.items())):
            if not is_fit(candidate):
                del bucket.waiting[candidate]
                continue
            if self._is_diverse(bucket, candidate_groups):
                del bucket.waiting[candidate]
                self._insert(bucket, candidate, candidate_groups)
                return candidate
        return None

    def looked_up(self, target: int, now: float) -> None:
        """A lookup went through the bucket of `target`."""
        self._bucket(target).looked_up_s = now

    def spread_refreshes(self, now: float, interval_s: float, random_share: Callable[[], float]) -> None:
        """Take every bucket for looked up at a random time within the last `interval_s` seconds."""
        for bucket in self._buckets:
            bucket.looked_up_s = now - interval_s * random_share()

    def stale_ranges(self, now: float, age_s: float) -> list[tuple[int, int]]:
        """(low, high) of the buckets in which nothing was looked up for `age_s` seconds."""
        return [(b.low, b.high) for b in self._buckets if now - b.looked_up_s >= age_s]

    def last_stale_range(self, now: float, age_s: float) -> tuple[int, int] | None:
        """The last of `stale_ranges`, if there is one."""
        for bucket in reversed(self._buckets):
            if now - bucket.looked_up_s >= age_s:
                return bucket.low, bucket.high
        return None

    def _bucket(self, node_id: int) -> _Bucket:
        return self._buckets[bisect_right(self._lows, node_id) - 1]

    def _can_split(self, bucket: _Bucket) -> bool:
        return bucket.low <= self._own_id < bucket.high and bucket.high - bucket.low > 1

    def _split(self, bucket: _Bucket) -> None:
        middle = (bucket.low + bucket.high) // 2
        halves = (
            _Bucket(bucket.low, middle, looked_up_s=bucket.looked_up_s),
            _Bucket(middle, bucket.high, looked_up_s=bucket.looked_up_s),
        )
        for source in ("members", "waiting"):
            for node_id, groups in getattr(bucket, source).items():
                getattr(halves[node_id >= middle], source)[node_id] = groups
        position = bisect_right(self._lows, bucket.low) - 1
        self._buckets[position : position + 1] = halves
        self._lows[position : position + 1] = [half.low for half in halves]

    def _insert(self, bucket: _Bucket, node_id: int, groups: Groups) -> None:
        bucket.members[node_id] = groups
        self._index.add(node_id)
        self._count(groups, 1)

    def _regroup(self, bucket: _Bucket, node_id: int, groups: Groups) -> bool:
        """Note a member's groups, and that it answered last. False, and all as before, where they are full."""
        before = bucket.members.pop(node_id)
        if groups == before:
            bucket.members[node_id] = before
            return True
        self._count(before, -1)
        is_diverse = self._is_diverse(bucket, groups)
        after = groups if is_diverse else before
        bucket.members[node_id] = after
        self._count(after, 1)
        return is_diverse

    def _is_diverse(self, bucket: _Bucket, groups: Groups) -> bool:
        # Of whom the whole table has few, a bucket need not be counted.
        prefix, domain = groups.prefix, groups.domain
        if prefix is not None:
            in_table = self._per_prefix.get(prefix, 0)
            if in_table >= TABLE_CONTACTS_PER_PREFIX_MAX or (
                in_table >= BUCKET_CONTACTS_PER_PREFIX_MAX
                and sum(g.prefix == prefix for g in bucket.members.values()) >= BUCKET_CONTACTS_PER_PREFIX_MAX
            ):
                return False
        if domain is not None:
            in_table = self._per_domain.get(domain, 0)
            if in_table >= TABLE_CONTACTS_PER_DOMAIN_MAX or (
                in_table >= BUCKET_CONTACTS_PER_DOMAIN_MAX
                and sum(g.domain == domain for g in bucket.members.values()) >= BUCKET_CONTACTS_PER_DOMAIN_MAX
            ):
                return False
        return True

    def _count(self, groups: Groups, change: int) -> None:
        for counter, name in ((self._per_prefix, groups.prefix), (self._per_domain, groups.domain)):
            if name is not None:
                count = counter.get(name, 0) + change
                if count:
                    counter[name] = count
                else:
                    del counter[name]
