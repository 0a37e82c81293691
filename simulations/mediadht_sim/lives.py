"""How long nodes stay and stay away, and the process that stops and starts them by it.

A distribution of lengths answers `draw` (a whole length) and `draw_residual` (what is left of the length that a random
moment falls into, in a network that has long been in its steady state: long lengths are met more often, so a length is
drawn with a weight in proportion to itself, and a random share of that is left; Cox, Renewal Theory, 1962, chapter 5).
All lengths are in seconds. All randomness comes from the stream that is passed in.

Published calibrations, each a distribution with its source: `IPFS_SESSION`, `BITCOIN_CONNECTION`, `PHONE_SESSION`,
`PHONE_ABSENCE`. What they leave out: a node's lengths are independent here; in the field some nodes always stay long.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Protocol

from mediadht.core.errors import CallerError
from mediadht_sim.engine import Engine, Entry

__all__ = [
    "BITCOIN_CONNECTION",
    "IPFS_SESSION",
    "LENGTH_S_MIN",
    "PHONE_ABSENCE",
    "PHONE_SESSION",
    "Churn",
    "ChurnCounts",
    "ChurnNetwork",
    "ChurnSettings",
    "Exponential",
    "Lengths",
    "LogNormal",
    "Never",
    "Trace",
    "Weibull",
    "availability",
]

LENGTH_S_MIN = 1.0
"""`Churn` lets no session and no absence be shorter: a process needs that to start, and it bounds the events."""
_LENGTH_S_MAX = 3.2e9
"""A hundred years."""


def _check(name: str, value: float, maximum: float) -> None:
    if not 0.0 < value <= maximum:
        raise CallerError(f"{name} is {value}; write a number above 0, at most {maximum:g}")


class Lengths(Protocol):
    """A distribution of lengths of time, in seconds."""

    @property
    def mean_s(self) -> float:
        """The mean; infinite if there is none."""
        ...

    def draw(self, stream: random.Random) -> float:
        """A length."""
        ...

    def draw_residual(self, stream: random.Random) -> float:
        """What is left of the length that a random moment of the steady state falls into."""
        ...

    def survival(self, length_s: float) -> float:
        """The share of lengths that are longer than this."""
        ...


@dataclass(frozen=True, slots=True)
class Exponential:
    """Without memory: what is left is distributed like the whole."""

    mean_s: float

    def __post_init__(self) -> None:
        _check("mean_s", self.mean_s, _LENGTH_S_MAX)

    def draw(self, stream: random.Random) -> float:
        return stream.expovariate(1.0 / self.mean_s)

    def draw_residual(self, stream: random.Random) -> float:
        return self.draw(stream)

    def survival(self, length_s: float) -> float:
        return math.exp(-length_s / self.mean_s)


@dataclass(frozen=True, slots=True)
class Weibull:
    """Survival `exp(-(x / scale_s) ** shape)`; a shape below 1: who has stayed long stays longer."""

    shape: float
    scale_s: float

    def __post_init__(self) -> None:
        if not 0.1 <= self.shape <= 20.0:
            raise CallerError(f"shape is {self.shape}; write a Weibull shape from 0.1 to 20")
        _check("scale_s", self.scale_s, _LENGTH_S_MAX)

    @property
    def mean_s(self) -> float:
        return self.scale_s * math.gamma(1.0 + 1.0 / self.shape)

    def draw(self, stream: random.Random) -> float:
        return stream.weibullvariate(self.scale_s, self.shape)

    def draw_residual(self, stream: random.Random) -> float:
        # Weighted by x, (x / scale) ** shape is a gamma variable of 1 + 1 / shape.
        weighted = stream.gammavariate(1.0 + 1.0 / self.shape, 1.0)
        return float(stream.random() * self.scale_s * weighted ** (1.0 / self.shape))

    def survival(self, length_s: float) -> float:
        return math.exp(-((length_s / self.scale_s) ** self.shape))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """The logarithm is normal around that of the median, with standard deviation `sigma`."""

    median_s: float
    sigma: float

    def __post_init__(self) -> None:
        _check("median_s", self.median_s, _LENGTH_S_MAX)
        if not 0.0 <= self.sigma <= 10.0:
            raise CallerError(f"sigma is {self.sigma}; write a standard deviation from 0 to 10")

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2.0)

    def draw(self, stream: random.Random) -> float:
        return self.median_s * stream.lognormvariate(0.0, self.sigma)

    def draw_residual(self, stream: random.Random) -> float:
        # Weighted by x, the median moves by exp(sigma ** 2) and sigma stays.
        return stream.random() * self.median_s * stream.lognormvariate(self.sigma**2, self.sigma)

    def survival(self, length_s: float) -> float:
        if length_s <= 0.0:
            return 1.0
        distance = math.log(length_s / self.median_s)
        return NormalDist().cdf(-distance / self.sigma) if self.sigma else float(distance < 0.0)


@dataclass(frozen=True, slots=True)
class Never:
    """It never ends."""

    @property
    def mean_s(self) -> float:
        return math.inf

    def draw(self, stream: random.Random) -> float:
        return math.inf

    def draw_residual(self, stream: random.Random) -> float:
        return math.inf

    def survival(self, length_s: float) -> float:
        return 1.0


class Trace:
    """Lengths that were observed, each as likely as the other; `lives_file.load_trace` reads them from a file."""

    __slots__ = ("_running_s", "lengths_s", "mean_s")

    def __init__(self, lengths_s: Sequence[float]) -> None:
        ordered = sorted(lengths_s)
        if not ordered or not (ordered[0] >= 0.0 and 0.0 < ordered[-1] <= _LENGTH_S_MAX):
            raise CallerError(
                f"a trace of {len(ordered)} lengths has none, or one out of range; "
                f"pass lengths from 0 to {_LENGTH_S_MAX:g} s, one of them above 0"
            )
        self.lengths_s = tuple(ordered)
        """In ascending order."""
        self._running_s = list(accumulate(ordered))
        self.mean_s: float = self._running_s[-1] / len(ordered)

    def draw(self, stream: random.Random) -> float:
        return self.lengths_s[stream.randrange(len(self.lengths_s))]

    def draw_residual(self, stream: random.Random) -> float:
        at_s = stream.random() * self._running_s[-1]
        chosen = min(bisect_right(self._running_s, at_s), len(self.lengths_s) - 1)
        return stream.random() * self.lengths_s[chosen]

    def survival(self, length_s: float) -> float:
        return 1.0 - bisect_right(self.lengths_s, length_s) / len(self.lengths_s)

    def quantile_s(self, share: float) -> float:
        """The shortest length that at least this share of the lengths does not exceed."""
        count = len(self.lengths_s)
        return self.lengths_s[min(max(math.ceil(share * count) - 1, 0), count - 1)]


IPFS_SESSION = LogNormal(median_s=7200.0, sigma=1.6472)
"""Sessions of IPFS DHT servers, 28 April to 5 May 2022: half are under 2 h, 80 % under 8 h.

