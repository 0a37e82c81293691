"""An ordered set of 256-bit integers that answers "which are the closest by XOR" exactly.

The routing table, the cache of contacts and the record store all ask that question; this is its only answer. Members
stand in one sorted list; a query descends the implied binary trie by bisection, nearest half first, so it touches
O(count + depth) members. `farthest` is `closest` to the complement of the target, since d(x, ~t) = ~d(x, t).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mediadht.core.constants import ID_BITS

__all__ = ["XorIndex"]

_ALL_ONES = (1 << ID_BITS) - 1
_LEAF_MEMBERS = 24
"""A range this small is sorted by distance at once rather than split further."""


class XorIndex:
    """A set of integers in [0, 2**256), kept sorted. Membership tests are the caller's own dictionary's task."""

    __slots__ = ("_members", "changes")

    def __init__(self, members: Iterable[int] = ()) -> None:
        self._members = sorted(set(members))
        self.changes = 0
        """Goes up whenever a member comes or goes: whoever keeps an answer sees whether it still holds."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[int]:
        """Members in ascending order."""
        return iter(self._members)

    def __contains__(self, member: int) -> bool:
        position = bisect_left(self._members, member)
        return position < len(self._members) and self._members[position] == member

    def add(self, member: int) -> None:
        """Add `member`; nothing happens if it is there."""
        position = bisect_left(self._members, member)
        if position == len(self._members) or self._members[position] != member:
            self._members.insert(position, member)
            self.changes += 1

    def discard(self, member: int) -> None:
        """Remove `member`; nothing happens if it is not there."""
        position = bisect_left(self._members, member)
        if position < len(self._members) and self._members[position] == member:
            del self._members[position]
            self.changes += 1

    def closest(self, target: int, count: int, accept: Callable[[int], bool] | None = None) -> list[int]:
        """The `count` members nearest to `target` by XOR, nearest first; of those that `accept` takes, if given."""
        if accept is not None:
            return list(islice(filter(accept, self.by_distance(target)), count))
        if count <= 0:
            return []
        # `by_distance` in one loop: half of all that a node does is to name the closest.
        members = self._members
        found: list[int] = []
        farther: list[tuple[int, int]] = []
        start, stop = 0, len(members)
        leaf_members = max(_LEAF_MEMBERS, count)
        while True:
            while stop - start > leaf_members:
                last = members[stop - 1]
                bits = (members[start] ^ last).bit_length() - 1
                middle = bisect_left(members, last >> bits << bits, start, stop)
                if target >> bits & 1:
                    farther.append((start, middle))
                    start = middle
                else:
                    farther.append((middle, stop))
                    stop = middle
            found += sorted(members[start:stop], key=target.__xor__)
            if len(found) >= count or not farther:
                return found[:count]
            start, stop = farther.pop()

    def farthest(self, target: int, count: int) -> list[int]:
        """The `count` members farthest from `target` by XOR, farthest first."""
        return self.closest(target ^ _ALL_ONES, count)

    def between(self, low: int, high: int, limit: int | None = None) -> list[int]:
        """Members m with low <= m < high, ascending; at most the first `limit` of them."""
        start, stop = bisect_left(self._members, low), bisect_left(self._members, high)
        return self._members[start : stop if limit is None else min(stop, start + limit)]

    def following(self, low: int) -> int | None:
        """The least member that is at least `low`; where there is none, the least of all; None if empty."""
        if not self._members:
            return None
        position = bisect_left(self._members, low)
        return self._members[position if position < len(self._members) else 0]

    def by_distance(self, target: int) -> Iterator[int]:
        """All members, nearest to `target` first. The set must not change while this is consumed."""
        members = self._members
        # A stack of ranges (start, stop, bits below which members of the range still differ), nearest on top.
        stack = [(0, len(members), ID_BITS)]
        while stack:
            start, stop, bits = stack.pop()
            if stop - start <= _LEAF_MEMBERS or bits == 0:
                yield from sorted(members[start:stop], key=target.__xor__)
                continue
            # Skip the bits that all members of this range share.
            bits = (members[start] ^ members[stop - 1]).bit_length()
            middle_value = (members[stop - 1] >> (bits - 1)) << (bits - 1)
            middle = bisect_left(members, middle_value, start, stop)
            low, high = (start, middle, bits - 1), (middle, stop, bits - 1)
            # The half whose leading bit equals the target's is nearer as a whole.
            if target >> (bits - 1) & 1:
                stack += (low, high)
            else:
                stack += (high, low)
