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
