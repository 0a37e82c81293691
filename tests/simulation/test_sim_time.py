"""Days of virtual time: renewal, withdrawal, expiry, and what a run costs while nothing happens."""

from __future__ import annotations

from sim_support import PAYLOAD, announce, look_up, name, network, providers, subject, withdraw

from mediadht.core.constants import (
    RECORD_VALIDITY_S,
    REPUBLISH_INTERVAL_S,
    REPUBLISH_JITTER,
    SESSIONS_MAX,
)
from mediadht.core.events import AnnounceWish
from mediadht.core.records import Offer, Payload
from mediadht_sim.network import EPOCH_S, SimulatedNetwork

HOUR_S = 3_600.0


def run_for(net: SimulatedNetwork, duration_s: float) -> None:
    net.engine.run_until(net.engine.now + duration_s)


def test_over_three_days_every_announcement_is_renewed_on_time_and_never_missing() -> None:
    net = network(5)
    announce(net, [(n % 5, subject(n)) for n in range(40)])
    sequences = {n: net.nodes[n % 5].progress[subject(n).key].sequence for n in range(40)}
    for _ in range(6):
        run_for(net, 12 * HOUR_S)
        results = look_up(net, [((n + 3) % 5, subject(n)) for n in range(40)])
        assert all(len(found.providers) == 1 for found in results)
        oldest_s = min(r.record.expires_s for found in results for r in found.providers)
        assert oldest_s - (EPOCH_S + net.engine.now) >= RECORD_VALIDITY_S - REPUBLISH_INTERVAL_S - 60
    for n, first in sequences.items():
        rounds = (net.nodes[n % 5].progress[subject(n).key].sequence - first) / 1_000 / REPUBLISH_INTERVAL_S
        assert 2 * (1 - REPUBLISH_JITTER) - 0.5 <= rounds <= 72 / 19


def test_renewal_by_sweep_takes_neighbours_along() -> None:
    net = network(8)
    announce(net, [(0, subject(n)) for n in range(1_000)])
    before = [s.requests_out for s in net.nodes]
    run_for(net, REPUBLISH_INTERVAL_S)
    sent = [s.requests_out - b for s, b in zip(net.nodes, before, strict=True)]
    assert all(p.trouble is None and p.replicas == 7 for p in net.nodes[0].progress.values())
    assert all(p.next_in_s > 0.8 * REPUBLISH_INTERVAL_S for p in net.nodes[0].progress.values())
    # One by one: 7,000 messages. What the others sent meanwhile is the price of keeping company.
    assert sent[0] - max(sent[1:]) < 600


def test_a_withdrawal_holds_until_what_it_withdraws_would_have_expired_and_then_is_forgotten() -> None:
    net = network(4)
    announce(net, [(3, subject("gone"))])
    # One replica is down while the withdrawal is told, and comes back with the old record.
    net.crash(2)
    withdraw(net, [(3, subject("gone"))])
    net.restart(2)
    run_for(net, 30)
    assert all(providers(found) == set() for found in look_up(net, [(n, subject("gone")) for n in (0, 1, 2)]))
    run_for(net, 50 * HOUR_S)
    assert net.nodes[3].progress[subject("gone").key].ended
    run_for(net, 50 * HOUR_S)
    assert all(len(s.node.state.store) == 0 for s in net.nodes)
    assert all(s.disk == {} for s in net.nodes), "nor is anything left on any disk"


def test_what_its_announcer_no_longer_renews_expires_on_time() -> None:
    net = network(4)
    announce(net, [(3, subject("orphan"))])
    net.crash(3)
    run_for(net, RECORD_VALIDITY_S - HOUR_S)
    assert providers(look_up(net, [(1, subject("orphan"))])[0]) == {name(net, 3)}
    run_for(net, 2 * HOUR_S)
    assert providers(look_up(net, [(1, subject("orphan"))])[0]) == set()


def test_a_changed_wish_is_told_at_once_and_replaces_the_earlier_everywhere() -> None:
    net = network(12)
    announce(net, [(3, subject("x"))])
    net.handle(3, AnnounceWish(subject("x"), Payload(None, frozenset(Offer))))
    run_for(net, 10)
    found = look_up(net, [(n, subject("x")) for n in range(12)])
    assert all(p.payload.offers == frozenset(Offer) for f in found for p in f.providers)
    withdraw(net, [(3, subject("x"))])
    net.handle(3, AnnounceWish(subject("x"), PAYLOAD))
    run_for(net, 10)
    assert all(len(f.providers) == 1 for f in look_up(net, [(n, subject("x")) for n in range(12)]))


def test_an_announcement_taken_up_again_after_a_restart_waits_for_its_time_and_goes_on_above_its_sequence() -> None:
    net = network(6)
    announce(net, [(2, subject("kept"))])
    before = net.nodes[2].progress[subject("kept").key]
    stored_at_s = EPOCH_S + net.engine.now
    net.crash(2)
    run_for(net, HOUR_S)
    net.restart(2)
    net.nodes[2].progress.clear()
    net.handle(2, AnnounceWish(subject("kept"), PAYLOAD, before.sequence, stored_at_s))
    run_for(net, 60)
    assert subject("kept").key not in net.nodes[2].progress, "it is not yet due"
    run_for(net, REPUBLISH_INTERVAL_S)
    after = net.nodes[2].progress[subject("kept").key]
    assert after.trouble is None
    assert after.sequence > before.sequence


def test_an_idle_network_is_quiet_and_every_table_within_its_bounds() -> None:
    net = network(25)
    run_for(net, HOUR_S)
    before_events, before_requests = net.engine.events, sum(s.requests_out for s in net.nodes)
    run_for(net, HOUR_S)
    per_node_s = (net.engine.events - before_events) / 25 / HOUR_S
    assert per_node_s < 3, "events of one idle node in a second"
    requests_per_node_h = (sum(s.requests_out for s in net.nodes) - before_requests) / 25
    assert requests_per_node_h < 500
    for simulated in net.nodes:
        state = simulated.node.state
        assert len(state.requests) == 0
        assert len(state.timers) < 50
        assert len(state.sessions) <= SESSIONS_MAX
        assert state.operations == 0
        assert len(state.book) == 24
