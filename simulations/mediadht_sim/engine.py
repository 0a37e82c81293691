"""A heap of timed events and named streams of randomness: all that makes a simulation reproducible.

Time is virtual and only the engine moves it. Equal times are ordered by the order of scheduling. Every part draws from
a stream of its own, derived from the seed and the part's name, so that a further draw in one shifts no other.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Engine", "Entry", "collector_at_rest"]

Entry = list[Any]
"""A scheduled call: `[time_s, number, call, arguments]`; `call` is None once it was cancelled."""


class Engine:
    """A virtual clock in seconds, starting at 0, and what is to happen."""

    __slots__ = ("_count", "_heap", "events", "now", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.events = 0
        """Calls made so far."""
        self._heap: list[Entry] = []
        self._count = 0

    def stream(self, name: str) -> random.Random:
        """The stream of randomness of this name: the same for the same seed and name, whatever else is drawn."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return random.Random(int.from_bytes(digest, "big"))

    def at(self, time_s: float, call: Callable[..., object], *arguments: Any) -> Entry:
        """Have `call(*arguments)` made at virtual time `time_s`, not before now."""
        self._count += 1
        entry: Entry = [time_s if time_s > self.now else self.now, self._count, call, arguments]
        heapq.heappush(self._heap, entry)
        return entry

    def after(self, delay_s: float, call: Callable[..., object], *arguments: Any) -> Entry:
        """Have `call(*arguments)` made in `delay_s` seconds."""
        return self.at(self.now + delay_s, call, *arguments)

    @staticmethod
    def cancel(entry: Entry) -> None:
        """Do not make this call; nothing happens if it was made already."""
        entry[2] = None

    def run_until(self, time_s: float) -> None:
        """Let everything happen that is scheduled up to and including `time_s`."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= time_s:
            self.now, _, call, arguments = pop(heap)
            if call is not None:
                self.events += 1
                call(*arguments)
        self.now = max(self.now, time_s)

    def run_while(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Let things happen while `condition()` holds, for at most `limit_s` seconds. Returns whether it ended."""
        stop_s = self.now + limit_s
        while condition():
            if not self._heap or self._heap[0][0] > stop_s:
                self.now = stop_s
                return False
            self.now, _, call, arguments = heapq.heappop(self._heap)
            if call is not None:
                self.events += 1
                call(*arguments)
        return True


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keep Python's cycle collector from walking millions of long-lived objects; reference counts free the rest.

    Measured at 1,000 nodes: a fifth of the time. What a simulation makes is freed by count, or lives to its end.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.collect()
