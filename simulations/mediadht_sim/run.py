"""One run: a scenario and a seed in, rows, figures and violations out.

`run` builds the network, lets it settle, and measures; `Simulation` is the same in steps, for notebooks and for the
safety search, which wants to look inside. Equal scenarios and seeds give equal results, `wall_s` excepted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mediadht.core.contacts import Contact
from mediadht.core.state import NodeSettings
from mediadht_sim.adversaries import place
from mediadht_sim.checkers import Violation, watch
from mediadht_sim.engine import Engine, collector_at_rest
from mediadht_sim.fakes import faking
from mediadht_sim.latency import LatencyModel, latency_model
from mediadht_sim.links import LinkSettings
from mediadht_sim.measure import Measure
from mediadht_sim.metrics import metrics
from mediadht_sim.network import NetworkSettings, SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.scenario import ConstantLatency, Scenario, SyntheticLatency
from mediadht_sim.settled import settle
from mediadht_sim.timeline import Timeline
from mediadht_sim.workloads import Workloads

__all__ = ["Progress", "RunResult", "Simulation", "run"]

Progress = Callable[[float, float, str, int], None]
"""Called with virtual seconds done, virtual seconds in all, the phase, and messages sent so far."""

_BOOTSTRAP_NODES_MIN = 8
_BOOTSTRAP_SHARE = 0.01
_STEP_S = 1.0
"""Of virtual time between two calls of `Progress`."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run gave. The rows' columns are those of `mediadht_sim.columns`."""

    scenario: Scenario
    seed: int
    trace: str
    """SHA-256 of all that was said, 64 hexadecimal digits."""
    lookups: list[tuple[Any, ...]]
    intervals: list[tuple[Any, ...]]
    nodes: list[tuple[Any, ...]]
    violations: list[Violation]
    metrics: dict[str, float | None]
    events: int
    messages: int
    virtual_s: float
    """Simulated time, the warm-up included."""
    wall_s: float
    """The time that it took."""


def run(scenario: Scenario, seed: int | None = None, progress: Progress | None = None) -> RunResult:
    """Run `scenario` with its own seed, or with `seed`.

    Raises ConfigurationError or EnvironmentFault for a file that the scenario names and that cannot be used.
    """
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    with playing(scenario):
        return _played(scenario, progress)


def _played(scenario: Scenario, progress: Progress | None) -> RunResult:
    """A function of its own, so that the network is gone when `playing` clears up: reports need memory too."""
    started_s = time.perf_counter()
    simulation = Simulation(scenario, progress)
    simulation.build()
    simulation.warm_up()
    simulation.begin()
    simulation.measure(scenario.duration_s)
    return simulation.result(time.perf_counter() - started_s)


@contextmanager
def playing(scenario: Scenario) -> Iterator[None]:
    """The core as this scenario wants it: its constants, its signatures; and the collector at rest."""
    with faking(signatures=scenario.network.signatures == "fake", constants=scenario.constants), collector_at_rest():
        yield


