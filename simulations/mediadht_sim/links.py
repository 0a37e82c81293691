"""What lies between two nodes: latency, jitter, loss, bandwidth, slowness, and partitions.

A message takes the pair's one-way latency, stretched by jitter; a slow ("grey") node stretches what it sends and what
it gets. With bandwidth, messages queue for the sender's uplink and the receiver's downlink, in the order of sending.
A lost message vanishes (`retransmits` off: harsher than TCP), or comes later, after a retransmission timeout each time
(RFC 6298's floor of 200 ms, or twice the round trip). Messages of one session may overtake one another, which a
WebSocket would not let them: a protocol that needs the order is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mediadht_sim.engine import Engine

__all__ = ["LinkSettings", "Links"]

_RETRANSMISSION_S_MIN = 0.2
_RETRANSMISSIONS_MAX = 6


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Properties of all links. Rates in bits per second, 0 for no limit; shares in [0, 1]."""

    loss: float = 0.0
    jitter_share: float = 0.0
    """A message's latency grows by a random share of itself, exponential with this mean."""
    retransmits: bool = False
    upload_bps: float = 0.0
    download_bps: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 1.0
    """This share of the nodes, chosen by the seed, takes this many times longer for everything."""


class Links:
    """Delays between node indices. `one_way_s(a, b)` is the latency model."""

    __slots__ = (
        "_downlink_free_s",
        "_engine",
        "_jitter",
        "_loss",
        "_one_way_s",
        "_sides",
        "_slow",
        "_slow_factor",
        "_slowness",
        "_uplink_free_s",
        "counts_bytes",
        "is_cut",
        "lost",
        "settings",
    )

    def __init__(self, engine: Engine, one_way_s: Callable[[int, int], float], settings: LinkSettings) -> None:
        self.settings = settings
        self.is_cut: Callable[[int, int], bool] | None = None
        """Whether nothing passes between two nodes; None where everything does."""
        self.counts_bytes = bool(settings.upload_bps or settings.download_bps)
        """Whether `delay_s` needs to know a message's size."""
        self.lost = 0
        self._engine = engine
        self._one_way_s = one_way_s
        self._loss = engine.stream("links/loss")
        self._jitter = engine.stream("links/jitter")
        self._slow = engine.stream("links/slow")
        self._slow_factor: list[float] = []
        self._slowness = False
        self._uplink_free_s: dict[int, float] = {}
        self._downlink_free_s: dict[int, float] = {}
        self._sides: Sequence[int] = ()

    def added(self, index: int) -> None:
        """Node `index` has come: 0, 1, 2, and so on."""
        assert index == len(self._slow_factor)
        is_slow = self._slow.random() < self.settings.slow_share
        self._slow_factor.append(self.settings.slow_factor if is_slow else 1.0)
        self._slowness = self._slowness or is_slow

    def slow_down(self, index: int, factor: float) -> None:
        """Everything that this node sends and gets takes `factor` times as long from now on; 1 mends it."""
        self._slow_factor[index] = factor
        self._slowness = True

    def partition(self, sides: Sequence[int]) -> None:
        """Cut all links between nodes of different sides; `sides[index]`, nodes that come later are on side 0."""
        self._sides = sides
        self.is_cut = self._are_apart

    def heal(self) -> None:
        """Everything passes again."""
        self.is_cut = None

    def latency_s(self, a: int, b: int) -> float:
        """One way, without jitter, loss and queueing: what a round trip of a dial is made of."""
        delay_s = self._one_way_s(a, b)
        return delay_s * self._slow_factor[a] * self._slow_factor[b] if self._slowness else delay_s

    def delay_s(self, a: int, b: int, size_bytes: int = 0) -> float | None:
        """How long a message from `a` to `b` takes now; None if it is lost."""
        settings = self.settings
        delay_s = self._one_way_s(a, b)
        if self._slowness:
            delay_s *= self._slow_factor[a] * self._slow_factor[b]
        if settings.jitter_share:
            delay_s += delay_s * self._jitter.expovariate(1.0) * settings.jitter_share
        if settings.loss and self._loss.random() < settings.loss:
            self.lost += 1
            if not settings.retransmits:
                return None
            timeout_s = max(_RETRANSMISSION_S_MIN, 4 * delay_s)
            delay_s += timeout_s
            for _ in range(_RETRANSMISSIONS_MAX):
                if self._loss.random() >= settings.loss:
                    break
                timeout_s *= 2
                delay_s += timeout_s
        if self.counts_bytes:
            delay_s = self._queued_s(a, b, delay_s, 8 * size_bytes)
        return delay_s

    def _queued_s(self, a: int, b: int, delay_s: float, bits: int) -> float:
        now, settings = self._engine.now, self.settings
        leaves_s = now
        if settings.upload_bps:
            leaves_s = max(now, self._uplink_free_s.get(a, 0.0)) + bits / settings.upload_bps
            self._uplink_free_s[a] = leaves_s
        arrives_s = leaves_s + delay_s
        if settings.download_bps:
            arrives_s = max(arrives_s, self._downlink_free_s.get(b, 0.0)) + bits / settings.download_bps
            self._downlink_free_s[b] = arrives_s
        return arrives_s - now

    def _are_apart(self, a: int, b: int) -> bool:
        sides = self._sides
        return (sides[a] if a < len(sides) else 0) != (sides[b] if b < len(sides) else 0)
