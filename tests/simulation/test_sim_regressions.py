"""What the safety search has found in the core, told as short stories."""

from __future__ import annotations

from sim_support import announce, look_up, name, network, providers, subject, withdraw

from mediadht_sim.links import LinkSettings


def test_what_is_announced_again_after_a_withdrawal_is_found_though_more_nodes_know_of_the_withdrawal() -> None:
    """A withdrawal goes to 2k nodes, an announcement to k, and some of these miss it: three replicas that know of
    nothing but the withdrawal must not end the search."""
    net = network(42)
    announced = [(n, subject(n)) for n in range(40)]
    announce(net, announced)
    withdraw(net, announced)
    net.links.settings = LinkSettings(loss=0.2)
    announce(net, announced)
    net.links.settings = LinkSettings()
    for asker in (1, 7, 23, 41):
        results = look_up(net, [(asker, of) for _, of in announced])
        assert [providers(found) for found in results] == [{name(net, index)} for index, _ in announced]


def test_a_node_whose_answers_came_too_late_for_a_while_is_known_again_soon_after() -> None:
    """Its sessions did not break, and nobody uses them: nothing but a ping shows that it answers again."""
    net = network(6, keepalive_assumed=True)
    slow = net.nodes[3]
    net.links.slow_down(3, 300.0)
    for _ in range(4):
        look_up(net, [(n, subject("nobody's")) for n in range(6)])
        net.engine.run_until(net.engine.now + 7)
    assert len(slow.node.state.book.live) < 5, "or this test shows nothing"
    net.links.slow_down(3, 1.0)
    net.engine.run_until(net.engine.now + 120)
    for node in net.nodes:
        others = {other.node_id for other in net.nodes if other is not node}
        assert others <= set(node.node.state.book.live), node.index


def test_what_was_announced_in_a_small_part_of_the_network_is_found_soon_after_the_parts_have_met() -> None:
    """Its replicas there are not the closest of the whole network: for a tenth of the keys, none of them is."""
    net = network(100)
    net.partition([int(n >= 90) for n in range(100)])
    net.engine.run_until(net.engine.now + 300)
    announced = [(90 + n % 10, subject(n)) for n in range(50)]
    announce(net, announced, wait_s=60)
    net.heal()
    net.engine.run_until(net.engine.now + 120)
    results = look_up(net, [(n, of) for n, (_, of) in enumerate(announced)])
    assert [providers(found) for found in results] == [{name(net, index)} for index, _ in announced]


def test_parts_that_restarted_while_they_were_apart_find_each_other_again() -> None:
    net = network(30)
    net.partition([int(n >= 12) for n in range(30)])
    net.engine.run_until(net.engine.now + 600)
    for n in range(30):
        net.crash(n)
    for n in range(30):
        net.restart(n)
    net.engine.run_until(net.engine.now + 600)
    net.heal()
    net.engine.run_until(net.engine.now + 4_000)
    for node in net.nodes:
        assert len(node.node.state.book.live) >= 27, node.index


def test_an_announcement_right_after_a_cut_goes_on_until_it_is_where_it_will_be_sought() -> None:
    net = network(60)
    cut_off = net.nodes[7]
    net.partition([int(n == 7) for n in range(60)])
    net.engine.run_until(net.engine.now + 200)
    announced = [(7, subject(n)) for n in range(60)]
    announce(net, announced, wait_s=20)
    net.heal()
    net.engine.run_until(net.engine.now + 180)
    results = look_up(net, [((n + 20) % 60, of) for n, (_, of) in enumerate(announced)])
    assert all(providers(found) == {name(net, cut_off.index)} for found in results)
