"""One heap of deadlines, ties broken by the order of setting. Cancelled ones are ignored by whoever set them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

__all__ = ["Timers"]


class Timers:
    """Calls to make at monotonic times."""

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, at_s: float, call: Callable[[], None]) -> None:
        """Have `call` made at `at_s`."""
        self._count += 1
        heapq.heappush(self._heap, (at_s, self._count, call))

    @property
    def next_s(self) -> float:
        """When the earliest is due; infinity if there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def due(self, now: float) -> Iterator[Callable[[], None]]:
        """Calls that are due at `now`, in order; such as are set meanwhile for later than `now` wait."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]
