"""A heap of timed events and named streams of randomness: all that makes a simulation reproducible.

Time is virtual and only the engine moves it. Equal times are ordered by the order of scheduling. Every part draws from
a stream of its own, derived from the seed and the part's name, so that a further draw in one shifts no other.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable

__all__ = ["Engine"]


class Engine:
    """A virtual clock in seconds, starting at 0, and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def stream(self, name: str) -> random.Random:
        """The stream of randomness of this name: the same for the same seed and name, whatever else is drawn."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return random.Random(int.from_bytes(digest, "big"))

    def at(self, time_s: float, call: Callable[[], None]) -> None:
        """Have `call` made at virtual time `time_s`, not before now."""
        self._count += 1
        heapq.heappush(self._heap, (max(time_s, self.now), self._count, call))

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have `call` made in `delay_s` seconds."""
        self.at(self.now + delay_s, call)

    def run_until(self, time_s: float) -> None:
        """Let everything happen that is scheduled up to and including `time_s`."""
        while self._heap and self._heap[0][0] <= time_s:
            self.now, _, call = heapq.heappop(self._heap)
            self.events += 1
            call()
        self.now = max(self.now, time_s)

    def run_while(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Let things happen while `condition()` holds, for at most `limit_s` seconds. Returns whether it ended."""
        stop_s = self.now + limit_s
        while condition():
            if not self._heap or self._heap[0][0] > stop_s:
                self.now = stop_s
                return False
            self.now, _, call = heapq.heappop(self._heap)
            self.events += 1
            call()
        return True
