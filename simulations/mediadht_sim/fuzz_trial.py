"""One plan of the safety search, run: first with faults, then without, with demands in each.

With faults (*safety*): nothing raises, nothing runs away, driver and core agree on who is connected, tables are within
their bounds, every lookup ends by its deadline and names only who did announce, each signer once. Then the network
heals, everybody is up, and there is quiet (*liveness*): every node knows its neighbours, whatever is announced is
found from anywhere, whatever is withdrawn from then on is not.
"""

from __future__ import annotations

import hashlib
import math
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from mediadht.core.constants import LOOKUP_PATIENCE_S
from mediadht.core.contacts import Contact
from mediadht.core.identifiers import Subject, media
from mediadht.core.state import NodeSettings
from mediadht_sim.adversaries.answers import Drop, Lie, Replay, Withhold
from mediadht_sim.adversaries.mind import Company, Mind
from mediadht_sim.checkers.bounds import excesses
from mediadht_sim.engine import Engine
from mediadht_sim.fakes import faking
from mediadht_sim.fuzz_scenarios import Plan, Step
from mediadht_sim.links import LinkSettings
from mediadht_sim.network import LookupResult, NetworkSettings, SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import Observer
from mediadht_sim.settled import settle

__all__ = ["Found", "Outcome", "subject", "try_plan"]

_TICK_S = 30.0
_EVENTS_PER_TICK_MAX = 3_000_000
"""More than any honest half minute of these networks takes by a factor of ten: something runs away."""
_DEADLINE_S = 15.0
_JOIN_EVERY_S = 0.2
_SETTLE_S = 30.0
_LEAVE_S = 5.0
_AFTER_WISH_S = 40.0
_CHECKED_MAX = 60
_ASKERS = 2
_HEALTH_MEAN_MIN = 0.9
_HEALTH_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """A demand that was not met. `kind` names the demand; two failures of one kind are taken for the same."""

    kind: str
    at_s: float
    what: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a plan gave; `found` is None where all demands were met."""

    found: Found | None
    virtual_s: float
    messages: int
    events: int
    trace: str


class _Unmet(Exception):
    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what


def subject(number: int) -> Subject:
    """The media ID of the plan's subject of this number."""
    return media("sha256." + hashlib.sha256(f"subject {number}".encode()).hexdigest())


def try_plan(plan: Plan) -> Outcome:
    """Run the plan. The same plan gives the same outcome, on any machine."""
    with faking(signatures=True, constants={}):
        trial = _Trial(plan)
        found = None
        try:
            trial.run()
        except _Unmet as unmet:
            found = Found(unmet.kind, trial.engine.now, unmet.what)
        except Exception as error:  # noqa: BLE001 - whatever the core or its driver raises is a finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename.rpartition('/')[2]}:{where.name}"
            found = Found(f"{type(error).__name__} in {place}", trial.engine.now, traceback.format_exc())
    network = trial.network
    return Outcome(found, trial.engine.now, network.messages, trial.engine.events, network.trace.hexdigest())


@dataclass(slots=True)
class _Watch(Observer):
    """Who ever announced what, and the lookups under way."""

    announced: dict[int, set[int]] = field(default_factory=dict)
    """By key, the node IDs."""
    lives: dict[int, int] = field(default_factory=dict)
    """By index, how often something happened to the node: a lookup that spans it proves nothing."""
    ended: list[LookupResult] = field(default_factory=list)

    def wished(self, node: SimulatedNode, subject: Subject, announced: bool) -> None:
        if announced:
            self.announced.setdefault(subject.key, set()).add(node.node_id)

    def life(self, node: SimulatedNode, what: str) -> None:
        self.lives[node.index] = self.lives.get(node.index, 0) + 1

    def looked_up(self, node: SimulatedNode, result: LookupResult) -> None:
        self.ended.append(result)


