"""The one lookup engine: which node to ask next, and when enough have answered.

It knows node IDs and their states and nothing of messages. Two ways to end: *converge*, when the k closest nodes that
can be heard have answered (storing, finding nodes, proving that a key has nobody), and *enough*, when a number of
replicas have given something useful (finding providers). It never waits for the slowest of a round: a slow request
frees its place, its node leaves the window of the k closest until it answers, and its late answer still counts.
Maymounkov and Mazieres 2002, section 2.3; states as in go-libp2p's `qpeerset`. Implements `docs/protocol.md`, section
"Lookups". Time is the caller's: it says when a request has become slow, hopeless or lost.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from enum import Enum, auto

from mediadht.core.constants import ALPHA, LOOKUP_CANDIDATES_MAX, LOOKUP_REQUESTS_MAX, K

__all__ = ["Lookup", "State"]

_USELESS_MAX = 2
_WIDENING = 3
"""A lookup that hopes for useful answers and got this many useless ones instead asks, with each further one, so many
more at once."""


class State(Enum):
    """Where a candidate stands."""

    HEARD = auto()
    ASKED = auto()
    SLOW = auto()
    """Asked, late; still waited for, no longer in the way."""
    ANSWERED = auto()
    FAILED = auto()


class Lookup:
    """One lookup for `target`.

    `k`: how many of the closest must have answered. `parallelism`: requests in flight that are not slow.
    `useful_enough`: end early once this many answers were useful; None to converge only.
    `preference`: a sort key over node IDs, lower asked first, among the candidates within `likely_distance` of the
    target; the rest are asked by distance. None: always by distance.
    """

    __slots__ = (
        "_by_distance",
        "_in_flight",
        "_k",
        "_late",
        "_likely_distance",
        "_own_id",
        "_parallelism",
        "_preference",
        "_states",
        "_useful_enough",
        "_useless",
        "_window_cache",
        "requests",
        "target",
        "useful",
    )

    def __init__(
        self,
        target: int,
        seeds: Iterable[int],
        *,
        own_id: int,
        k: int = K,
        parallelism: int = ALPHA,
        useful_enough: int | None = None,
        preference: Callable[[int], tuple[float, ...]] | None = None,
        likely_distance: int = -1,
    ) -> None:
        self.target = target
        self._own_id = own_id
        self._k = k
        self._parallelism = parallelism
        self._useful_enough = useful_enough
        self._preference = preference
        self._likely_distance = likely_distance
        self._by_distance: list[tuple[int, int]] = []
        self._states: dict[int, State] = {}
        self._in_flight = 0
        self._late = 0
        self._useless = 0
        self._window_cache: list[int] | None = None
        self.useful = 0
        self.requests = 0
        self.heard(seeds)

    def heard(self, node_ids: Iterable[int]) -> None:
        """Take candidates in; the closest `LOOKUP_CANDIDATES_MAX` are kept, and all that were asked."""
        for node_id in node_ids:
            if node_id in self._states or node_id == self._own_id:
                continue
            self._states[node_id] = State.HEARD
            self._window_cache = None
            insort(self._by_distance, (node_id ^ self.target, node_id))
        if len(self._by_distance) > LOOKUP_CANDIDATES_MAX:
            kept = self._by_distance[:LOOKUP_CANDIDATES_MAX]
            for item in self._by_distance[LOOKUP_CANDIDATES_MAX:]:
                if self._states[item[1]] is State.HEARD:
                    del self._states[item[1]]
                else:
                    kept.append(item)
            self._by_distance = kept

    def next(self) -> list[int]:
        """Node IDs to ask now; the caller must ask each, and say what became of it."""
        parallelism = self._parallelism
        if self._useful_enough is not None and (self.useful or self._useless < _USELESS_MAX):
            # Replicas are expected to be useful: no more are asked than are missing; and one more for each that was
            # late after the first, lest a lookup among many dead waits for them one after the other.
            missing = self._useful_enough - self.useful
            parallelism = min(self._k, missing + self._late - 1) if self._late else min(parallelism, missing)
        places = min(parallelism - self._in_flight, LOOKUP_REQUESTS_MAX - self.requests)
        if places <= 0 or self.is_done:
            return []
        heard = [node_id for node_id in self._window() if self._states[node_id] is State.HEARD]
        if self._preference is not None and len(heard) > 1:
            likely = [n for n in heard if n ^ self.target <= self._likely_distance]
            likely.sort(key=self._preference)
            heard = likely + heard[len(likely) :]
        chosen = heard[: max(0, places)]
        for node_id in chosen:
            self._states[node_id] = State.ASKED
        self._in_flight += len(chosen)
        self.requests += len(chosen)
        return chosen

    def answered(self, node_id: int, contacts: Iterable[int] = (), *, useful: bool = False) -> None:
        """The node answered, however late (even if it was taken for failed), and named `contacts`."""
        if self._leave_flight(node_id) or self._states.get(node_id) is State.FAILED:
            if self._states[node_id] is not State.ASKED:
                self._window_cache = None
            self._states[node_id] = State.ANSWERED
            self.useful += useful
            self._useless += not useful
            if self._useful_enough is not None and not self.useful and self._useless >= _USELESS_MAX:
                # Probably nobody has anything: all k must be asked, so more at once.
                self._parallelism = min(self._k, self._parallelism + _WIDENING)
        self.heard(contacts)

    def slow(self, node_id: int) -> None:
        """The node's answer is late: somebody else may be asked in its place."""
        if self._states.get(node_id) is State.ASKED:
            self._leave_flight(node_id)
            self._states[node_id] = State.SLOW
            self._late += 1
            self._window_cache = None

    def failed(self, node_id: int) -> None:
        """The request was lost or refused, or is no longer worth waiting for."""
        if self._leave_flight(node_id):
            self._states[node_id] = State.FAILED
            self._window_cache = None

    def widen(self, parallelism: int) -> None:
        """From now on ask so many at once: all must be asked anyway."""
        self._parallelism = max(self._parallelism, parallelism)

    def state(self, node_id: int) -> State | None:
        """Where this candidate stands; None if it is none."""
        return self._states.get(node_id)

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be asked or waited for."""
        if self._useful_enough is not None and self.useful >= self._useful_enough:
            return True
        window = self._window()
        if any(self._states[node_id] is not State.ANSWERED for node_id in window):
            return self.requests >= LOOKUP_REQUESTS_MAX and self._in_flight == 0
        if len(window) >= self._k:
            return True
        return not any(state is State.SLOW for state in self._states.values())

    @property
    def waits_for_slow_only(self) -> bool:
        """Whether all that keeps this lookup from its end is answers that are late."""
        return not self.is_done and all(self._states[n] is State.ANSWERED for n in self._window())

    def slow_ones(self) -> list[int]:
        """Candidates whose answers are late, nearest first."""
        return [node_id for _, node_id in self._by_distance if self._states[node_id] is State.SLOW]

    def closest_heard(self, count: int) -> list[int]:
        """The `count` closest candidates of any state, nearest first."""
        return [node_id for _, node_id in self._by_distance[:count]]

    def closest_answered(self) -> list[int]:
        """The at most `k` closest nodes that answered, nearest first."""
        found = (node_id for _, node_id in self._by_distance if self._states[node_id] is State.ANSWERED)
        return [node_id for _, node_id in zip(range(self._k), found, strict=False)]

    @property
    def answers(self) -> int:
        """How many nodes answered."""
        return sum(state is State.ANSWERED for state in self._states.values())

    def _window(self) -> list[int]:
        """The k closest candidates that neither failed nor are slow; being asked or answering changes nothing."""
        if self._window_cache is not None:
            return self._window_cache
        window: list[int] = []
        for _, node_id in self._by_distance:
            state = self._states[node_id]
            if state is not State.FAILED and state is not State.SLOW:
                window.append(node_id)
                if len(window) >= self._k:
                    break
        self._window_cache = window
        return window

    def _leave_flight(self, node_id: int) -> bool:
        state = self._states.get(node_id)
        if state is State.ASKED:
            self._in_flight -= 1
        return state is State.ASKED or state is State.SLOW
