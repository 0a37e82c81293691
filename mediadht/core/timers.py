"""One heap of deadlines, ties broken by the order of setting.

Most timers are cancelled long before they are due: a request sets one against its loss and is answered in a
millisecond. A cancelled timer lets go of its call at once, and of its place in the heap once half of all are
cancelled.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

__all__ = ["Timer", "Timers"]

_CANCELLED_KEPT_MAX = 64
_NEVER = float("inf")


class Timer:
    """A call to be made, unless cancelled before."""

    __slots__ = ("_timers", "call")

    def __init__(self, timers: Timers, call: Callable[[], None]) -> None:
        self._timers = timers
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not make the call; nothing happens if it was made or cancelled already."""
        if self.call is not None:
            self.call = None
            self._timers.one_was_cancelled()


class Timers:
    """Calls to make at monotonic times."""

    __slots__ = ("_cancelled", "_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def set(self, at_s: float, call: Callable[[], None]) -> Timer:
        """Have `call` made at `at_s`."""
        self._count += 1
        timer = Timer(self, call)
        heapq.heappush(self._heap, (at_s, self._count, timer))
        return timer

    @property
    def next_s(self) -> float:
        """When the earliest is due; infinity if there is none."""
        heap = self._heap
        while heap and heap[0][2].call is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else _NEVER

    def call_due(self, now: float) -> float:
        """Make the calls that are due at `now`, in order, those included that they set. Returns `next_s`."""
        heap = self._heap
        while heap:
            at_s, _, timer = heap[0]
            call = timer.call
            if call is None:
                heapq.heappop(heap)
                self._cancelled -= 1
            elif at_s <= now:
                heapq.heappop(heap)
                timer.call = None
                call()
            else:
                return at_s
        return _NEVER

    def one_was_cancelled(self) -> None:
        """A timer of this heap has let go of its call."""
        self._cancelled += 1
        if self._cancelled > _CANCELLED_KEPT_MAX and 2 * self._cancelled > len(self._heap):
            self._heap[:] = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
