"""The documented snippets for nginx and Caddy: peers through TLS, joins through the front, and joins without it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme
from proxies import Proxy, program, start_proxy

from mediadht.cli.demo.children import Processes
from mediadht.cli.demo.homeservers import Homeserver
from mediadht.cli.demo.matrix import Refusal
from mediadht.core.identifiers import media, room
from mediadht.daemon import open_daemon
from mediadht.daemon.config import DaemonConfig
from mediadht.daemon.face import Announce
from mediadht_bridge.front import FrontConfig, serve_front

pytestmark = pytest.mark.homeserver

Cluster = list[Homeserver]
Fresh = Callable[[str], str]
MEDIA = media("sha256." + "5a" * 32)


@pytest.fixture(params=["nginx", "caddy"])
def kind(request: pytest.FixtureRequest) -> str:
    if program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


async def until_it_answers(proxy: Proxy) -> None:
    async def answers() -> bool:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", proxy.tls_port)).aclose()
            await (await trio.open_tcp_stream("127.0.0.1", proxy.plain_port)).aclose()
        except OSError:
            return False
        return True

    await proxy.child.wait_until(answers, deadline_s=30, what_to_do="")


async def test_two_nodes_meet_through_tls(
    kind: str, processes: Processes, authority: trustme.CA, tmp_path: Path
) -> None:
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    ports = {name: processes.ports.reserve() for name in "ab"}
    proxies = {
        name: start_proxy(kind, processes, tmp_path, authority, {8471: port}, name) for name, port in ports.items()
    }
    for proxy in proxies.values():
        await until_it_answers(proxy)

    def config(name: str, bootstrap: tuple[str, ...] = ()) -> DaemonConfig:
        return DaemonConfig(
            data_dir=tmp_path / name,
            server_name=f"{name}.example",
            peer_listen=(f"127.0.0.1:{ports[name]}",),
            peer_url=(proxies[name].peer_url,),
            bootstrap=bootstrap,
            tls_ca=trusted,
            allow_private_addresses=True,
        )

    async with open_daemon(config("a")) as a, open_daemon(config("b", (proxies["a"].peer_url,))) as b:
        with trio.fail_after(20):
            while not (a.status().table_contacts and b.status().table_contacts):
                await trio.sleep(0.05)
        assert [peer.endpoints for peer in a.peers()] == [(proxies["b"].peer_url,)]
        await a.announce([Announce(MEDIA, "api")])
        with trio.fail_after(20):
            while True:
                async with b.lookup(MEDIA) as lookup:
                    names = [provider.server_name async for provider in lookup]
                if names == ["a.example"]:
                    break
                await trio.sleep(0.05)
        assert (await b.ready()).ready
        assert await b.ping("a.example") < 1.0


@asynccontextmanager
async def front_before(
    homeserver: Homeserver, neighbour: str, folder: Path, ports: tuple[int, int], room_id: str
) -> AsyncIterator[None]:
    """A front on the first port; its daemon's only peer, on the second one, announces `neighbour` for the room."""
    address = f"ws://127.0.0.1:{ports[1]}/"
    other = DaemonConfig(
        data_dir=folder / "other",
        server_name=neighbour,
        peer_listen=(f"127.0.0.1:{ports[1]}",),
        peer_url=(address,),
    )
    own = DaemonConfig(
        data_dir=folder / "own", server_name=homeserver.server_name, peer_listen=(), bootstrap=(address,)
    )
    async with open_daemon(other) as other_dht:
        await other_dht.announce([Announce(room(room_id), "api")])
        async with open_daemon(own) as dht, trio.open_nursery() as nursery:
            config = FrontConfig(listen=f"127.0.0.1:{ports[0]}", homeserver_url=homeserver.client_url)
            await nursery.start(serve_front, dht, config)
            with trio.fail_after(20):
                while not dht.status().sessions:
                    await trio.sleep(0.05)
            yield
            nursery.cancel_scope.cancel()


async def test_joins_go_through_the_front_and_without_it_to_the_homeserver(
    kind: str, processes: Processes, authority: trustme.CA, cluster: Cluster, fresh_name: Fresh, tmp_path: Path
) -> None:
    first, second = cluster
    alice = await first.register_user(fresh_name("alice"))
    bob = await second.register_user(fresh_name("bob"))
    helped, unhelped = [await alice.create_room(name=name) for name in ("helped", "unhelped")]
    front_port = processes.ports.reserve()
    proxy = start_proxy(
        kind, processes, tmp_path, authority, {8472: front_port, 8008: second.plan.client_port}, "joins"
    )
    await until_it_answers(proxy)
    async with front_before(second, first.server_name, tmp_path, (front_port, processes.ports.reserve()), helped):
        for by_rooms_path in (False, True):
            joined = await bob.join(helped, base_url=proxy.client_url, by_rooms_path=by_rooms_path)
            assert joined.room_id == helped

    # The front is gone: the first join that finds that out, and all later ones, go to the homeserver at once.
    for _ in range(3):
        began_s = time.perf_counter()
        with pytest.raises(Refusal) as stock:
            await bob.join(unhelped, base_url=proxy.client_url)
        assert stock.value.status == 404
        assert time.perf_counter() - began_s < 2.0
    assert (await bob.join(unhelped, via=[first.server_name], base_url=proxy.client_url)).room_id == unhelped
