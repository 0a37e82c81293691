"""Each checker sees the fault that it is for, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sim_support import latency_s, subject

from mediadht.core import node, operations, replica, routing_table, state
from mediadht.core.constants import K
from mediadht.core.events import WakeAt
from mediadht.core.messages import PutOutcome
from mediadht.core.records import parse_record
from mediadht.core.state import NodeSettings
from mediadht_sim.checkers import CHECKERS, Checker, Truth, routing_health, watch
from mediadht_sim.checkers.bounds import excesses
from mediadht_sim.engine import Engine
from mediadht_sim.fakes import faking
from mediadht_sim.network import EPOCH_S, NetworkSettings, SimulatedNetwork
from mediadht_sim.scenario import Checks

STRICT = Checks(found_share_min=1.0, gone_share_min=1.0, routing_health_min=0.95, settle_s=20.0)
ALL = {kind.name for kind in CHECKERS}


@pytest.fixture(autouse=True)
def _fake_signatures() -> Iterator[None]:
    with faking(signatures=True, constants={}):
        yield


class Watched:
    """A network of 40 nodes that is watched from its start, and in which something happens."""

    def __init__(self, count: int = 40, checks: Checks = STRICT, **more: object) -> None:
        settings = NetworkSettings(by_reference=True, fake_signatures=True, **more)  # type: ignore[arg-type]
        self.network = SimulatedNetwork(Engine(3), latency_s=latency_s, settings=settings)
        self.truth, self.checkers = watch(self.network, checks)
        for _ in range(count):
            self.network.add()
            self.run(0.2)
        self.run(60)

    def run(self, time_s: float) -> None:
        """Let time pass; the checkers look around each ten seconds."""
        stop_s = self.network.engine.now + time_s
        while self.network.engine.now < stop_s:
            self.network.engine.run_until(min(stop_s, self.network.engine.now + 10))
            if self.network.engine.now < stop_s or time_s >= 10:
                for checker in self.checkers:
                    checker.tick()

    def use(self, first: int = 0, *, withdrawn: int = 10) -> None:
        """Twenty announcements, lookups of them, withdrawals of some, and lookups again."""
        for n in range(first, first + 20):
            self.network.announce(n % 20, subject(n))
        self.run(40)
        self.ask(first)
        for n in range(first, first + withdrawn):
            self.network.withdraw(n % 20, subject(n))
        self.run(40)
        self.ask(first)

    def ask(self, first: int = 0) -> list[str]:
        """Look all twenty up; returns the outcomes."""
        results = [self.network.look_up(20 + n % 20, subject(n)) for n in range(first, first + 20)]
        self.run(20)
        return [self.truth.outcome(result, self.network.engine.now) for result in results]

    def end(self) -> set[str]:
        """The names of the checkers that saw a violation."""
        for checker in self.checkers:
            checker.finish()
        return {checker.name for checker in self.checkers if checker.violations}

    def __getitem__(self, name: str) -> Checker:
        return next(checker for checker in self.checkers if checker.name == name)


def text(checker: Checker) -> str:
    """What it reports, for the tests' own messages."""
    return "\n".join(violation.what for violation in checker.violations)


def test_there_is_a_switch_for_every_checker() -> None:
    assert {name for name, field in Checks.model_fields.items() if field.annotation is bool} == ALL
    network = SimulatedNetwork(Engine(1), latency_s=latency_s)
    _, checkers = watch(network, Checks(bounds=False, routing=False))
    assert {checker.name for checker in checkers} == ALL - {"bounds", "routing"}


def test_where_nothing_is_broken_nothing_is_reported() -> None:
    watched = Watched()
    watched.use()
    watched.network.crash(25)
    watched.run(40)
    watched.use(20)
    watched.network.restart(25)
    watched.run(240)
    assert watched.end() == set(), [text(checker) for checker in watched.checkers]
    assert watched["live_found"].judged >= 40  # type: ignore[attr-defined]
    assert watched["withdrawn_gone"].judged >= 19  # type: ignore[attr-defined]
    assert watched["routing"].health == 1.0  # type: ignore[attr-defined]


def test_replicas_that_acknowledge_and_keep_nothing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(_: object, raw: tuple[bytes, bytes]) -> tuple[PutOutcome, object]:
        return PutOutcome(), parse_record(*raw, verify=False)

    monkeypatch.setattr(replica, "take_in", forget)
    watched = Watched()
    watched.use(withdrawn=0)
    assert watched.end() == {"live_found"}
    assert "which is up and had announced it" in watched["live_found"].violations[0].what


