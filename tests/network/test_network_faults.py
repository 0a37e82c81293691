"""What the machine and the configuration may have wrong: a clear message, nothing lost, and it heals when it can."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
from network_hostile import hostile_to
from network_support import (
    Network,
    StartProcess,
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
from mediadht.core.contacts import Contact
from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Find, Found, Get, Got, Pong, Request, Response
from mediadht.daemon import connections, open_daemon, peering
from mediadht.daemon.config import DaemonConfig


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "TICK_S", 0.2)
    monkeypatch.setattr(peering, "_BOOTSTRAP_REPEAT_S", 0.4)


async def test_an_unreachable_bootstrap_node_is_told_and_tried_again(network: Network, hurried: None) -> None:
    port = free_port()
    early = (await network.add(bootstrap=(url_of(port),))).daemon
    (warning,) = await until("it says so", lambda: told_of_bootstrap(early))
    assert warning.startswith(f"the bootstrap node {url_of(port)} cannot be reached: ")
    assert not (await early.ready()).ready
    await early.announce([wish("early")])
    late = await network.run(config_of(network.folder / "late", port))
    network.running.append(late)
    await until("it has joined", lambda: early.status().sessions)
    assert not told_of_bootstrap(early)
    await until("what was announced before is told", lambda: late.daemon.status().records_held)
    assert await providers_of(late.daemon, subject("early")) == {early.server_name}


def told_of_bootstrap(daemon: Any) -> list[str]:
    return [text for text in daemon.status().warnings if "bootstrap node" in text]


async def test_another_node_at_the_bootstrap_address_is_not_trusted(network: Network, hurried: None) -> None:
    first = await network.add()
    wrong = f"{first.config.peer_url[0]}#{'ab' * 32}"
    second = (await network.add(bootstrap=(wrong,))).daemon
    (warning,) = await until("it says so", lambda: told_of_bootstrap(second))
    assert "another node answers at this address than was expected" in warning
    right = f"{first.config.peer_url[0]}#{first.daemon.node_id}"
    third = (await network.add(bootstrap=(right,))).daemon
    await until("the right one is joined", lambda: third.status().sessions)


async def test_its_own_address_as_bootstrap_is_no_trouble(network: Network, hurried: None) -> None:
    port = free_port()
    alone = await network.run(config_of(network.folder / "self", port, (url_of(port),)))
    network.running.append(alone)
    await until("it has found itself", lambda: alone.daemon._peering._bootstrap_next)
    await until("and gives up", lambda: not alone.daemon._peering._bootstrapping)
    assert alone.daemon.status().sessions == 0
    assert not told_of_bootstrap(alone.daemon)


async def entered(config: DaemonConfig) -> None:
    async with open_daemon(config):
        pass


def taken_port(config: DaemonConfig) -> DaemonConfig:
    return config.model_copy(update={"peer_listen": (f"127.0.0.1:{free_port()}", LISTENING)})


def readable_key(config: DaemonConfig) -> DaemonConfig:
    (config.data_dir / "node.key").chmod(0o644)
    return config


def damaged_key(config: DaemonConfig) -> DaemonConfig:
    path = config.data_dir / "node.key"
    path.write_text(path.read_text()[:40])
    return config


def damaged_database(config: DaemonConfig) -> DaemonConfig:
    (config.data_dir / "mediadht.sqlite3").write_bytes(os.urandom(9_000))
    return config


def newer_database(config: DaemonConfig) -> DaemonConfig:
    connection = sqlite3.connect(config.data_dir / "mediadht.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    return config


def unreadable_row(config: DaemonConfig) -> DaemonConfig:
    connection = sqlite3.connect(config.data_dir / "mediadht.sqlite3")
    connection.execute("UPDATE announcements SET offers = 'x'")
    connection.commit()
    connection.close()
    return config


def folder_is_a_file(config: DaemonConfig) -> DaemonConfig:
    return config.model_copy(update={"data_dir": config.data_dir / "node.key"})


def no_authority(config: DaemonConfig) -> DaemonConfig:
    return config.model_copy(update={"tls_ca": config.data_dir / "missing.pem"})


def no_certificate(config: DaemonConfig) -> DaemonConfig:
    path = config.data_dir / "node.key"
    return config.model_copy(update={"tls_certificate": path, "tls_key": path})


LISTENING = "127.0.0.1:19999"
REFUSALS = [
    (taken_port, EnvironmentFault, "peers cannot be answered on .* another address with --peer-listen"),
    (readable_key, EnvironmentFault, "has mode 0644"),
    (damaged_key, EnvironmentFault, "64 hexadecimal digits"),
    (damaged_database, EnvironmentFault, "is damaged"),
    (newer_database, EnvironmentFault, "written by a newer mediadht"),
    (unreadable_row, EnvironmentFault, "is damaged"),
    (folder_is_a_file, EnvironmentFault, "cannot be made"),
    (no_authority, ConfigurationError, "tls_ca: .* cannot be used"),
    (no_certificate, EnvironmentFault, "TLS certificate .* cannot be used"),
]


@pytest.mark.parametrize(("break_it", "fault", "says"), REFUSALS)
async def test_it_does_not_start_where_it_cannot_and_says_why(
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[DaemonConfig], DaemonConfig],
    fault: type[Exception],
    says: str,
) -> None:
    running = await network.add()
    await running.daemon.announce([wish("kept")])
    await network.stop()
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(sys.modules[__name__], "LISTENING", f"127.0.0.1:{other.getsockname()[1]}")
        broken = break_it(running.config)
        for _ in range(2):  # the second time too: nothing was left open or locked
            with pytest.raises(fault, match=says):
                await entered(broken)


async def test_a_data_folder_in_use_is_refused_and_its_owner_runs_on(network: Network) -> None:
    running = await network.add()
    config = config_of(running.config.data_dir, free_port())
    with pytest.raises(EnvironmentFault, match="another mediadht runs with the data folder"):
        await entered(config)
    await running.daemon.announce([wish("still here")])
    await running.stop()
    network.running.clear()
    await entered(config)


@pytest.mark.parametrize(("break_it", "says"), [(REFUSALS[0][0], "peers cannot"), (REFUSALS[1][0], "has mode 0644")])
async def test_the_command_says_so_and_ends_with_4(
    network: Network, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[DaemonConfig], DaemonConfig], says: str
) -> None:
    running = await network.add()
    await network.stop()
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(sys.modules[__name__], "LISTENING", f"127.0.0.1:{other.getsockname()[1]}")
        config = break_it(running.config)
        command = [sys.executable, "-c", "import sys; from mediadht.cli.main import main; sys.exit(main())", "run"]
        command += ["--data-dir", str(config.data_dir), "--api-listen", "127.0.0.1:0"]
        command += [word for address in config.peer_listen for word in ("--peer-listen", address)]
        ended = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    assert ended.returncode == 4
    assert says in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()


class FullDisk:
    """A connection whose writes fail as a full disk's do."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith("COMMIT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self.real.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


