"""Races: several servers upload one file at once. One room a key, whoever is lost, lies or dies on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sim_support import add, alive, network, subject

from mediadht.core.constants import CLAIM_LEASE_S, CLAIM_WAIT_S_MAX, K
from mediadht.core.events import AnnounceWish, CanonicalChanged, ClaimLapsed, Decision, Notice
from mediadht.core.records import Payload
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import Observer
from mediadht_sim.races import Race, certified_rooms, race


class Listener(Observer):
    """Calls `heard` with every notice, and the index of the node that gave it."""

    def __init__(self, heard: Callable[[int, Notice], object]) -> None:
        self.heard = heard

    def told(self, node: SimulatedNode, notice: Notice) -> None:
        self.heard(node.index, notice)


def run(net: SimulatedNetwork, *races: Race, limit_s: float = 200.0) -> None:
    assert net.engine.run_while(lambda: not all(r.is_over for r in races), limit_s), "somebody waits for ever"
    net.engine.run_until(net.engine.now + 5)


def rooms(of: Race) -> set[str | None]:
    return {racer.room_id for racer in of.racers if not racer.dies}


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_of_two_to_ten_racers_one_creates_and_all_end_in_its_room(loss: float) -> None:
    net, certified = network(30, loss=loss), 0
    for number, count in enumerate((2, 3, 5, 10, 2, 10)):
        of = race(net, subject(number), [(number * 7 + n * 3) % 30 for n in range(count)])
        run(net, of)
        made = [racer for racer in of.racers if racer.made]
        assert len(made) == 1
        assert rooms(of) == {made[0].made}
        assert made[0].established is not None
        certified += made[0].established.certified
        assert len(certified_rooms(net, subject(number).key)) == made[0].established.certified
    # Where receipts were lost, and votes that were given back, one in ten is short of a quorum at first.
    assert certified == 6 if not loss else certified >= 4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_small_networks_have_a_quorum_of_their_own(count: int) -> None:
    net = network(count)
    of = race(net, subject("small"), list(range(count)))
    run(net, of)
    assert len(rooms(of)) == 1
    assert len([racer for racer in of.racers if racer.made]) == 1
    assert not any(d.provisional for racer in of.racers if racer.made for d in racer.decisions)
    assert len(certified_rooms(net, subject("small").key)) == 1


def test_uncontended_it_takes_a_sweep_to_claim_and_one_to_establish() -> None:
    net = network(60)
    before = net.nodes[5].requests_out
    of = race(net, subject("alone"), [5], within_s=0.0)
    assert net.engine.run_while(lambda: of.racers[0].decided_s is None, 10)
    assert of.racers[0].decided_s is not None
    assert of.racers[0].decided_s - of.racers[0].asked_s < 0.25, "two round trips to the farthest replica"
    assert net.nodes[5].requests_out - before <= K + 6
    run(net, of)
    assert of.racers[0].established is not None
    assert of.racers[0].established.certified


def test_later_uploads_join_what_is_certified_with_a_few_requests() -> None:
    net = network(60)
    run(net, race(net, subject("popular"), [5]))
    before = net.nodes[9].requests_out
    late = race(net, subject("popular"), [9], within_s=0.0)
    run(net, late)
    [decided] = late.racers[0].decisions
    assert (decided.decision, decided.provisional, decided.room_id) == (Decision.JOIN, False, "!made5:s5.org")
    assert decided.servers == ("s5.example5.org",)
    assert net.nodes[9].requests_out - before <= 6


def test_a_claimant_that_dies_delays_others_by_no_more_than_a_lease() -> None:
    net = network(30)
    dead = race(net, subject("squat"), [3], dead=[3])
    net.engine.run_until(net.engine.now + 2)
    started_s = net.engine.now
    others = race(net, subject("squat"), [8, 11])
    run(net, others)
    assert len(rooms(others)) == 1
    assert others.racers[0].made is None or others.racers[1].made is None
    decided_s = min(racer.decided_s for racer in others.racers if racer.decided_s is not None)
    assert decided_s - started_s <= CLAIM_LEASE_S + 5
    assert dead.racers[0].decisions[0].decision is Decision.CREATE
    assert {d.decision for racer in others.racers for d in racer.decisions} >= {Decision.WAIT}


def test_one_that_claims_again_and_again_keeps_nobody_waiting_beyond_the_bound() -> None:
    net = network(30)
    told: list[tuple[int, Notice]] = []
    net.watch(Listener(lambda index, notice: told.append((index, notice))))
    squatter = race(net, subject("squat"), [3], dead=[3])
    net.engine.run_until(net.engine.now + 1)

    def claim_again(index: int, notice: Notice) -> None:
        if index == 3 and isinstance(notice, ClaimLapsed):
            net.engine.after(0.0, squatter.ask, squatter.racers[0])

    net.watch(Listener(claim_again))
    honest = race(net, subject("squat"), [8])
    run(net, honest)
    decided_s = honest.racers[0].decided_s
    assert decided_s is not None
    assert decided_s - honest.racers[0].asked_s <= CLAIM_WAIT_S_MAX + 5
    assert any(isinstance(notice, ClaimLapsed) for _, notice in told)


def test_promises_hold_over_restarts_of_all_replicas() -> None:
    net = network(20)
    slow = race(net, subject("restart"), [2], create_s=lambda _: 20.0)
    net.engine.run_until(net.engine.now + 1)
    assert slow.racers[0].decisions[0].decision is Decision.CREATE
    for index in alive(net):
        if index not in (0, 2):
            net.crash(index)
            net.restart(index)
    net.engine.run_until(net.engine.now + 5)
    others = race(net, subject("restart"), [7, 12])
    run(net, slow, others)
    assert rooms(slow) == rooms(others) == {"!made2:s2.org"}


def test_a_claimant_that_was_away_too_long_moves_to_the_room_of_the_other() -> None:
    net = network(30)
    late = race(net, subject("late"), [2], create_s=lambda _: 100.0)
    net.engine.run_until(net.engine.now + CLAIM_LEASE_S + 5)
    other = race(net, subject("late"), [9])
    run(net, other, late)
    assert late.racers[0].made == "!made2:s2.org"
    assert rooms(late) == rooms(other) == {"!made9:s9.org"}
    assert len(certified_rooms(net, subject("late").key)) == 1


def test_crashes_of_six_replicas_and_newcomers_leave_one_room() -> None:
    net = network(40)
    key = subject("churn").key
    of = race(net, subject("churn"), [1, 2, 3], create_s=lambda _: 5.0)
    net.engine.run_until(net.engine.now + 2)
    ids = net.true_closest(key, K)
    victims = [s.index for s in net.nodes if s.keys.node_id in ids and s.index not in (0, 1, 2, 3)][:4]
    for index in victims:
        net.crash(index)
    add(net, 2, settle_s=0.5)
    again = race(net, subject("churn"), [30 if 30 not in victims else 31, 35 if 35 not in victims else 36])
    run(net, of, again)
    assert len(certified_rooms(net, key)) == 1
    assert len(rooms(of) | rooms(again)) == 1


def test_after_a_partition_the_loser_is_told_of_the_canonical_room() -> None:
    """Each side makes a room; once it has healed, whoever announces the other one is told."""
    net = network(16)
    changed: list[tuple[int, CanonicalChanged]] = []
    net.watch(Listener(lambda i, n: changed.append((i, n)) if isinstance(n, CanonicalChanged) else None))
    net.partition([0] * 8 + [1] * 8)
    net.engine.run_until(net.engine.now + 120)
    sides = race(net, subject("cut"), [2]), race(net, subject("cut"), [12])
    run(net, *sides)
    assert rooms(sides[0]) != rooms(sides[1])
    assert len(certified_rooms(net, subject("cut").key)) <= 1, "the lost are counted: no half has a quorum"
    net.heal()
    net.engine.run_until(net.engine.now + 120)
    for side in sides:
        [racer] = side.racers
        net.handle(racer.index, AnnounceWish(subject("cut"), Payload(racer.room_id)))
    net.engine.run_until(net.engine.now + 60)
    assert len({(i, c.room_id) for i, c in changed}) == 1
    [(loser, told)] = changed[:1]
    assert told.own_room_id == f"!made{loser}:s{loser}.org"
    assert told.room_id == f"!made{14 - loser}:s{14 - loser}.org"