From probe-lab/network-measurements @ 32c528073c83, `results/rfm2-uptime-and-churn.md`. Two quantiles determine the two
parameters: sigma = ln(8 h / 2 h) / 0.8416 (the normal quantile of 0.8). The fit meets both exactly; the mean of 7.8 h
and what is beyond 8 h are the log-normal's, not measured. Absences are not published with it.
"""

BITCOIN_CONNECTION = Weibull(shape=0.6437, scale_s=341_900.0)
"""Connections of Bitcoin nodes, medians of December 2024 to October 2025: how many last longer than

| | 1 min | 1 h | 1 d | 7 d |
| --- | --- | --- | --- | --- |
| published | 0.994 | 0.963 | 0.647 | 0.251 |
| this fit | 0.996 | 0.948 | 0.662 | 0.236 |

From bitcoin-data/bitcoin-stats-archive @ f5b11a87b0d0, branch dsn-bitcoin-monitoring, `N/ot10-v.gpd` (KIT DSN,
CC-BY-4.0). The fit makes the largest difference over the last three as small as it can be (0.015). Connections end for
other reasons than that a node goes: nodes live longer than this.
"""

PHONE_SESSION = Weibull(shape=0.442, scale_s=1236.0)
"""Phones, the worst case: 4,334 on/off traces of a week each (Szeged), online 23 % of the time.

