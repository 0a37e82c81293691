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
        "_depths",
        "_distances",
        "_in_flight",
        "_k",
        "_late",
        "_likely_distance",
        "_open_in_window",
        "_own_id",
        "_parallelism",
        "_preference",
        "_slow",
        "_states",
        "_useful_depth",
        "_useful_enough",
        "_useless",
        "_window_cache",
        "_window_end",
        "answers",
        "changes",
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
        self._distances: list[int] = []
        """From the target, ascending; a node's ID is the target's XOR with its distance."""
        self._states: dict[int, State] = {}
        self._depths: dict[int, int] = {}
        self._useful_depth = 0
        self._in_flight = 0
        self._late = 0
        self._useless = 0
        self._slow = 0
        self._window_cache: list[int] | None = None
        self._window_end = 0
        """The distance within which a candidate would change a full window."""
        self._open_in_window = 0
        """Of the window, those that have not answered."""
        self.changes = 0
        """Goes up when the closest candidates may have changed: whoever names them sees whether to do so anew."""
        self.answers = 0
        """How many nodes answered."""
        self.useful = 0
        self.requests = 0
        self.heard(seeds)

    def __len__(self) -> int:
        """How many candidates it keeps."""
        return len(self._distances)

    def heard(self, node_ids: Iterable[int], depth: int = 1) -> None:
        """Take candidates in; the closest `LOOKUP_CANDIDATES_MAX` are kept, and all that were asked.

        `depth`: 1 for those known at the start, one more than that of whoever named them for others.
        """
        states, distances = self._states, self._distances
        for node_id in node_ids:
            if node_id in states or node_id == self._own_id:
                continue
            states[node_id] = State.HEARD
            self._depths[node_id] = depth
            distance = node_id ^ self.target
            if self._window_cache is None or len(self._window_cache) < self._k or distance < self._window_end:
                self._window_cache = None
                self.changes += 1
            insort(distances, distance)
        if len(distances) > LOOKUP_CANDIDATES_MAX:
            kept = distances[:LOOKUP_CANDIDATES_MAX]
            for distance in distances[LOOKUP_CANDIDATES_MAX:]:
                node_id = distance ^ self.target
                if states[node_id] is State.HEARD:
                    del states[node_id], self._depths[node_id]
                else:
                    kept.append(distance)
            self._distances = kept

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
        state = self._states.get(node_id)
        if state is State.ASKED or state is State.SLOW or state is State.FAILED:
            if state is State.ASKED:
                self._in_flight -= 1
                if self._window_cache is not None and node_id ^ self.target <= self._window_end:
                    self._open_in_window -= 1
            else:
                self._slow -= state is State.SLOW
                self._window_cache = None
            self._states[node_id] = State.ANSWERED
            self.answers += 1
            self.useful += useful
            if useful:
                self._useful_depth = max(self._useful_depth, self._depths[node_id])
            self._useless += not useful
            if self._useful_enough is not None and not self.useful and self._useless >= _USELESS_MAX:
                # Probably nobody has anything: all k must be asked, so more at once.
                self._parallelism = min(self._k, self._parallelism + _WIDENING)
        self.heard(contacts, self._depths.get(node_id, 0) + 1)

    def slow(self, node_id: int) -> None:
        """The node's answer is late: somebody else may be asked in its place."""
        if self._states.get(node_id) is State.ASKED:
            self._in_flight -= 1
            self._states[node_id] = State.SLOW
            self._slow += 1
            self._late += 1
            self._window_cache = None

    def failed(self, node_id: int) -> None:
        """The request was lost or refused, or is no longer worth waiting for."""
        state = self._states.get(node_id)
        if state is State.ASKED or state is State.SLOW:
            if state is State.ASKED:
                self._in_flight -= 1
            else:
                self._slow -= 1
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
        if self._open_in_window:
            return self.requests >= LOOKUP_REQUESTS_MAX and self._in_flight == 0
        if len(window) >= self._k:
            return True
        return not self._slow

    @property
    def waits_for_slow_only(self) -> bool:
        """Whether all that keeps this lookup from its end is answers that are late."""
        # The window is fresh once `is_done` has looked at it.
        return self._slow > 0 and not self.is_done and not self._open_in_window

    def slow_ones(self) -> list[int]:
        """Candidates whose answers are late, nearest first."""
        ids = map(self.target.__xor__, self._distances)
        return [node_id for node_id in ids if self._states[node_id] is State.SLOW]

    def closest_heard(self, count: int) -> list[int]:
        """The `count` closest candidates of any state, nearest first."""
        target = self.target
        return [distance ^ target for distance in self._distances[:count]]

    def closest_answered(self) -> list[int]:
        """The at most `k` closest nodes that answered, nearest first."""
        ids = map(self.target.__xor__, self._distances)
        found = (node_id for node_id in ids if self._states[node_id] is State.ANSWERED)
        return [node_id for _, node_id in zip(range(self._k), found, strict=False)]

    @property
    def hops(self) -> int:
        """How many answers led to the result, one upon the other; 0 if nobody answered.

        The result is what was useful, else the k closest that answered: of these, the one farthest from the start.
        """
        return self._useful_depth or max(map(self._depths.__getitem__, self.closest_answered()), default=0)

    def _window(self) -> list[int]:
        """The k closest candidates that neither failed nor are slow; being asked or answering changes nothing."""
        if self._window_cache is not None:
            return self._window_cache
        states, target, k = self._states, self.target, self._k
        window: list[int] = []
        unanswered = distance = 0
        for distance in self._distances:
            node_id = distance ^ target
            state = states[node_id]
            if state is not State.FAILED and state is not State.SLOW:
                window.append(node_id)
                unanswered += state is not State.ANSWERED
                if len(window) >= k:
                    break
        self._window_cache, self._window_end, self._open_in_window = window, distance, unanswered
        return window
