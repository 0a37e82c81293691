"""Strangers that hold connections, send garbage, or never read: bounded, cut off in time, and nobody else notices."""

from __future__ import annotations

import ssl
import time
import tracemalloc
from pathlib import Path

import pytest
import trio
import trustme
from network_hostile import hostile_to, tcp_to
from network_support import Network, Running, subject, until, url_of

from mediadht.core.errors import Code
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Get, Put, Query
from mediadht.core.records import Payload, sign_record
from mediadht.daemon import connections, peering

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
async def victim(network: Network, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A daemon with little patience: what takes ten seconds takes one."""
    assert peering.HANDSHAKE_S == connections.HANDSHAKE_S == 10.0
    monkeypatch.setattr(peering, "HANDSHAKE_S", 1.0)
    return await network.add()


def port_of(running: Running) -> int:
    return int(running.daemon.status().listening[0].rpartition(":")[2])


async def ended(stream: trio.SocketStream, *, within_s: float = 8.0) -> bytes:
    """What the daemon said before it closed."""
    data = b""
    with trio.fail_after(within_s):
        try:
            while piece := await stream.receive_some():
                data += piece
        except trio.BrokenResourceError:
            pass
    return data


def refused(running: Running) -> int:
    return running.daemon.driver.traffic.refused


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /_matrix/federation/v1/send HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\r\n" * 100,
        bytes(range(256)) * 500,
        UPGRADE.replace(b"13", b"1"),
        UPGRADE + b"\xff" * 300,
    ],
)
async def test_garbage_on_the_port(victim: Running, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        async with tcp_to(port_of(victim)) as stream:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                continue
            await ended(stream)
    await until("they are counted", lambda: refused(victim) == 3)
    async with hostile_to(port_of(victim)) as peer:
        assert await peer.is_served()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1, "told once, not thrice"


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHo", UPGRADE, UPGRADE + b"\x82\x80"])
async def test_who_never_finishes_the_handshake_is_dropped(victim: Running, start: bytes) -> None:
    started = trio.current_time()
    async with tcp_to(port_of(victim)) as stream:
        if start:
            await stream.send_all(start)
        await ended(stream)
    assert trio.current_time() - started < 5
    assert refused(victim) == 1


async def test_a_byte_at_a_time_for_ever_is_dropped_too(victim: Running) -> None:
    async with tcp_to(port_of(victim)) as stream, trio.open_nursery() as nursery:

        async def drip() -> None:
            try:
                for byte in UPGRADE * 50:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.02)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(drip)
        await ended(stream)
        nursery.cancel_scope.cancel()


async def test_who_hangs_up_before_the_handshake_holds_no_place(network: Network) -> None:
    """Health checks of load balancers do so all day."""
    victim = await network.add()
    for data in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(200)):
        async with tcp_to(port_of(victim)) as stream:
            await until("it is noticed", lambda: victim.daemon._peering._accepting == 1)
            if data:
                await stream.send_all(data)
        await until("its place is free", lambda: victim.daemon._peering._accepting == 0, within_s=3)
    await until("all are counted", lambda: refused(victim) == 3)


async def test_dialling_somebody_who_hangs_up_fails_at_once(network: Network) -> None:
    listeners = await network.nursery.start(trio.serve_tcp, trio.aclose_forcefully, 0)
    port = listeners[0].socket.getsockname()[1]
    started = trio.current_time()
    caller = (await network.add(bootstrap=(url_of(port),))).daemon
    await until("it says so", lambda: any("closed the connection" in text for text in caller.status().warnings))
    assert trio.current_time() - started < 5


async def test_a_probe_that_does_not_hang_up_is_dropped_and_is_no_session(victim: Running) -> None:
    async with hostile_to(port_of(victim), probe=True) as peer:
        assert victim.daemon.status().sessions == 0
        await peer.reason(within_s=8)
    await until("nothing is left of it", lambda: victim.daemon._peering._open == 0)


async def test_so_many_handshakes_at_a_time_and_the_rest_at_once_refused(
    victim: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering, "HANDSHAKES_MAX", 8)
    async with hostile_to(port_of(victim)) as bystander, trio.open_nursery() as nursery:
        most = 0
        lasted: list[float] = []

        async def hold() -> None:
            started = trio.current_time()
            async with tcp_to(port_of(victim)) as stream:
                await ended(stream)
                lasted.append(trio.current_time() - started)

        for _ in range(30):
            nursery.start_soon(hold)
        while len(lasted) < 30:
            most = max(most, victim.daemon._peering._accepting)
            assert await bystander.is_served(), "whoever has a session notices nothing"
            await trio.sleep(0.01)
        assert most <= 8
        assert sum(each < 0.5 for each in lasted) == 22
    async with hostile_to(port_of(victim)) as peer:
        assert await peer.is_served()


async def test_a_flood_of_connections(victim: Running) -> None:
    """Opened and dropped at once, hundreds of times, while somebody else is served."""
    async with hostile_to(port_of(victim)) as bystander, trio.open_nursery() as nursery:

        async def flood() -> None:
            for _ in range(60):
                async with tcp_to(port_of(victim)) as stream:
                    await stream.send_all(UPGRADE)

        for _ in range(10):
            nursery.start_soon(flood)
        for _ in range(50):
            with trio.fail_after(5):
                assert await bystander.is_served()
    await until("nothing is left of them", lambda: victim.daemon._peering._open <= 1)
    await until("nor of the bystander", lambda: victim.daemon.status().sessions == 0)


async def test_sessions_of_strangers_are_bounded(network: Network) -> None:
    victim = await network.add(sessions_max=8)
    async with trio.open_nursery() as nursery:
        reasons: list[str] = []

        async def stay() -> None:
            async with hostile_to(port_of(victim)) as peer:
                reasons.append(await peer.reason())

        for _ in range(30):
            nursery.start_soon(stay)
        await until("the surplus is sent away", lambda: len(reasons) == 22)
        assert set(reasons) == {Code.BUSY}
        assert victim.daemon.status().sessions == 8
        nursery.cancel_scope.cancel()


@pytest.fixture
async def tls_victim(network: Network, tmp_path: Path) -> tuple[Running, trustme.CA]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "chain.pem"))
    victim = await network.add(tls_certificate=tmp_path / "chain.pem", tls_key=tmp_path / "key.pem")
    return victim, authority


async def does_not_read(victim: Running, authority: trustme.CA | None) -> None:
    """Ask for far more than the kernel's buffers hold, and read none of it."""
    context = None
    if authority is not None:
        context = ssl.create_default_context()
        authority.configure_trust(context)
    daemon = victim.daemon
    async with (
        hostile_to(port_of(victim), tls=context, receive_buffer_bytes=4_096) as peer,
        hostile_to(port_of(victim), tls=context) as bystander,
    ):
        for signer in range(16):
            await peer.ask(Put((some_record(signer),)))
        ask = Query(1, Get(subject("x").key, 0, 16, 0))
        tracemalloc.start()
        try:
            with trio.move_on_after(20):
                while daemon.status().sessions > 1:
                    await peer.send(ask)
                    if peer.session._send_count % 100 == 0:
                        assert await bystander.is_served(), "nobody else waits"
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
        assert daemon.status().sessions == 1, "it was cut off"
        assert await bystander.is_served()
    await until("nothing is left", lambda: daemon._peering._open == 0)


def some_record(signer: int) -> tuple[bytes, bytes]:
    record = sign_record(
        KeyPair.from_seed(signer.to_bytes(32, "big")),
        subject("x"),
        server_name=f"s{signer}.example{signer}",
        sequence=1,
        expires_s=int(time.time()) + 3600,
        payload=Payload("!" + "r" * 200 + ":example.org", frozenset()),
    )
    return record.body, record.signature


async def test_a_peer_that_never_reads_is_cut_off(network: Network) -> None:
    await does_not_read(await network.add(), None)


async def test_a_peer_that_never_reads_below_tls_is_cut_off_too(tls_victim: tuple[Running, trustme.CA]) -> None:
    await does_not_read(*tls_victim)