def test_a_share_that_is_too_small_is_one_violation_with_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = replica.take_in

    def keep_even(of: state.NodeState, raw: tuple[bytes, bytes]) -> tuple[PutOutcome, object]:
        record = parse_record(*raw, verify=False)
        return kept(of, raw) if record.key % 2 else (PutOutcome(), record)

    monkeypatch.setattr(replica, "take_in", keep_even)
    watched = Watched(checks=STRICT.model_copy(update={"found_share_min": 0.9}))
    watched.use(withdrawn=0)
    assert watched.end() == {"live_found"}
    [violation] = watched["live_found"].violations
    assert "of 40 lookups" in violation.what
    lenient = Watched(checks=STRICT.model_copy(update={"found_share_min": 0.1}))
    lenient.use(withdrawn=0)
    assert lenient.end() == set()


def test_withdrawals_that_are_ignored_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = replica.take_in

    def ignore(of: state.NodeState, raw: tuple[bytes, bytes]) -> tuple[PutOutcome, object]:
        record = parse_record(*raw, verify=False)
        return (PutOutcome(), record) if record.withdrawn else kept(of, raw)

    monkeypatch.setattr(replica, "take_in", ignore)
    watched = Watched()
    watched.use()
    assert watched.end() == {"withdrawn_gone"}


def test_a_replica_that_was_away_when_it_was_withdrawn_is_not_blamed() -> None:
    watched = Watched()
    watched.network.announce(3, subject("x"))
    watched.run(40)
    holders = [n for n in watched.network.nodes if n.index != 3 and n.node.state.store.records_of(subject("x").key)]
    away = holders[:15]
    for holder in away:
        watched.network.freeze(holder.index)
    watched.run(5)
    watched.network.withdraw(3, subject("x"))
    watched.run(40)
    for holder in away:
        watched.network.thaw(holder.index)
    watched.run(30)
    results = [watched.network.look_up(holder.index, subject("x")) for holder in away]
    watched.run(20)
    assert "stale" in {watched.truth.outcome(r, watched.network.engine.now) for r in results}
    assert "withdrawn_gone" not in watched.end()