From quantiles of the Szeged phone traces and a Weibull fit to them, of which nothing was published with a commit; mean
53 min, median 9 min (6.7 min observed), 99 % under 10.9 h (10.5 h observed).
"""

PHONE_ABSENCE = Weibull(shape=0.338, scale_s=1848.3)
"""How long the same phones are away: the shape is fitted to the logarithms of eight quantiles of the absences.

The scale is then set so that phones are online 23.3 % of the time, as observed, and not as the quantiles alone say:
mean 2.9 h, median 10 min (1 min observed).
"""


def availability(session: Lengths, absence: Lengths) -> float:
    """The share of time that a node is up in the steady state; 1 if sessions never end."""
    if math.isinf(session.mean_s):
        return 1.0
    return session.mean_s / (session.mean_s + absence.mean_s)


class _Living(Protocol):
    @property
    def is_up(self) -> bool: ...


class ChurnNetwork(Protocol):
    """What `Churn` needs of a network; `SimulatedNetwork` has it."""

    @property
    def engine(self) -> Engine:
        """The clock."""
        ...

    @property
    def nodes(self) -> Sequence[_Living]:
        """All nodes, by index."""
        ...

    def crash(self, index: int, /) -> object:
        """Stop a node at once."""
        ...

    def shut_down(self, index: int, deadline_s: float, /) -> object:
        """Stop a node in order; it is down after `deadline_s`."""
        ...

    def restart(self, index: int, /, *, keep_state: bool) -> object:
        """Start a node that is down again, with what it had on disk or without."""
        ...


@dataclass(frozen=True, slots=True)
class ChurnSettings:
    """How nodes come and go; shares in [0, 1]."""

    session: Lengths
    absence: Lengths
    graceful_share: float = 0.0
    """This share of the sessions ends in order, the others by a crash."""
    keep_state_share: float = 1.0
    """This share of the returns is with what was on disk."""
    exempt: frozenset[int] = frozenset()
    """Indices of nodes that stay."""
    leave_deadline_s: float = 5.0
    """How long a node takes to leave in order; its absence begins after it."""

    def __post_init__(self) -> None:
        for name in ("graceful_share", "keep_state_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise CallerError(f"{name} is {getattr(self, name)}; write a share from 0 to 1")
        _check("leave_deadline_s", self.leave_deadline_s, 3600.0)


@dataclass(slots=True)
class ChurnCounts:
    """What happened so far."""

    crashes: int = 0
    leaves: int = 0
    restarts: int = 0
    restarts_empty: int = 0
    """Of the restarts, those without what was on disk."""
    gone: int = 0
    """Of the crashes and leaves, those after which the node never returns: its absence is infinite."""


class Churn:
    """Stops and starts a network's nodes, from `start` to `stop`.

    A node with an infinite absence is gone for good; `replace`, if given, is called then: it makes another node and
    returns its index. Churn only brings back what it stopped itself. A node that something else has stopped is left
    alone: churn looks again after a further session. The draws come from the stream "lives" and follow each other in
    virtual time, so the same nodes go at the same times whatever the protocol does in between.
    """

    __slots__ = ("_down_s", "_network", "_pending", "_replace", "_stream", "counts", "is_running", "settings")

    def __init__(
        self, network: ChurnNetwork, settings: ChurnSettings, *, replace: Callable[[], int] | None = None
    ) -> None:
        self.settings = settings
        self._replace = replace
        self.counts = ChurnCounts()
        self.is_running = False
        self._network = network
        self._stream = network.engine.stream("lives")
        self._pending: dict[int, Entry] = {}
        self._down_s: dict[int, float] = {}
        """Of the nodes that are away: since when they are down."""

    @property
    def absent(self) -> int:
        """How many nodes are away because of this, and will return."""
        return len(self._down_s)

    def start(self, *, absent_at_once: bool = False) -> None:
        """Begin: each node that is up is somewhere within a session, as in the steady state.

        All nodes being up is not the steady state: fewer are until the first have returned. With `absent_at_once`, the
        share that would be away crashes now, and returns as in the steady state: the level is right at once, at the
        price of a shock. Raises CallerError for that if absences never end.
        """
        assert not self.is_running, "start once, or stop first"
        up_share = availability(self.settings.session, self.settings.absence) if absent_at_once else 1.0
        if not up_share:
            raise CallerError("absences never end: nobody is up in the steady state; let them end, or start with all")
        self.is_running = True
        for index, down_s in list(self._down_s.items()):  # away, or leaving, since before a stop
            if index not in self._pending:
                leave_s = max(0.0, down_s - self._network.engine.now)
                self._stay_away(index, leave_s, self.settings.absence.draw_residual(self._stream))
        for index, node in enumerate(self._network.nodes):
            if index in self.settings.exempt or index in self._down_s or not node.is_up:
                continue
            if self._stream.random() < up_share:
                self._after(self.settings.session.draw_residual(self._stream), self._end_session, index)
            else:
                self._network.crash(index)
                self.counts.crashes += 1
                self._stay_away(index, 0.0, self.settings.absence.draw_residual(self._stream))

    def added(self, index: int) -> None:
        """Node `index` has joined: a session begins. Nothing, unless churn is running."""
        if self.is_running and index not in self.settings.exempt and index not in self._pending:
            self._after(self.settings.session.draw(self._stream), self._end_session, index)

    def stop(self, *, bring_back: bool = False) -> None:
        """Nobody goes any more, and nobody returns; with `bring_back`, all who are away return now.

        Who is still leaving returns as soon as it has left.
        """
        engine = self._network.engine
        for entry in self._pending.values():
            engine.cancel(entry)
        self._pending.clear()
        self.is_running = False
        if bring_back:
            for index, down_s in list(self._down_s.items()):
                if down_s < engine.now:
                    self._return(index)
                else:
                    self._after(down_s - engine.now + LENGTH_S_MIN, self._return, index)

    def _after(self, delay_s: float, call: Callable[[int], None], index: int) -> None:
        if math.isinf(delay_s):
            self._pending.pop(index, None)
        else:
            self._pending[index] = self._network.engine.after(max(delay_s, LENGTH_S_MIN), call, index)

    def _end_session(self, index: int) -> None:
        settings, stream = self.settings, self._stream
        if not self._network.nodes[index].is_up:
            self._after(settings.session.draw(stream), self._end_session, index)
            return
        is_graceful = stream.random() < settings.graceful_share
        away_s = settings.absence.draw(stream)
        if is_graceful:
            self.counts.leaves += 1
            self._network.shut_down(index, settings.leave_deadline_s)
            self._stay_away(index, settings.leave_deadline_s, away_s)
        else:
            self.counts.crashes += 1
            self._network.crash(index)
            self._stay_away(index, 0.0, away_s)

    def _stay_away(self, index: int, leave_s: float, away_s: float) -> None:
        if math.isinf(away_s):
            self.counts.gone += 1
            self._pending.pop(index, None)
            if self._replace is not None:
                self.added(self._replace())
            return
        self._down_s[index] = self._network.engine.now + leave_s
        self._after(leave_s + max(away_s, LENGTH_S_MIN), self._return, index)

    def _return(self, index: int) -> None:
        keep_state = self._stream.random() < self.settings.keep_state_share
        self._pending.pop(index, None)
        del self._down_s[index]
        if not self._network.nodes[index].is_up:
            self.counts.restarts += 1
            self.counts.restarts_empty += not keep_state
            self._network.restart(index, keep_state=keep_state)
        if self.is_running:
            self._after(self.settings.session.draw(self._stream), self._end_session, index)
