"""What the network is for, at every size: announce, find, withdraw; and the price of it."""

from __future__ import annotations

import pytest
from sim_support import PAYLOAD, add, announce, first_s, look_up, name, network, providers, subject, withdraw

from mediadht.core.constants import REPLICAS_ENOUGH, K
from mediadht.core.events import AnnounceWish


@pytest.mark.parametrize("count", [1, 2, 3, 30, 100])
def test_what_is_announced_is_found_from_everywhere_until_it_is_withdrawn(count: int) -> None:
    net = network(count)
    announced = [(n * 7 % count, subject(n)) for n in range(20)]
    announce(net, announced)
    asked = [(n * 3 % count, of) for n, (_, of) in enumerate(announced)]
    for (index, _), found in zip(announced, look_up(net, asked), strict=True):
        assert providers(found) == {name(net, index)}
        assert found.ended is not None
        assert found.ended.complete
        assert found.ended.providers_total == 1
    withdraw(net, announced)
    assert all(providers(found) == set() for found in look_up(net, asked))


@pytest.mark.parametrize("count", [2, 3, 30, 100])
def test_every_record_is_on_the_k_closest(count: int) -> None:
    net = network(count)
    announce(net, [(n % count, subject(n)) for n in range(20)])
    for n in range(20):
        key = subject(n).key
        holding = {s.keys.node_id for s in net.nodes if s.node.state.store.records_of(key)}
        assert holding >= set(net.true_closest(key, K))
        assert len(holding) <= 2 * K


def test_a_lookup_takes_three_requests_and_one_round_trip_in_a_network_of_a_hundred() -> None:
    net = network(100)
    announce(net, [(n, subject(n)) for n in range(50)])
    results = look_up(net, [((n * 13 + 5) % 100, subject(n)) for n in range(50)])
    requests = sorted(found.ended.requests for found in results if found.ended is not None)
    assert requests[-1] <= 6
    assert requests[len(requests) // 2] <= 3
    times_s = sorted(first_s(found) for found in results)
    assert times_s[25] < 0.1, "one round trip to a near replica"
    assert times_s[-1] < 0.5


def test_a_key_that_nobody_has_is_answered_by_all_its_replicas() -> None:
    net = network(100)
    [found] = look_up(net, [(5, subject("nobody's"))])
    assert found.ended is not None
    assert found.ended.complete
    assert found.ended.providers_total == 0
    assert found.ended.replicas_answered >= K
    assert found.ended.replicas_holding == 0
    assert found.ended.requests <= K + 5


def test_all_of_a_hundred_providers_are_found_and_counted() -> None:
    net = network(101)
    announce(net, [(n, subject("popular")) for n in range(100)])
    [found] = look_up(net, [(100, subject("popular"))], providers_max=500)
    assert providers(found) == {name(net, n) for n in range(100)}
    assert found.ended is not None
    assert found.ended.providers_total == 100
    assert found.ended.requests <= 14
    few = look_up(net, [(100, subject("popular"))], providers_max=5)[0]
    assert len(few.providers) == 5
    assert few.ended is not None
    assert few.ended.providers_total >= 90, "a sample comes with the number of all"


def test_samples_of_a_popular_key_differ_from_reader_to_reader() -> None:
    net = network(60)
    announce(net, [(n, subject("popular")) for n in range(50)])
    samples = look_up(net, [(50 + n, subject("popular")) for n in range(8)], providers_max=5)
    assert len(set().union(*map(providers, samples))) >= 15


def test_a_node_alone_finds_its_own_and_tells_it_as_soon_as_another_comes() -> None:
    net = network(1)
    announce(net, [(0, subject("early"))])
    [alone] = look_up(net, [(0, subject("early"))])
    assert providers(alone) == {name(net, 0)}
    progress = net.nodes[0].progress[subject("early").key]
    assert progress.trouble is not None
    add(net, 1, settle_s=20)
    assert providers(look_up(net, [(1, subject("early"))])[0]) == {name(net, 0)}
    progress = net.nodes[0].progress[subject("early").key]
    assert (progress.trouble, progress.replicas) == (None, 1)


def test_a_node_without_an_address_announces_and_finds_but_keeps_nothing_for_others() -> None:
    net = network(10)
    net.add(reachable=False)
    net.engine.run_until(net.engine.now + 20)
    announce(net, [(10, subject("hidden")), (3, subject("open"))])
    results = look_up(net, [(4, subject("hidden")), (10, subject("open"))])
    assert [providers(found) for found in results] == [{name(net, 10)}, {name(net, 3)}]
    assert len(net.nodes[10].node.state.store) == 0
    assert all(net.nodes[10].keys.node_id not in s.node.state.table for s in net.nodes)


def test_two_thousand_announcements_of_one_node_travel_by_sweep() -> None:
    """One by one each would take 20 messages at least: 40,000. A sweep takes a twentieth of that."""
    net = network(100)
    before = net.nodes[0].requests_out
    announce(net, [(0, subject(n)) for n in range(2_000)], wait_s=120)
    assert all(p.trouble is None for p in net.nodes[0].progress.values())
    assert len(net.nodes[0].progress) == 2_000
    sent = net.nodes[0].requests_out - before
    assert sent <= 2_000
    replicas = [p.replicas for p in net.nodes[0].progress.values()]
    assert min(replicas) >= REPLICAS_ENOUGH
    assert sum(replicas) / len(replicas) >= 0.9 * K
    results = look_up(net, [(50, subject(n)) for n in range(0, 2_000, 40)])
    assert all(len(found.providers) == 1 for found in results)


def test_the_same_wish_twice_is_one_announcement() -> None:
    net = network(5)
    announce(net, [(1, subject("x")), (1, subject("x"))])
    [found] = look_up(net, [(2, subject("x"))])
    assert len(found.providers) == 1


def test_a_canary_ends_by_itself() -> None:

    net = network(5)
    net.handle(1, AnnounceWish(subject("canary"), PAYLOAD, lifetime_s=120))
    net.engine.run_until(net.engine.now + 10)
    assert net.nodes[1].progress[subject("canary").key].ended
    assert providers(look_up(net, [(2, subject("canary"))])[0]) == {name(net, 1)}
    net.engine.run_until(net.engine.now + 130)
    assert providers(look_up(net, [(2, subject("canary"))])[0]) == set()
    assert all(len(s.node.state.store) == 0 for s in net.nodes), "nothing of it is left anywhere"
