"""Networks of one to thirty real daemons: announce, find, withdraw, lose a third, restart."""

from __future__ import annotations

import signal
from itertools import combinations

import pytest
import trio
from network_support import Network, StartProcess, announced, config_of, free_port, providers_of, subject, until, wish

from mediadht.daemon.daemon import Daemon


async def found_by(daemon: Daemon, sought: list, server_name: str | None) -> list[str]:
    """The IDs that this daemon does not find at that server."""
    return [each.id for each in sought if server_name not in await providers_of(daemon, each)]


async def test_a_network_of_one_finds_its_own_and_is_ready(network: Network) -> None:
    alone = (await network.add()).daemon
    shown = (await alone.announce([wish("a")]))[0]
    assert shown.sources == {"api"}
    assert await providers_of(alone, subject("a")) == {alone.server_name}
    readiness = await alone.ready()
    assert readiness.ready
    assert "network of one" in readiness.why
    assert any("network of one" in text for text in alone.status().warnings)
    await until("it says that it is told later", lambda: (alone.announcement(subject("a")) or shown).trouble)
    assert alone.announcements()[0].trouble == "no other node is reachable; it is told as soon as one is"
    assert await alone.withdraw([subject("a"), subject("b")]) == [subject("a")]
    await until("the withdrawal is in the own store", lambda: gone(alone, "a"))


async def gone(daemon: Daemon, name: str) -> bool:
    return not await providers_of(daemon, subject(name))


@pytest.mark.parametrize("count", [2, 3])
async def test_small_networks_store_find_and_withdraw(network: Network, count: int) -> None:
    await network.grow(count)
    await network.joined()
    for teller in network.daemons:
        await announced(teller, [f"of {teller.server_name}"], replicas=count - 1)
    for teller in network.daemons:
        for reader in network.daemons:
            assert await providers_of(reader, subject(f"of {teller.server_name}")) == {teller.server_name}
    assert (await network.daemons[-1].ready()).ready
    teller = network.daemons[0]
    await teller.withdraw([subject(f"of {teller.server_name}")])
    for reader in network.daemons:
        await until("it is withdrawn everywhere", lambda r=reader: gone(r, f"of {teller.server_name}"))


async def test_what_was_announced_alone_is_told_to_the_first_who_comes(network: Network) -> None:
    first = (await network.add()).daemon
    await first.announce([wish("early")])
    await until("its first round is over", lambda: first.announcements()[0].trouble)
    second = (await network.add()).daemon
    await until("the newcomer holds it", lambda: second.status().records_held)
    assert await providers_of(second, subject("early")) == {first.server_name}
    assert second.status().network_size_estimate == 2


async def test_what_was_announced_alone_is_told_after_a_restart_among_others(network: Network) -> None:
    alone = await network.add("alone")
    await alone.daemon.announce([wish("early"), wish("gone")])
    await until("the first rounds are over", lambda: all(a.trouble for a in alone.daemon.announcements()))
    assert alone.daemon.status().announcements_pending == 2
    await alone.daemon.withdraw([subject("gone")])
    await network.stop()
    await network.grow(3)
    await network.joined()
    again = await network.run(alone.config.model_copy(update={"bootstrap": network.running[0].config.peer_url}))
    network.running.append(again)
    await until("the others hold it", lambda: again.daemon.status().announcements_pending == 0)
    assert await providers_of(network.daemons[0], subject("early")) == {again.daemon.server_name}
    assert await providers_of(network.daemons[0], subject("gone")) == set()


async def test_thirty_announce_find_and_withdraw(network: Network) -> None:
    await network.grow(30)
    await network.joined(sessions=20)
    tellers = network.daemons[:10]
    for number, teller in enumerate(tellers):
        await announced(teller, [f"{number}-{n}" for n in range(3)], replicas=15)
    for number, teller in enumerate(tellers):
        for n, reader in zip(range(3), network.daemons[10 + number :], strict=False):
            async with reader.lookup(subject(f"{number}-{n}")) as lookup:
                assert [provider.server_name async for provider in lookup] == [teller.server_name]
            assert lookup.summary.complete
            assert lookup.summary.requests <= 6
    # One subject, thirty providers, all of them countable and fetchable.
    async with trio.open_nursery() as nursery:
        for each in network.daemons:
            nursery.start_soon(announced, each, ["popular"])
    async with network.daemons[3].lookup(subject("popular"), providers_max=100) as lookup:
        assert {provider.server_name async for provider in lookup} == {d.server_name for d in network.daemons}
    assert lookup.summary.providers_total == 30
    # Withdrawn ones are gone for every reader.
    assert len(await tellers[0].withdraw([subject(f"0-{n}") for n in range(3)])) == 3
    for reader in network.daemons:
        await until("withdrawn", lambda r=reader: gone(r, "0-1"))
    for each in network.daemons[::6]:
        assert (await each.ready()).ready
    await one_session_for_each_pair(network.daemons)