async def test_a_full_disk_refuses_what_it_cannot_keep_and_nothing_else(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    await network.grow(2)
    await network.joined()
    one, other = network.daemons
    await announced(one, ["before"], replicas=1)
    storage = one._storage
    full = FullDisk(storage._connection)
    storage._connection = full  # type: ignore[assignment]
    with pytest.raises(EnvironmentFault, match="disk is full"):
        await one.announce([wish("during")])
    with pytest.raises(EnvironmentFault, match="disk is full"):
        await one.withdraw([subject("before")])
    assert [shown.subject for shown in one.announcements()] == [subject("before")]
    assert not one.announcements()[0].withdrawn
    await announced(other, ["of another"], replicas=1)
    assert await providers_of(one, subject("of another")) == {other.server_name}
    assert await providers_of(other, subject("before")) == {one.server_name}
    assert not await providers_of(other, subject("during"))
    await until("the status says so", lambda: any("disk is full" in text for text in one.status().warnings))
    assert len([record for record in caplog.records if "disk is full" in record.message]) == 1
    storage._connection = full.real
    await announced(one, ["during"], replicas=1)
    assert await one.withdraw([subject("before")]) == [subject("before")]
    await until("it is over", lambda: not any("disk is full" in text for text in one.status().warnings))


async def test_a_clock_an_hour_off_is_told_and_costs_no_session(network: Network, start_process: StartProcess) -> None:
    await network.grow(3)
    await network.joined()
    bootstrap = network.running[0].config.peer_url
    configs = {
        offset_s: config_of(network.folder / f"off-{offset_s}", free_port(), bootstrap) for offset_s in (3600, -3600)
    }
    processes = {offset_s: start_process(config, clock_offset_s=offset_s) for offset_s, config in configs.items()}
    names = {3600: "ahead", -3600: "behind"}
    for offset_s, process in processes.items():
        await process.ready()
        await process.ask(do="announce", media=[subject(offset_s).id])
        status = await until("it has peers", lambda p=process: with_peers(p))
        assert status["clock_offset_s"] == pytest.approx(-offset_s, abs=5)
        (warning,) = [text for text in status["warnings"] if text.startswith("this machine's clock")]
        assert f"{abs(status['clock_offset_s']):.0f} s {names[offset_s]}" in warning
        assert "NTP" in warning
    status = await until("its announcement says why", lambda: in_trouble(processes[3600]))
    assert status["troubles"] == ["replicas refuse its times: this machine's clock is wrong; set it by NTP"]
    assert status["sessions"] >= 3, "and nobody hung up"
    # Its own copy is all there is: who asks that node finds it, nobody else holds it.
    assert all(each.driver.node.state.store.live_count(subject(3600).key, 0.0) == 0 for each in network.daemons)
    assert not any("clock" in text for each in network.daemons for text in each.status().warnings)


async def with_peers(process: Any) -> Any:
    status = await process.ask(do="status")
    return status if status["sessions"] >= 3 else None


async def in_trouble(process: Any) -> Any:
    status = await process.ask(do="status")
    return status if any(status["troubles"]) else None


async def test_caller_errors_come_as_they_are(network: Network) -> None:
    nobody = (await network.add(server_name=None)).daemon
    with pytest.raises(CallerError, match="--server-name"):
        await nobody.announce([wish("x")])
    with pytest.raises(CallerError, match="no known contact"):
        await nobody.ping("ab" * 32)
    assert any("no peer" in text or "network of one" in text for text in nobody.status().warnings)


class Resolver(trio.abc.HostnameResolver):
    """Names of the outside that lead inside."""

    INSIDE = ("127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "100.64.0.1", "0.0.0.0", "fe80::1", "::1")

    def __init__(self) -> None:
        self.asked: set[str] = set()

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def] # noqa: A002
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.add(name)
        answer = []
        for ip in self.INSIDE:
            kind = socket.AF_INET6 if ":" in ip else socket.AF_INET
            answer.append((kind, socket.SOCK_STREAM, 6, "", (ip, port, 0, 0) if ":" in ip else (ip, port)))
        return answer

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


async def test_nobody_leads_it_to_private_addresses(network: Network) -> None:
    """A peer names contacts at addresses inside, by number and by name: none of them is ever connected to."""
    victim = await network.add(peer_url=(), allow_private_addresses=False)
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    visitors = 0

    async def trap(stream: trio.SocketStream) -> None:
        nonlocal visitors
        visitors += 1
        await stream.aclose()

    listeners = await network.nursery.start(trio.serve_tcp, trap, 0)
    port = listeners[0].socket.getsockname()[1]
    hosts = ("127.0.0.1", "[::1]", "localhost", "10.0.0.1", "trap.example", "metadata.example", "127.0.0.1.nip.example")
    urls = [f"wss://{host}:{port}/" for host in hosts] + [f"ws://127.0.0.1:{port}/"]
    contacts = tuple(
        Contact.of(KeyPair.from_seed(n.to_bytes(32, "big")).public_key, (url,)) for n, url in enumerate(urls, 1)
    )

    def lead_astray(request: Request) -> Response:
        match request:
            case Get():
                return Got((), 0, contacts)
            case Find():
                return Found(contacts)
            case _:
                return Pong()

    address = victim.daemon.status().listening[0]
    async with hostile_to(int(address.rpartition(":")[2]), endpoints=(urls[4],)) as peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer, lead_astray)
            assert not await providers_of(victim.daemon, subject("x"))
            await until("the names were tried", lambda: len(resolver.asked) == 3)
            await until("and given up", lambda: victim.daemon.driver.dialling == 0)
            nursery.cancel_scope.cancel()
    assert resolver.asked == {"trap.example", "metadata.example", "127.0.0.1.nip.example"}
    assert visitors == 0
    with pytest.raises(OSError, match="has no public address; peers at private ones are refused"):
        await connections._connect("trap.example", port, private_allowed=False)
    assert visitors == 0
