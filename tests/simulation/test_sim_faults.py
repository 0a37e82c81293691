"""Crashes, frozen nodes, lost messages, partitions, clocks: what is announced is found all the same, and soon."""

from __future__ import annotations

import pytest
from sim_support import PAYLOAD, add, alive, announce, first_s, look_up, name, network, providers, subject

from mediadht.core.constants import K
from mediadht.core.events import AnnounceWish, ClockSet
from mediadht_sim.network import EPOCH_S, SimulatedNetwork


def every(net: SimulatedNetwork, share: int, start: int = 1) -> list[int]:
    """Every `share`-th node."""
    return list(range(start, len(net.nodes), share))


def assert_found(net: SimulatedNetwork, announced: list[tuple[int, object]]) -> list[float]:
    """Every subject of a live node is found from live nodes; returns the times to the first provider, ascending."""
    up = alive(net)
    wanted = [(index, of) for index, of in announced if index in up]
    assert wanted
    results = look_up(net, [(up[n * 7 % len(up)], subject(of)) for n, (_, of) in enumerate(wanted)])
    for (index, _), found in zip(wanted, results, strict=True):
        assert name(net, index) in providers(found)
    return sorted(first_s(found) for found in results)


def test_a_third_crashes_and_everything_that_lives_is_found_at_once() -> None:
    net = network(100)
    announced = [(n, n) for n in range(100)]
    announce(net, [(index, subject(of)) for index, of in announced])
    for index in every(net, 3):
        net.crash(index)
    times_s = assert_found(net, announced)
    assert times_s[len(times_s) // 2] < 0.15
    assert times_s[-1] < 1.0


def test_half_freezes_and_first_providers_come_within_a_second_nevertheless() -> None:
    """Nothing answers and nothing closes at every second node: each lookup goes around the silent ones."""
    net = network(100)
    announced = [(n, n) for n in range(100)]
    announce(net, [(index, subject(of)) for index, of in announced])
    for index in every(net, 2):
        net.freeze(index)
    times_s = assert_found(net, announced)
    assert times_s[len(times_s) // 2] < 0.4
    assert times_s[-1] < 2.0
    net.engine.run_until(net.engine.now + 120)
    later_s = assert_found(net, announced)
    assert later_s[-1] < 0.5, "two minutes later the silent are known"


def test_one_frozen_peer_does_not_slow_a_warm_lookup() -> None:
    net = network(30)
    announce(net, [(n, subject(n)) for n in range(30)])
    look_up(net, [(5, subject(n)) for n in range(30)])
    net.freeze(7)
    results = look_up(net, [(5, subject(n)) for n in range(30) if n != 7])
    assert sorted(map(first_s, results))[14] < 0.1
    assert max(map(first_s, results)) < 0.45


@pytest.mark.parametrize("percent", [10, 20])
def test_with_every_fifth_message_lost_all_is_stored_and_found(percent: int) -> None:
    net = network(40, loss=percent / 100)
    announced = [(n, n) for n in range(40)]
    announce(net, [(index, subject(of)) for index, of in announced], wait_s=60)
    times_s = assert_found(net, announced)
    assert times_s[len(times_s) // 2] < 0.6
    held = [sum(bool(s.node.state.store.records_of(subject(n).key)) for s in net.nodes) for n in range(40)]
    assert min(held) >= K // 2


@pytest.mark.parametrize("cut_s", [60, 3_600])
def test_a_partition_heals_within_a_minute_however_long_it_was(cut_s: float) -> None:
    net = network(40)
    announce(net, [(n, subject(n)) for n in range(40)])
    net.links.is_cut = lambda a, b: a % 2 != b % 2
    net.engine.run_until(net.engine.now + cut_s)
    announce(net, [(n, subject(f"in the cut {n}")) for n in range(40)], wait_s=30)
    near = look_up(net, [((n + 2) % 40, subject(f"in the cut {n}")) for n in range(40)])
    assert all(providers(found) == {name(net, n)} for n, found in enumerate(near)), "each side works by itself"
    net.links.is_cut = lambda a, b: False
    net.engine.run_until(net.engine.now + 60)
    across = look_up(net, [((n + 1) % 40, subject(f"in the cut {n}")) for n in range(40)])
    assert [providers(found) for found in across] == [{name(net, n)} for n in range(40)]
    announce(net, [(n, subject(f"healed {n}")) for n in range(40)])
    for n in range(40):
        key = subject(f"healed {n}").key
        holding = {s.keys.node_id for s in net.nodes if s.node.state.store.records_of(key)}
        assert len(holding & set(net.true_closest(key, K))) >= K - 4


def test_a_node_that_loses_the_network_and_gets_it_back_works_within_a_minute() -> None:
    net = network(20)
    announce(net, [(n, subject(n)) for n in range(20)])
    net.links.is_cut = lambda a, b: 9 in (a, b)
    net.engine.run_until(net.engine.now + 600)
    net.handle(9, AnnounceWish(subject("while away"), PAYLOAD))
    net.engine.run_until(net.engine.now + 600)
    assert net.nodes[9].node.state.sessions == {}
    net.links.is_cut = lambda a, b: False
    net.engine.run_until(net.engine.now + 60)
    results = look_up(net, [(9, subject(3)), (4, subject("while away"))])
    assert [providers(found) for found in results] == [{name(net, 3)}, {name(net, 9)}]


def test_a_restarted_node_keeps_its_records_and_needs_no_bootstrap() -> None:
    net = network(30)
    announce(net, [(n, subject(n)) for n in range(30)])
    kept = len(net.nodes[5].node.state.store)
    assert kept > 0
    net.crash(0)
    net.crash(5)
    net.engine.run_until(net.engine.now + 30)
    net.restart(5)
    assert len(net.nodes[5].node.state.store) == kept
    net.engine.run_until(net.engine.now + 15)
    results = look_up(net, [(5, subject(12)), (12, subject(5))])
    assert [providers(found) for found in results] == [{name(net, 12)}, {name(net, 5)}]
    assert len(net.nodes[5].node.state.table) >= 10


def test_a_network_of_two_survives_either_ones_restart() -> None:
    net = network(2)
    announce(net, [(0, subject("a")), (1, subject("b"))])
    for index in (0, 1):
        net.crash(index)
        net.engine.run_until(net.engine.now + 40)
        net.restart(index)
        net.engine.run_until(net.engine.now + 40)
        results = look_up(net, [(0, subject("b")), (1, subject("a"))])
        assert [providers(found) for found in results] == [{name(net, 1)}, {name(net, 0)}]


def test_keys_stay_findable_while_everybody_is_replaced_one_after_the_other() -> None:
    """120 newcomers join, then all 30 old nodes crash: what they kept was handed over to nearer ones."""
    net = network(31)
    net.engine.run_until(net.engine.now + 700)
    announced = [(0, n) for n in range(30)]
    announce(net, [(0, subject(of)) for _, of in announced])
    newcomers = add(net, 120, settle_s=60)
    for index in range(1, 31):
        net.crash(index)
    net.engine.run_until(net.engine.now + 20)
    results = look_up(net, [(newcomers[of * 3], subject(of)) for _, of in announced])
    assert all(providers(found) == {name(net, 0)} for found in results)
    for _, of in announced:
        key = subject(of).key
        holding = {s.keys.node_id for s in net.nodes if s.is_up and s.node.state.store.records_of(key)}
        assert len(holding & set(net.true_closest(key, K))) >= K // 2


def test_who_leaves_hands_over_and_is_gone_from_tables() -> None:
    net = network(40)
    announce(net, [(39, subject(n)) for n in range(30)])
    for index in range(20):
        net.shut_down(index, 2.0)
        net.engine.run_until(net.engine.now + 3)
    net.engine.run_until(net.engine.now + 20)
    left = {net.nodes[index].keys.node_id for index in range(20)}
    for n in range(30):
        key = subject(n).key
        holding = sum(bool(s.node.state.store.records_of(key)) for s in net.nodes if s.is_up)
        assert holding >= K // 2, "though half of the nodes have left"
    assert all(left.isdisjoint(s.node.state.table) for s in net.nodes if s.is_up)


def test_a_clock_that_is_wrong_is_named_as_the_trouble() -> None:
    net = network(30)
    net.handle(4, ClockSet(EPOCH_S + 3_600))
    announce(net, [(4, subject("ahead"))])
    trouble = net.nodes[4].progress[subject("ahead").key].trouble
    assert trouble is not None
    assert "clock" in trouble
    offset_s = net.nodes[4].node.clock_offset_s()
    assert offset_s is not None
    assert -3_605 < offset_s < -3_595, "its peers say so too"
    net.handle(4, ClockSet(EPOCH_S - 3 * 86_400))
    announce(net, [(4, subject("behind"))])
    trouble = net.nodes[4].progress[subject("behind").key].trouble
    assert trouble is not None
    assert "clock" in trouble
    net.handle(4, ClockSet(EPOCH_S))
    assert abs(net.nodes[4].node.clock_offset_s() or 0.0) < 5, "put right, it is right at once"
    net.engine.run_until(net.engine.now + 700)
    assert providers(look_up(net, [(9, subject("ahead"))])[0]) == {name(net, 4)}