class _Trial:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.engine = Engine(plan.seed)
        self._verify = self.engine.stream("fuzz/verify")
        self._hostile = dict(plan.adversaries)
        self._watch = _Watch()
        self._open: list[tuple[LookupResult, int]] = []
        self._made_up = Company()
        links = LinkSettings(jitter_share=plan.jitter_share)
        settings = NetworkSettings(
            by_reference=not plan.codec,
            fake_signatures=True,
            keepalive_assumed=not plan.keepalive,
            node=NodeSettings(k=plan.k),
        )
        self.network = SimulatedNetwork(
            self.engine, latency_s=_latencies(self.engine, plan.latency_ms), links=links, settings=settings
        )
        self.network.watch(self._watch)

    def run(self) -> None:
        """Both phases; raises `_Unmet`, or what the core raises."""
        self._start()
        began_s = self.engine.now
        for step in self.plan.steps:
            self._advance(began_s + step.at_s)
            self._take(step)
        self._advance(began_s + self.plan.safety_s)
        self._heal()
        self._advance(self.engine.now + self.plan.quiet_s)
        self._demand_liveness()

    # --- Phases --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        network, plan = self.network, self.plan
        fakes = self.engine.stream("fuzz/made-up contacts")
        for number in range(40):
            keys = network.keys_from_seed(fakes.randbytes(32))
            endpoints = (f"wss://made-up{number}.nowhere{number}.org/",)
            self._made_up.add(Contact(keys.node_id, keys.public_key, endpoints, f"nowhere{number}.org"))
        joined = plan.start == "joined"
        for _ in range(plan.nodes):
            self._add(starts=joined)
            if joined:
                self._advance(self.engine.now + _JOIN_EVERY_S)
        if not joined:
            settle(network, network.nodes)
        self._advance(self.engine.now + (_SETTLE_S if joined else 1.0))

    def _add(self, *, starts: bool = True) -> None:
        index = len(self.network.nodes)
        skew_s = self.plan.skews_s[index] if index < len(self.plan.skews_s) else 0.0
        self.network.add(
            reachable=index not in self.plan.unreachable,
            clock_skew_s=skew_s,
            mind=self._mind if index in self._hostile else None,
            starts=starts,
        )

    def _mind(self, node: SimulatedNode) -> Mind:
        stream = self.engine.stream(f"fuzz/adversary/{node.index}")
        match self._hostile[node.index]:
            case "drop":
                return Drop(node, stream)
            case "lie":
                return Lie(node, stream, self._made_up, is_varied=True)
            case "replay":
                return Replay(node, stream)
            case _:
                return Withhold(node, stream)

    def _heal(self) -> None:
        """No faults any more. Those about to leave are let go first."""
        network = self.network
        self._advance(self.engine.now + _LEAVE_S + 1.0)
        network.links.settings = LinkSettings()
        network.heal()
        for node in network.nodes:
            network.links.slow_down(node.index, 1.0)
            if node.is_frozen:
                network.thaw(node.index)
            elif not node.is_up:
                network.restart(node.index)

    def _demand_liveness(self) -> None:
        network = self.network
        self._demand_health()
        honest = [node for node in network.nodes if node.is_honest]
        wanted = {s.key: s for node in honest for wish in node.wishes.values() if wish.payload for s in (wish.subject,)}
        self._demand_found(self._sample(sorted(wanted.values(), key=lambda s: s.key)), "announced before")
        new = [subject(10_000 + n) for n in range(5)]
        for of in new:
            network.announce(self._verify.choice(honest).index, of)
        self._advance(self.engine.now + _AFTER_WISH_S)
        self._demand_found(new, "announced in the quiet")
        self._demand_gone(new[:3])

    # --- Steps ---------------------------------------------------------------------------------------------------

    def _take(self, step: Step) -> None:
        network = self.network
        match step.kind:
            case "join":
                self._add()
            case "loss":
                network.links.settings = LinkSettings(loss=step.amount, jitter_share=self.plan.jitter_share)
            case "heal":
                network.heal()
            case "partition":
                network.partition([int(n in step.nodes) for n in range(len(network.nodes))])
            case _:
                for index in step.nodes:
                    self._take_at(network.nodes[index], step)

    def _take_at(self, node: SimulatedNode, step: Step) -> None:
        network, index = self.network, node.index
        match step.kind:
            case "crash":
                node.is_frozen = False
                network.crash(index)
            case "restart" | "restart_empty":
                if not node.is_up:
                    network.restart(index, keep_state=step.kind == "restart")
            case "leave":
                if node.hears:
                    network.shut_down(index, _LEAVE_S)
            case "freeze":
                network.freeze(index)
            case "thaw":
                network.thaw(index)
            case "slow":
                network.links.slow_down(index, step.amount)
            case "announce" | "withdraw" | "look_up" if node.hears:
                for number in step.subjects:
                    self._use(index, step.kind, subject(number))

    def _use(self, index: int, kind: str, of: Subject) -> None:
        network = self.network
        if kind == "announce":
            network.announce(index, of)
        elif kind == "look_up":
            self._look_up(index, of)
        elif of.key in network.nodes[index].wishes:
            network.withdraw(index, of)

    def _look_up(self, index: int, of: Subject) -> LookupResult:
        result = self.network.look_up(index, of, providers_max=64, deadline_s=_DEADLINE_S)
        if result.ended is None:
            self._open.append((result, self._watch.lives.get(index, 0)))
        return result

    # --- Demands -------------------------------------------------------------------------------------------------

    def _advance(self, until_s: float) -> None:
        """Let time pass, and look at everything now and then."""
        engine = self.engine
        while engine.now < until_s:
            limit = engine.events + _EVENTS_PER_TICK_MAX
            if engine.run_while(lambda limit=limit: engine.events < limit, min(_TICK_S, until_s - engine.now)):  # type: ignore[misc]
                raise _Unmet("runs away", f"more than {_EVENTS_PER_TICK_MAX:,} events in {_TICK_S:.0f} s")
            self._demand_bounds()
            self._demand_ends()

    def _demand_ends(self) -> None:
        still_open: list[tuple[LookupResult, int]] = []
        for result, lives in self._open:
            if result.ended is not None or self._watch.lives.get(result.index, 0) != lives:
                continue
            still_open.append((result, lives))
            if self.engine.now > result.started_s + _DEADLINE_S + LOOKUP_PATIENCE_S:
                raise _Unmet("a lookup does not end", f"node {result.index}, started at {result.started_s:.3f} s")
        self._open = still_open
        for result in self._watch.ended:
            signers = [found.record.node_id for found in result.providers]
            who = f"node {result.index}, {result.subject.id}"
            if len(set(signers)) < len(signers):
                raise _Unmet("a provider twice in one lookup", who)
            if not set(signers) <= self._watch.announced.get(result.subject.key, set()):
                raise _Unmet("a provider that never announced", who)
            late_s = result.ended_s - result.started_s - _DEADLINE_S
            if result.ended is not None and late_s > LOOKUP_PATIENCE_S and not self._watch.lives.get(result.index):
                raise _Unmet("a lookup ends late", f"{who}: by {late_s:.3f} s")
        self._watch.ended.clear()

    def _demand_bounds(self) -> None:
        for node in self.network.nodes:
            if not node.hears:
                continue
            state = node.node.state
            for what, size, bound in excesses(node.node, exact=False):
                raise _Unmet(f"too many {what}", f"node {node.index}: {size} of {bound}")
            if state.operations < 0:
                raise _Unmet("more lookups ended than began", f"node {node.index}: {state.operations} under way")
            if set(state.sessions) != set(node.sessions):
                raise _Unmet("core and driver disagree about sessions", f"node {node.index}")
            for node_id in state.table:
                peer = state.book.get(node_id)
                if peer is None or not peer.in_table:
                    raise _Unmet("table and book disagree", f"node {node.index}: {node_id:x}")

    def _demand_health(self) -> None:
        shares: list[float] = []
        for node in self.network.nodes:
            if not node.is_honest:
                continue
            true = self.network.true_closest(node.node_id, self.plan.k + 1 + len(self._hostile))
            honest = [i for i in true if i != node.node_id and self.network.by_id[i].is_honest][: self.plan.k]
            live = node.node.state.book.live
            share = sum(node_id in live for node_id in honest) / len(honest) if honest else 1.0
            if share < _HEALTH_MIN:
                raise _Unmet("a node knows few of its neighbours", f"node {node.index}: {share:.0%} of {len(honest)}")
            shares.append(share)
        mean = math.fsum(shares) / len(shares)
        if mean < _HEALTH_MEAN_MIN:
            raise _Unmet("nodes know few of their neighbours", f"{mean:.0%} on average")

    def _demand_found(self, subjects: list[Subject], when: str) -> None:
        for of, result in self._answers(subjects):
            nodes = [n for n in self.network.nodes if n.is_honest and (w := n.wishes.get(of.key)) and w.payload]
            found = {provider.record.node_id for provider in result.providers}
            if nodes and not any(node.node_id in found for node in nodes):
                seeders = ", ".join(str(node.index) for node in nodes)
                holding = sum(bool(n.node.state.store.records_of(of.key)) for n in self.network.nodes)
                near = self.network.true_closest(of.key, self.plan.k)
                rightly = sum(bool(self.network.by_id[i].node.state.store.records_of(of.key)) for i in near)
                what = (
                    f"{of.id}, announced by {seeders}, sought by node {result.index}; held by {holding} nodes,"
                    f" {rightly} of them its true {len(near)} closest; {result.ended}"
                )
                raise _Unmet(f"not found: {when}", what)

    def _demand_gone(self, subjects: list[Subject]) -> None:
        for of in subjects:
            for node in self.network.nodes:
                if of.key in node.wishes:
                    self.network.withdraw(node.index, of)
        self._advance(self.engine.now + _AFTER_WISH_S)
        replaying = "replay" in self._hostile.values()
        for of, result in self._answers(subjects):
            if result.providers and not replaying:
                raise _Unmet("withdrawn, yet found", f"{of.id}, sought by node {result.index}")

    def _answers(self, subjects: list[Subject]) -> list[tuple[Subject, LookupResult]]:
        honest = [node.index for node in self.network.nodes if node.is_honest]
        asked: list[tuple[Subject, LookupResult]] = []
        for of in subjects:
            for index in self._verify.sample(honest, min(_ASKERS, len(honest))):
                asked.append((of, self._look_up(index, of)))
        self._advance(self.engine.now + _DEADLINE_S + 2 * LOOKUP_PATIENCE_S)
        return asked

    def _sample(self, subjects: list[Subject]) -> list[Subject]:
        return subjects if len(subjects) <= _CHECKED_MAX else self._verify.sample(subjects, _CHECKED_MAX)


def _latencies(engine: Engine, median_ms: float) -> Callable[[int, int], float]:
    """One way, different for each pair, the same both ways: up to four times the median, and down to a quarter."""
    salt = engine.stream("fuzz/latency").getrandbits(64)
    known: dict[tuple[int, int], float] = {}

    def latency_s(a: int, b: int) -> float:
        pair = (a, b) if a < b else (b, a)
        if pair not in known:
            share = random.Random(f"{salt}/{pair[0]}/{pair[1]}").uniform(-2.0, 2.0)
            known[pair] = median_ms / 1000 * 2.0**share
        return known[pair]

    return latency_s
