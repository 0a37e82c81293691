"""What happens to a network by the clock: the events of a scenario, and churn.

Who is hit is drawn from a stream of the event's own. The nodes that others bootstrap through (`bootstrap_indices`) are
like any others: they crash and are cut off too; a node that finds one of them down tries another at its next tick.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from mediadht_sim.lives import Churn, ChurnSettings, Exponential, Lengths, LogNormal, Never, Weibull
from mediadht_sim.lives_file import load_trace
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.scenario import Exponential as ExponentialSettings
from mediadht_sim.scenario import Lives, Scenario
from mediadht_sim.scenario import LogNormal as LogNormalSettings
from mediadht_sim.scenario import Never as NeverSettings
from mediadht_sim.scenario import Trace as TraceSettings
from mediadht_sim.scenario import Weibull as WeibullSettings
from mediadht_sim.scenario_events import Crash, Event, Freeze, Heal, Join, LeaveInOrder, Partition, Restart, Slow, Thaw

__all__ = ["Timeline"]


class Timeline:
    """The events and the churn of one scenario. `add()` makes another honest node and returns it."""

    def __init__(self, network: SimulatedNetwork, scenario: Scenario, add: Callable[[], SimulatedNode]) -> None:
        self._network = network
        self._scenario = scenario
        self._add = add
        self.churn = self._churn(scenario.lives)

    def start(self) -> None:
        """Begin: times count from now."""
        if self.churn is not None:
            self.churn.start()
        for number, event in enumerate(self._scenario.events):
            self._network.engine.after(event.at_s, self._happen, number, event)

    def _churn(self, lives: Lives) -> Churn | None:
        if isinstance(lives.session, NeverSettings):
            return None
        settings = ChurnSettings(
            session=_lengths(lives.session, is_session=True),
            absence=_lengths(lives.absence, is_session=False),
            graceful_share=lives.graceful_share,
            keep_state_share=lives.keep_state_share,
        )
        return Churn(self._network, settings, replace=lambda: self._add().index)

    def _happen(self, number: int, event: Event) -> None:
        network = self._network
        network.trace.note(f"{network.engine.now!r} {event.kind}")
        match event:
            case Partition():
                network.partition(self._sides(number, event))
            case Heal():
                network.heal()
            case Join():
                self._spread(event.over_s, [self._join] * event.size(self._scenario.network.nodes))
            case Crash():
                self._to_some(number, event, lambda n: n.is_up, network.crash)
            case Freeze():
                self._to_some(number, event, lambda n: n.hears, network.freeze)
            case Thaw():
                self._to_some(number, event, lambda n: n.is_up and n.is_frozen, network.thaw)
            case LeaveInOrder(deadline_s=deadline_s):
                self._to_some(number, event, lambda n: n.hears, lambda i: network.shut_down(i, deadline_s))
            case Restart(keep_state=keep_state):
                self._to_some(number, event, lambda n: not n.is_up, lambda i: self._restart(i, keep_state))
            case Slow(factor=factor):
                self._to_some(number, event, lambda n: n.hears, lambda i: network.links.slow_down(i, factor))
            case _:
                assert_never(event)

    def _to_some(
        self,
        number: int,
        event: Crash | Freeze | Thaw | LeaveInOrder | Restart | Slow,
        qualifies: Callable[[SimulatedNode], bool],
        do: Callable[[int], None],
    ) -> None:
        """Do it to as many honest nodes as the event says, of those that qualify now."""
        candidates = [n.index for n in self._network.nodes if n.is_honest and qualifies(n)]
        stream = self._network.engine.stream(f"event/{number}")
        chosen = stream.sample(candidates, min(len(candidates), event.size(len(candidates))))
        self._spread(event.over_s, [lambda index=index: do(index) for index in chosen])  # type: ignore[misc]

    def _spread(self, over_s: float, calls: list[Callable[[], None]]) -> None:
        for position, call in enumerate(calls):
            self._network.engine.after(over_s * position / len(calls), call)

    def _restart(self, index: int, keep_state: bool) -> None:
        if not self._network.nodes[index].is_up:
            self._network.restart(index, keep_state=keep_state)

    def _join(self) -> None:
        index = self._add().index
        if self.churn is not None:
            self.churn.added(index)

    def _sides(self, number: int, event: Partition) -> list[int]:
        """The side of each node: a random division in the sizes wanted."""
        count, sizes = len(self._network.nodes), event.sizes()
        order = list(range(count))
        self._network.engine.stream(f"event/{number}").shuffle(order)
        sides, start, upto = [0] * count, 0, 0.0
        for side, share in enumerate(sizes):
            upto += share
            stop = count if side == len(sizes) - 1 else round(upto * count)
            for index in order[start:stop]:
                sides[index] = side
            start = stop
        return sides


def _lengths(
    settings: ExponentialSettings | WeibullSettings | LogNormalSettings | TraceSettings | NeverSettings,
    *,
    is_session: bool,
) -> Lengths:
    match settings:
        case ExponentialSettings(mean_s=mean_s):
            return Exponential(mean_s)
        case WeibullSettings(shape=shape, scale_s=scale_s):
            return Weibull(shape, scale_s)
        case LogNormalSettings(median_s=median_s, sigma=sigma):
            return LogNormal(median_s, sigma)
        case TraceSettings(file=file):
            trace = load_trace(Path(file))
            return trace.sessions if is_session else trace.absences
        case NeverSettings():
            return Never()
        case _:
            assert_never(settings)