def test_expired_records_that_are_handed_on_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records live for half a minute, and nobody looks at the time."""
    watched = Watched()
    with faking(signatures=True, constants={"RECORD_VALIDITY_S": 30}):
        watched.network.announce(3, subject("x"))
        watched.run(60)
        assert watched.network.look_up(30, subject("x")).providers == []
        monkeypatch.setattr(state.NodeState, "wall_s", property(lambda _: EPOCH_S + 60))
        watched.network.announce(4, subject("x"))
        watched.run(60)
        result = watched.network.look_up(30, subject("x"))
        watched.run(20)
    assert result.providers
    assert watched.end() == {"withdrawn_gone"}
    assert "had expired" in text(watched["withdrawn_gone"])


def test_a_bucket_without_its_cap_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "RoutingTable", lambda own_id, k: routing_table.RoutingTable(own_id, 10 * k))
    watched = Watched(60)
    assert watched.end() == {"bounds"}
    assert "contacts in a bucket" in text(watched["bounds"])


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("BUCKET_CONTACTS_PER_DOMAIN_MAX", 0, "contacts of a domain in a bucket"),
        ("CONTACT_CACHE_PER_GROUP_MAX", 0, "contacts of a group in the book"),
        ("STORE_RECORDS_PER_KEY_MAX", 0, "records of a key"),
        ("LOOKUP_REQUESTS_MAX", 0, "requests of a lookup"),
        ("REQUESTS_IN_FLIGHT_MAX", 0, "open requests"),
    ],
)
def test_a_bound_is_the_constants_own(monkeypatch: pytest.MonkeyPatch, name: str, value: int, what: str) -> None:
    """The same network is too large in everything once the constants say so."""
    watched = Watched()
    watched.use()
    core = watched.network.nodes[5].node
    assert excesses(core) == []
    watched.network.look_up(5, subject("nobody's"))
    monkeypatch.setattr(f"mediadht.core.constants.{name}", value)
    assert any(found.startswith(what) for found, _, _ in excesses(core))


def test_nodes_that_forget_their_neighbours_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    watched.run(60)
    for n in watched.network.nodes:
        for node_id in list(n.node.state.table)[::2]:
            n.node.state.book[node_id].failures = 3
    watched.run(10)
    assert watched["routing"].violations == [], "it has not been quiet for long"
    watched["routing"].checks = STRICT.model_copy(update={"routing_health_min": 1.1})
    monkeypatch.setattr(watched.truth, "changed_s", -1_000.0)
    assert watched.end() == {"routing"}


def test_routing_is_not_judged_while_the_network_is_cut() -> None:
    watched = Watched()
    watched.network.partition([n % 2 for n in range(40)])
    watched.run(300)
    watched["routing"].checks = STRICT.model_copy(update={"routing_health_min": 1.1})
    assert watched.end() == set()
    assert routing_health(watched.truth, watched.network.nodes[7]) == 1.0, "of its own side it knows all"
    watched.network.heal()
    watched.run(400)
    assert "routing" in watched.end()


@pytest.mark.parametrize("broken", ["requests", "timers", "forgets", "deadline", "twice"])
def test_deadlines_that_are_missed_are_noticed(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    watched = Watched()
    watched.use(withdrawn=0)
    breaks: dict[str, Callable[[], None]] = {
        "requests": lambda: monkeypatch.setattr(state.NodeState, "_slow", lambda *_: None),
        "timers": lambda: monkeypatch.setattr(node, "WakeAt", lambda at_s: WakeAt(at_s + 30)),
        "forgets": lambda: monkeypatch.setattr(operations.FindProviders, "ended", lambda *_: None),
        "deadline": lambda: monkeypatch.setattr(operations.LookupOperation, "proceed", _lose_deadline),
        "twice": lambda: monkeypatch.setattr(operations.FindProviders, "ended", _twice(operations.FindProviders.ended)),
    }
    breaks[broken]()
    for index in range(5):
        watched.network.freeze(index)
    for n in range(20):
        watched.network.look_up(20 + n, subject(f"other {n}"))
    watched.run(40)
    assert "deadlines" in watched.end()


def _lose_deadline(operation: operations.LookupOperation) -> None:
    operation._deadline_timer.cancel()


def _twice(ended: Callable[[object], None]) -> Callable[[object], None]:
    def twice(operation: object) -> None:
        ended(operation)
        ended(operation)

    return twice


def test_the_truth_about_lookups() -> None:
    watched = Watched()
    watched.use()
    assert watched.ask() == ["absent"] * 10 + ["found"] * 10
    for n in range(10, 20):
        watched.network.crash(n)
    watched.run(30)
    assert watched.ask() == ["absent"] * 10 + ["stale"] * 10
    watched.network.restart(10)
    pending = watched.network.look_up(30, subject(11))
    assert watched.truth.outcome(pending, watched.network.engine.now) == "unfinished"
    watched.run(30)
    assert watched.ask()[10:12] == ["found", "stale"]


def test_truth_knows_who_was_up_when() -> None:
    watched = Watched(8)
    truth, network = watched.truth, watched.network
    network.crash(3)
    down_s = network.engine.now
    watched.run(10)
    network.restart(3)
    assert truth.up_since_s(3) == down_s + 10
    assert truth.was_up(3, down_s - 1)
    assert not truth.was_up(3, down_s + 5)
    assert Truth(network).nodes_up == 8, "one that watches later takes what is there"
    network.freeze(4)
    target = network.nodes[4].node_id
    assert truth.closest(target, K) == network.true_closest(target, K)
    network.thaw(4)
    assert truth.closest(target, 1) == [target]


def test_a_seeder_on_the_other_side_of_a_cut_need_not_be_found() -> None:
    watched = Watched()
    watched.use(withdrawn=0)
    watched.network.partition([n % 2 for n in range(40)])
    watched.run(120)
    for n in range(20):
        watched.network.look_up(21 - n % 2 + 2 * (n % 8), subject(n))
    watched.run(20)
    watched.network.heal()
    watched.run(100)
    watched.ask()
    assert watched.end() == set(), [text(checker) for checker in watched.checkers]


def test_small_settings_are_bounds_too() -> None:
    watched = Watched(node=NodeSettings(sessions_max=6, contacts_max=12, records_max=10))
    watched.use()
    assert "bounds" not in watched.end(), text(watched["bounds"])
