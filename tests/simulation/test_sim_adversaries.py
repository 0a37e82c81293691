"""Adversaries do what their names say, in every way that a node can; and the network of their victims holds out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter
from sim_support import latency_s, subject

from mediadht.core.contacts import check_endpoint, groups_of
from mediadht.core.events import LookupEnded
from mediadht.core.messages import Answer
from mediadht_sim.adversaries import Eclipse, Flood, Replay, place
from mediadht_sim.adversaries.identities import address_of, grind, invented
from mediadht_sim.checkers import Truth
from mediadht_sim.engine import Engine
from mediadht_sim.fakes import faking
from mediadht_sim.network import NetworkSettings, SimulatedNetwork, SimulatedNode
from mediadht_sim.observers import Observer
from mediadht_sim.scenario_events import Adversary

SETTINGS: TypeAdapter[Any] = TypeAdapter(Adversary)
BUSY = [("drop", {}), ("drop", {"drop_share": 0.5}), ("lie", {}), ("withhold", {}), ("replay", {})]


@pytest.fixture(autouse=True)
def _fake_signatures() -> Iterator[None]:
    with faking(signatures=True, constants={}):
        yield


def network(count: int = 40, seed: int = 5) -> tuple[SimulatedNetwork, Truth]:
    settings = NetworkSettings(by_reference=True, fake_signatures=True)
    made = SimulatedNetwork(Engine(seed), latency_s=latency_s, settings=settings)
    truth = Truth(made)
    made.watch(truth)
    for _ in range(count):
        made.add()
        made.engine.run_until(made.engine.now + 0.2)
    run(made, 30)
    return made, truth


def run(of: SimulatedNetwork, time_s: float) -> None:
    of.engine.run_until(of.engine.now + time_s)


def put(into: SimulatedNetwork, strategy: str, **more: object) -> list[SimulatedNode]:
    settings = SETTINGS.validate_python({"strategy": strategy, **more})
    stream = into.engine.stream(f"adversaries/{strategy}")
    return place(into, settings, stream, subject_of=subject)


def ask(of: SimulatedNetwork, truth: Truth, askers: list[int], about: list[int]) -> list[str]:
    results = [of.look_up(askers[n % len(askers)], subject(a)) for n, a in enumerate(about)]
    run(of, 20)
    return [truth.outcome(result, of.engine.now) for result in results]


def honest(of: SimulatedNetwork) -> list[int]:
    return [node.index for node in of.nodes if node.is_honest]


@pytest.mark.parametrize(("strategy", "more"), BUSY)
def test_a_fifth_of_them_hides_nothing(strategy: str, more: dict[str, object]) -> None:
    net, truth = network()
    placed = put(net, strategy, share=0.2, **more)
    assert len(placed) == 8
    assert not any(node.is_honest for node in placed)
    assert net.nodes[0].is_honest
    seeders = honest(net)[:20]
    for n, index in enumerate(seeders):
        net.announce(index, subject(n))
    run(net, 40)
    assert ask(net, truth, honest(net)[12:], list(range(20))).count("found") >= 19


def test_half_of_the_nodes_withholding_is_felt_by_whom_they_answer_first() -> None:
    net, truth = network()
    net.announce(0, subject(0))
    run(net, 30)
    placed = put(net, "withhold", count=39)
    assert len(placed) == 39
    key = subject(0).key
    assert any(node.node.state.store.records_of(key) for node in placed), "they have it"
    lookers = [node.index for node in placed if not node.node.state.store.records_of(key)]
    assert set(ask(net, truth, lookers[:5], [0])) <= {"missed", "found"}


def test_a_node_that_drops_everything_says_nothing_and_is_gone_around() -> None:
    net, truth = network()
    for n in range(10):
        net.announce(n, subject(n))
    run(net, 30)
    placed = put(net, "drop", count=10)
    answers: list[int] = []

    class Ear(Observer):
        watches_messages = True

        def sent(self, sender: SimulatedNode, receiver: SimulatedNode, message: object) -> None:
            if isinstance(message, Answer):
                answers.append(sender.index)

    net.watch(Ear())
    seeds = [n for n in range(10) if net.nodes[n].is_honest]
    assert ask(net, truth, honest(net)[-10:], seeds) == ["found"] * len(seeds)
    assert set(answers).isdisjoint(node.index for node in placed)
    assert answers


def test_old_records_come_back_from_those_who_replay() -> None:
    net, truth = network()
    placed = put(net, "replay", share=0.5)
    seeder = honest(net)[1]
    net.announce(seeder, subject("x"))
    run(net, 30)
    net.withdraw(seeder, subject("x"))
    run(net, 30)
    assert any(isinstance(node.mind, Replay) and node.mind._seen for node in placed)
    results = [net.look_up(index, subject("x")) for index in honest(net)[2:]]
    run(net, 20)
    outcomes = [truth.outcome(result, net.engine.now) for result in results]
    assert set(outcomes) <= {"absent", "stale"}
    assert "absent" in outcomes, "a replica's withdrawal outweighs the old record"


def test_a_flood_has_the_rate_that_was_set() -> None:
    net, truth = network()
    placed = put(net, "flood", count=2, messages_per_s=40.0)
    run(net, 5)
    before = [node.requests_out for node in placed]
    run(net, 20)
    for node, sent in zip(placed, before, strict=True):
        assert isinstance(node.mind, Flood)
        assert 700 <= node.requests_out - sent <= 1_100
    net.announce(3, subject(3))
    run(net, 20)
    assert ask(net, truth, honest(net)[5:], [3] * 10) == ["found"] * 10


def test_sybils_sit_nearest_to_the_key_and_take_it() -> None:
    net, truth = network()
    placed = put(net, "sybil", count=20, target=7)
    run(net, 60)
    key = subject(7).key
    nearest = net.true_closest(key, 10)
    assert sum(not net.by_id[node_id].is_honest for node_id in nearest) >= 8
    net.announce(3, subject(7))
    net.announce(4, subject(8))
    run(net, 40)
    assert ask(net, truth, honest(net)[10:30], [8] * 20) == ["found"] * 20, "nobody else's key is touched"
    results = [net.look_up(index, subject(7)) for index in honest(net)[10:30]]
    run(net, 20)
    assert all(isinstance(result.ended, LookupEnded) for result in results)
    for node in placed:
        assert node.node.state.store.records_of(key), "they acknowledged it"


def test_an_eclipse_stays_at_its_victim() -> None:
    net, _ = network()
    placed = put(net, "eclipse", count=20, target=9, domains=4)
    run(net, 120)
    victim = net.nodes[9]
    assert all(isinstance(node.mind, Eclipse) for node in placed)
    assert sum(node.node_id in victim.sessions for node in placed) >= 10
    domains = {node.contact.server_name.split(".", 1)[1] for node in placed if node.contact.server_name}
    assert len(domains) == 4


def test_they_come_at_their_time() -> None:
    net, _ = network(10)
    placed = put(net, "lie", count=2, starts_at_s=net.engine.now + 30)
    run(net, 29)
    assert placed == []
    run(net, 2)
    assert len(placed) == 2


def test_identities_are_paid_for_from_budgets() -> None:
    def groups(**budget: int) -> tuple[int, int]:
        made = [address_of(n, "x", **budget) for n in range(600)]
        assert all(check_endpoint(endpoint) for endpoint, _ in made)
        found = [groups_of((e,), None, lambda host: ".".join(host.split(".")[-2:])) for e, _ in made]
        return len({g.domain for g in found} - {None}), len({g.prefix for g in found} - {None})

    assert groups(domains=0, prefixes=0) == (600, 0)
    assert groups(domains=3, prefixes=0) == (3, 0)
    assert groups(domains=0, prefixes=2) == (0, 2)
    assert groups(domains=3, prefixes=300) == (3, 300)


def test_grinding_comes_nearer_with_more_tries_and_inventions_are_contacts() -> None:
    net = SimulatedNetwork(Engine(1), latency_s=latency_s, settings=NetworkSettings(fake_signatures=True))
    target = subject(1).key
    far, near = (grind(net, target, tries, net.engine.stream("grind")).node_id ^ target for tries in (1, 500))
    assert near < far >> 3
    company = invented(100, net.engine.stream("x"), name="nobody")
    named = company.near(target, 20)
    assert [c.node_id ^ target for c in named] == sorted(c.node_id ^ target for c in named)
    assert len(company) == 100
    assert all(contact.node_id in company for contact in company.near(target, 20, net.engine.stream("y")))


def test_the_same_seed_makes_the_same_adversaries() -> None:
    traces = []
    for _ in range(2):
        net, _ = network(20)
        for strategy in ("lie", "flood", "sybil", "eclipse"):
            put(net, strategy, count=3, target=5)
        net.announce(0, subject(5))
        run(net, 20)
        traces.append((net.messages, net.engine.events, [node.node_id for node in net.nodes], str(net.trace)))
    assert traces[0][:3] == traces[1][:3]
