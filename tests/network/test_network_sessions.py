"""Sessions between real daemons: one for each pair, bounded, closed when idle, opened again when lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from network_proxy import Proxy
from network_support import (
    Network,
    Running,
    announced,
    config_of,
    free_port,
    providers_of,
    subject,
    until,
    url_of,
    wish,
)

from mediadht.core import maintenance
from mediadht.daemon import connections as daemon_connections
from mediadht.daemon.daemon import Daemon


def sessions_with(one: Running, other: Running) -> list[str | None]:
    return [p.session for p in one.daemon.peers() if p.session and p.node_id == other.daemon.node_id]


def connections(daemon: Daemon) -> int:
    return len(daemon._peering._attended)


def is_only_one(one: Running, other: Running) -> bool:
    ends = [*sessions_with(one, other), *sessions_with(other, one)]
    return (
        sorted(map(str, ends)) == ["inbound", "outbound"] and connections(one.daemon) == connections(other.daemon) == 1
    )


async def test_both_sides_dial_at_once_and_one_session_stays(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_connections, "SUPERSEDED_S", 1.0)
    pairs: list[list[Running]] = [[] for _ in range(10)]

    async def start(pair: list[Running], number: int, own: int, other: int) -> None:
        pair.append(await network.run(config_of(tmp_path / f"{number}-{own}", own, (url_of(other),))))

    async with trio.open_nursery() as nursery:
        for number, pair in enumerate(pairs):
            one, other = free_port(), free_port()
            nursery.start_soon(start, pair, number, one, other)
            nursery.start_soon(start, pair, number, other, one)
    network.running = [each for pair in pairs for each in pair]
    # What the lesser connection still carried is read for a moment; then one is left, and both mean the same one.
    for one, other in pairs:
        await until("one session, one connection", lambda o=one, p=other: is_only_one(o, p), within_s=15)
        assert await one.daemon.ping(other.daemon.node_id) < 5
        assert await other.daemon.ping(one.daemon.server_name or "") < 5


async def test_sessions_are_bounded_and_everybody_is_found_all_the_same(network: Network) -> None:
    hub = (await network.add(sessions_max=8)).daemon
    await network.grow(13)
    most = 0

    def all_known() -> bool:
        nonlocal most
        most = max(most, hub.status().sessions)
        return hub.status().table_contacts >= 13 and all(d.status().table_contacts >= 10 for d in network.daemons)

    await until("everybody has met everybody", all_known, within_s=40)
    assert most <= 8
    teller = network.daemons[-1]
    await announced(teller, ["x"], replicas=4)
    assert await providers_of(hub, subject("x")) == {teller.server_name}
    await announced(hub, ["y"], replicas=4)
    assert await providers_of(teller, subject("y")) == {hub.server_name}
    assert hub.status().sessions <= 8


async def test_a_restarted_peer_is_taken_back_at_once(network: Network) -> None:
    """Its old session is not waited for: another run of the same node takes over."""
    await network.grow(3)
    await network.joined()
    victim = network.running[2]
    others = network.daemons[:2]
    await victim.stop()
    # It said goodbye: gone from the tables at once, not after some lost answers.
    await until(
        "it is forgotten",
        lambda: all(d.status().sessions == d.status().table_contacts == 1 for d in others),
        within_s=2,
    )
    network.running[2] = await network.run(victim.config.model_copy(update={"bootstrap": ()}))
    assert network.daemons[2].node_id == victim.daemon.node_id
    await network.joined()


async def test_leaving_takes_less_than_two_seconds_and_keeps_what_was_stored(network: Network) -> None:
    await network.grow(6)
    await network.joined()
    subjects = await announced(network.daemons[0], list(range(50)), replicas=4)
    for leaver in network.running[1:5]:
        started = trio.current_time()
        await leaver.stop()
        assert trio.current_time() - started < 2
    for each in subjects:
        assert await providers_of(network.daemons[5], each) == {network.daemons[0].server_name}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Daemons of this process look after their sessions every moment."""
    monkeypatch.setattr(maintenance, "TICK_S", 0.2)
    monkeypatch.setattr(maintenance, "SESSION_IDLE_PING_S", 1.0)
    return monkeypatch


async def test_a_session_that_nobody_needs_is_closed_and_opened_again(
    network: Network, hurried: pytest.MonkeyPatch
) -> None:
    hurried.setattr(maintenance, "_SESSION_REST_S", 0.5)
    first = (await network.add()).daemon
    # Without an address of its own: it cannot enter a table, and nothing keeps its sessions.
    guest = (await network.add(peer_url=(), peer_listen=())).daemon
    await network.add()
    await announced(first, ["x"], replicas=1)
    await until("the guest has a session", lambda: guest.status().sessions)
    hurried.setattr(maintenance, "SESSION_IDLE_CLOSE_S", 0.5)
    await until("the idle session is closed", lambda: all_inbound_closed(first, guest))
    assert await providers_of(guest, subject("x")) == {first.server_name}
    assert first.status().table_contacts == 1, "and who has an address is still there"


def all_inbound_closed(daemon: Daemon, guest: Daemon) -> bool:
    return not any(peer.session for peer in daemon.peers() if peer.node_id == guest.node_id)


async def behind_proxies(network: Network, count: int) -> list[Proxy]:
    """So many daemons that reach one another through proxies only."""
    proxies: list[Proxy] = []
    for _ in range(count):
        port, public = free_port(), free_port()
        proxies.append(Proxy(public, port))
        network.nursery.start_soon(proxies[-1].serve)
        await network.add(peer_listen=(f"127.0.0.1:{port}",), peer_url=(url_of(public),))
    await network.joined()
    return proxies


async def test_the_network_is_lost_and_comes_back(
    nursery: trio.Nursery, tmp_path: Path, hurried: pytest.MonkeyPatch
) -> None:
    """Nothing is restarted; within a minute all is as it was, what was announced in between included."""
    networks = {how: Network(nursery, tmp_path / how) for how in ("cut", "swallow")}
    proxies = {how: await behind_proxies(network, 5) for how, network in networks.items()}
    hurried.setattr(maintenance, "TICK_S", 5.0)
    async with trio.open_nursery() as both:
        for how, network in networks.items():
            both.start_soon(lose_the_network, network, proxies[how], how)
    for network in networks.values():
        await network.stop()


async def lose_the_network(network: Network, proxies: list[Proxy], how: str) -> None:
    first, teller, *_, reader = network.daemons
    await announced(first, ["before"], replicas=4)
    for proxy in proxies:
        getattr(proxy, how)()
    await until(
        f"{how}: everybody is alone", lambda: not any(d.status().sessions for d in network.daemons), within_s=40
    )
    await teller.announce([wish("in between")])
    assert not (await reader.ready()).ready
    assert any("no peer can be reached" in text for text in reader.status().warnings)
    assert await providers_of(first, subject("before")) == {first.server_name}
    for proxy in proxies:
        proxy.restore()
    await network.joined(within_s=60)
    assert await providers_of(reader, subject("before")) == {first.server_name}
    await until(
        f"{how}: what was announced in between is found",
        lambda: providers_of(reader, subject("in between")),
        within_s=30,
        every_s=0.2,
    )
    # A failed check stands for some seconds.
    await until(f"{how}: it is ready", lambda: is_ready(reader), every_s=0.5)


async def is_ready(daemon: Daemon) -> bool:
    return (await daemon.ready()).ready