class Simulation:
    """A scenario in steps: `build`, `warm_up`, `begin`, `measure`, `result`, within `playing(scenario)`."""

    def __init__(self, scenario: Scenario, progress: Progress | None = None) -> None:
        self.scenario = scenario
        self.engine = Engine(scenario.seed)
        self.network = SimulatedNetwork(
            self.engine,
            latency_s=_latency(scenario, self.engine).one_way_s,
            links=_link_settings(scenario),
            settings=_network_settings(scenario),
        )
        self.truth, self.checkers = watch(self.network, scenario.checks)
        self.measures = Measure(self.network, self.truth, self.checkers)
        self.network.watch(self.measures)
        self.workloads = Workloads(self.network, scenario)
        self.timeline = Timeline(self.network, scenario, self._add)
        self._progress = progress
        self._skew = self.engine.stream("clock skew")
        self._reach = self.engine.stream("reachable")
        self._bootstrap = self.engine.stream("bootstrap")
        self._known = max(_BOOTSTRAP_NODES_MIN, int(_BOOTSTRAP_SHARE * scenario.network.nodes))
        self._began_s = 0.0
        self._total_s = scenario.network.settle_s + scenario.duration_s

    def build(self) -> None:
        """Make the nodes: settled at once, or joining one after the other."""
        network = self.scenario.network
        if network.start == "settled":
            nodes = [self._add(starts=False) for _ in range(network.nodes)]
            settle(self.network, nodes, lambda _: self._tell("building"))
            return
        self._total_s += network.nodes * network.join_every_s
        for _ in range(network.nodes):
            self._add()
            self._run_until(self.engine.now + network.join_every_s, "joining")

    def warm_up(self) -> None:
        """Let the network settle, and have announced what the workloads presuppose."""
        settle_s = self.scenario.network.settle_s
        self.workloads.prepare(settle_s)
        self._run_until(self.engine.now + settle_s, "settling")

    def begin(self) -> None:
        """The measured time begins."""
        self._began_s = self.engine.now
        self.measures.begin()
        for number, adversary in enumerate(self.scenario.adversaries):
            place(
                self.network,
                adversary,
                self.engine.stream(f"adversary/{number}"),
                subject_of=self.workloads.subject,
                measured_from_s=self.engine.now,
            )
        self.timeline.start()
        self.workloads.start()

    def measure(self, duration_s: float) -> None:
        """Let this much more time pass, in intervals."""
        stop_s = self.engine.now + duration_s
        while self.engine.now < stop_s:
            self._run_until(min(stop_s, self.engine.now + self.scenario.interval_s), "measuring")
            self.truth.look_around()
            for checker in self.checkers:
                checker.tick()
            self.measures.tick()

    def result(self, wall_s: float) -> RunResult:
        """The end: what is still open is counted as unfinished, and the checkers say their last word."""
        for checker in self.checkers:
            checker.finish()
        self.measures.finish()
        measures = self.measures
        violations = [violation for checker in self.checkers for violation in checker.violations]
        violations.sort(key=lambda v: v.at_s)
        return RunResult(
            scenario=self.scenario,
            seed=self.scenario.seed,
            trace=self.network.trace.hexdigest(),
            lookups=measures.lookups,
            intervals=measures.intervals,
            nodes=measures.nodes,
            violations=[self._from_begin(violation) for violation in violations],
            metrics=metrics(measures.lookups, measures.intervals, measures.nodes),
            events=self.engine.events,
            messages=self.network.messages,
            virtual_s=self.engine.now,
            wall_s=wall_s,
        )

    def _from_begin(self, violation: Violation) -> Violation:
        """Its time in measured time, as everywhere in the results."""
        return Violation(violation.checker, violation.at_s - self._began_s, violation.node, violation.what)

    def _add(self, *, starts: bool = True) -> SimulatedNode:
        scenario = self.scenario
        skew_s = self._skew.uniform(-1, 1) * scenario.links.clock_skew_s
        is_reachable = self._reach.random() >= scenario.network.unreachable_share or not self.network.nodes
        index = len(self.network.nodes)
        return self.network.add(
            reachable=is_reachable,
            bootstrap=lambda: self._somebody_known(index),
            clock_skew_s=skew_s,
            starts=starts,
        )

    def _somebody_known(self, asker: int) -> Contact | None:
        """One of the first nodes, at random: those that stand in everybody's configuration. Never the asker itself."""
        known = [n for n in self.network.nodes[: self._known] if n.contact.endpoints and n.index != asker]
        return self._bootstrap.choice(known).contact if known else None

    def _run_until(self, time_s: float, phase: str) -> None:
        if self._progress is None:
            self.engine.run_until(time_s)
            return
        while self.engine.now < time_s:
            self.engine.run_until(min(time_s, self.engine.now + _STEP_S))
            self._tell(phase)

    def _tell(self, phase: str) -> None:
        if self._progress is not None:
            self._progress(self.engine.now, self._total_s, phase, self.network.messages)


def _latency(scenario: Scenario, engine: Engine) -> LatencyModel:
    settings, stream = scenario.latency, engine.stream("latency")
    if isinstance(settings, SyntheticLatency | ConstantLatency):
        return latency_model(settings.model, stream, rtt_median_ms=settings.median_ms)
    return latency_model(settings.model, stream, file=Path(settings.file))


def _link_settings(scenario: Scenario) -> LinkSettings:
    links = scenario.links
    return LinkSettings(
        loss=links.loss,
        jitter_share=scenario.latency.jitter_share,
        retransmits=links.retransmits,
        upload_bps=links.upload_bps,
        download_bps=links.download_bps,
        slow_share=links.slow_share,
        slow_factor=links.slow_factor,
    )


def _network_settings(scenario: Scenario) -> NetworkSettings:
    network = scenario.network
    return NetworkSettings(
        by_reference=network.codec == "reference",
        fake_signatures=network.signatures == "fake",
        keepalive_assumed=network.keepalive == "assumed",
        dial_round_trips=float(scenario.links.dial_round_trips),
        node=NodeSettings(
            k=network.k,
            sessions_max=network.sessions_max,
            contacts_max=network.contacts_max,
            expects_peers=True,
        ),
    )