async def one_session_for_each_pair(daemons: list[Daemon]) -> None:
    """Both ends agree on who dialled, and on whether there is a session at all; once what is under way has ended."""

    def disagreements() -> list[set[str | None]]:
        sessions = {d.node_id: {p.node_id: p.session for p in d.peers() if p.session} for d in daemons}
        pairs = [{sessions[one].get(other), sessions[other].get(one)} for one, other in combinations(sessions, 2)]
        return [pair for pair in pairs if pair not in ({"outbound", "inbound"}, {None})]

    await until("both ends of each pair agree", lambda: not disagreements(), every_s=0.2)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_third_is_lost_at_once(network: Network, start_process: StartProcess, how: signal.Signals) -> None:
    await network.grow(20)
    bootstrap = network.running[0].config.peer_url
    victims = [config_of(network.folder / f"victim-{n}", free_port(), bootstrap) for n in range(10)]
    process = start_process(*victims)
    await process.ready()
    await network.joined(sessions=20)
    tellers = network.daemons[:5]
    for number, teller in enumerate(tellers):
        await announced(teller, [f"{number}-{n}" for n in range(4)], replicas=15)
    doomed = [subject(f"doomed-{n}") for n in range(3)]
    await process.ask(do="announce", media=[each.id for each in doomed])
    reader = network.daemons[-1]
    for each in doomed:
        await until("the victim's are found", lambda e=each: finds(reader, e))
    process.signal(how)
    # Right after: whoever lives is found, by whomever; and what the dead announced is still found until it expires.
    for number, teller in enumerate(tellers):
        for n in range(4):
            assert await providers_of(network.daemons[6 + 3 * n + number % 3], subject(f"{number}-{n}")) == {
                teller.server_name
            }
    for each in doomed:
        assert await providers_of(reader, each) == {victims[0].server_name}
    await announced(network.daemons[7], ["after"], replicas=7)
    assert await providers_of(reader, subject("after")) == {network.daemons[7].server_name}
    process.kill()


async def finds(daemon: Daemon, sought: object) -> bool:
    return bool(await providers_of(daemon, sought))


async def test_thirty_restart_a_third_in_turn_then_all_at_once_and_lose_nothing(network: Network) -> None:
    await network.grow(30)
    await network.joined(sessions=20)
    for number, each in enumerate(network.daemons[:10]):
        await announced(each, [f"kept-{number}"], replicas=15)
    node_ids = [each.node_id for each in network.daemons]
    # From here on without a bootstrap node: the saved contacts must do.
    configs = [each.config.model_copy(update={"bootstrap": ()}) for each in network.running]
    for number, each in enumerate(network.running[:10]):
        await each.stop()
        network.running[number] = await network.run(configs[number])
    await all_is_kept(network, node_ids)
    await network.stop()
    async with trio.open_nursery() as nursery:
        for config in configs:
            nursery.start_soon(network.rejoin, config)
    network.running.sort(key=lambda running: configs.index(running.config))
    await all_is_kept(network, node_ids)
    await one_session_for_each_pair(network.daemons)


async def all_is_kept(network: Network, node_ids: list[str]) -> None:
    await network.joined(sessions=20)
    assert [each.node_id for each in network.daemons] == node_ids
    for number, each in enumerate(network.daemons[:10]):
        assert [a.subject for a in each.announcements()] == [subject(f"kept-{number}")]
        for reader in network.daemons[number + 5 :: 8]:
            assert await providers_of(reader, subject(f"kept-{number}")) == {each.server_name}
