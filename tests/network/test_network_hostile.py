"""What peers may do wrong: each ends in the code that is defined for it, and nobody else notices."""

from __future__ import annotations

import time

import msgpack
import pytest
import trio
from network_hostile import Hostile, hostile_to
from network_support import Network, Running, announced, providers_of, subject, until

from mediadht.core.codec import encode
from mediadht.core.constants import FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, RECORD_VALIDITY_S
from mediadht.core.errors import Code, RemoteError
from mediadht.core.keys import KeyPair
from mediadht.core.messages import (
    Answer,
    Failure,
    Find,
    Found,
    Get,
    Got,
    Ping,
    Pong,
    Put,
    PutDone,
    PutOutcome,
    Query,
    SignedBytes,
    UnknownRequest,
)
from mediadht.core.records import Payload, sign_record
from mediadht.core.session import PeerSession

NO_TEXT = "closed 1003"
"""RFC 6455's word for it."""


@pytest.fixture
async def victim(network: Network) -> Running:
    return await network.add()


def port_of(running: Running) -> int:
    return int(running.daemon.status().listening[0].rpartition(":")[2])


def signed(
    keys: KeyPair, name: str, *, lifetime_s: float = 3600, sequence: int = 1, withdrawn: bool = False
) -> SignedBytes:
    record = sign_record(
        keys,
        subject(name),
        server_name="hostile.example",
        sequence=sequence,
        expires_s=int(time.time() + lifetime_s),
        payload=None if withdrawn else Payload(None, frozenset()),
    )
    return record.body, record.signature


async def test_records_that_are_refused_each_with_its_code(victim: Running) -> None:
    daemon = victim.daemon
    async with hostile_to(port_of(victim)) as peer:
        keys, other = peer.keys, KeyPair.from_seed(bytes(32))
        good, newer = signed(keys, "a", sequence=5), signed(keys, "a", sequence=6)
        forged = (signed(keys, "b")[0], signed(keys, "c")[1])
        response = await peer.ask(
            Put(
                (
                    signed(keys, "expired", lifetime_s=-1),
                    signed(keys, "from the future", lifetime_s=RECORD_VALIDITY_S + 3600),
                    forged,
                    (b"\xc1", bytes(64)),
                    (signed(other, "d")[0][:-3], bytes(64)),
                    newer,
                    good,
                    newer,
                )
            )
        )
        assert response == PutDone(
            tuple(
                map(
                    PutOutcome,
                    [Code.EXPIRED, Code.CLOCK, Code.BAD_SIGNATURE, Code.MALFORMED, Code.MALFORMED, "", Code.STALE, ""],
                    [0, 0, 0, 0, 0, 0, 6, 0],
                )
            )
        )
        assert daemon.status().records_held == 1
        assert await providers_of(daemon, subject("a"), deadline_s=0.2) == {"hostile.example"}
        for name in ("expired", "from the future", "b", "c", "d"):
            assert not await providers_of(daemon, subject(name), deadline_s=0.2)
        # A withdrawal by somebody else withdraws nothing; the signer's own does.
        await peer.ask(Put((signed(other, "a", sequence=99, withdrawn=True),)))
        assert await providers_of(daemon, subject("a"), deadline_s=0.2) == {"hostile.example"}
        await peer.ask(Put((signed(keys, "a", sequence=7, withdrawn=True),)))
        assert not await providers_of(daemon, subject("a"), deadline_s=0.2)
        assert await peer.is_served()


async def test_a_method_of_the_future_is_refused_and_the_session_stays(victim: Running) -> None:
    async with hostile_to(port_of(victim)) as peer:
        response = await peer.ask(UnknownRequest("levitate"))
        assert isinstance(response, Failure)
        assert response.code == Code.UNKNOWN_METHOD
        assert await peer.is_served()


async def test_answers_that_nobody_asked_for_are_ignored(victim: Running) -> None:
    async with hostile_to(port_of(victim)) as peer:
        for number in range(100):
            await peer.send(Answer(number, Pong()))
            await peer.send(Answer(number, Got((signed(peer.keys, "x"),), 400)))
        assert await peer.is_served()
        assert victim.daemon.status().records_held == 0


def oversize(peer: Hostile) -> bytes:
    return (FRAME_BYTES_MAX + 17).to_bytes(4, "big")


def malformed(peer: Hostile) -> bytes:
    return peer.session.seal(b"\xc1 is no msgpack")


def wrong_types(peer: Hostile) -> bytes:
    return peer.session.seal(msgpack.packb({"t": "one", "m": 7}))


def a_list_too_long(peer: Hostile) -> bytes:
    return peer.session.seal(msgpack.packb({"t": 1, "m": "put", "r": [[b"", b""]] * 5000}))


def changed_on_the_way(peer: Hostile) -> bytes:
    frame = bytearray(peer.session.seal(b"whatever"))
    frame[-1] ^= 1
    return bytes(frame)


def repeated(peer: Hostile) -> bytes:
    return 2 * peer.session.seal(encode(Query(1, Ping())))


def damaged_behind_a_good_one(peer: Hostile) -> bytes:
    """Nothing follows: the daemon must not wait for more to notice."""
    return peer.session.seal(encode(Answer(1, Pong()))) + changed_on_the_way(peer)


@pytest.mark.parametrize(
    ("bytes_of", "code"),
    [
        (oversize, Code.TOO_LARGE),
        (malformed, Code.MALFORMED),
        (wrong_types, Code.MALFORMED),
        (a_list_too_long, Code.MALFORMED),
        (changed_on_the_way, Code.BAD_FRAME),
        (repeated, Code.BAD_FRAME),
        (damaged_behind_a_good_one, Code.BAD_FRAME),
    ],
)
async def test_what_ends_a_session(victim: Running, bytes_of, code: str, caplog: pytest.LogCaptureFixture) -> None:
    async with hostile_to(port_of(victim)) as peer, hostile_to(port_of(victim)) as bystander:
        await peer.send_raw(bytes_of(peer))
        assert await peer.reason() == code
        assert await bystander.is_served()
    await until("its session is gone", lambda: victim.daemon.status().sessions <= 1)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"a peer was disconnected: it sent what the protocol forbids ({code})"
    ]


async def test_a_text_message_ends_a_session(victim: Running) -> None:
    async with hostile_to(port_of(victim)) as peer:
        await peer.websocket.send_message("hello")
        assert await peer.reason() in (Code.MALFORMED, NO_TEXT)


async def test_a_websocket_message_beyond_all_bounds_ends_it(victim: Running) -> None:
    async with hostile_to(port_of(victim)) as peer:
        await peer.send_raw(bytes(1 << 20))
        assert await peer.reason() == "closed 1009"


async def test_wrong_network_is_told(victim: Running) -> None:
    refusal = await refusal_of(victim, network="other")
    assert refusal.code == Code.WRONG_NETWORK
    assert "this node is in the network 'mediadht', the peer in 'other'" in refusal.why


async def test_wrong_version_is_told(victim: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PeerSession._put_frame

    def old(session: PeerSession, payload: bytes) -> None:
        fields = msgpack.unpackb(payload) if payload[:1] == b"\x83" else {}
        real(session, msgpack.packb(fields | {"v": [0, 99]}) if isinstance(fields.get("v"), list) else payload)

    monkeypatch.setattr(PeerSession, "_put_frame", old)
    refusal = await refusal_of(victim)
    assert refusal.code == Code.WRONG_VERSION
    assert "speaks protocol [1], the peer [0, 99]" in refusal.why


async def test_who_is_not_who_it_says_is_refused(victim: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    real = KeyPair.sign
    liar = KeyPair.from_seed(bytes(32))
    monkeypatch.setattr(
        KeyPair, "sign", lambda self, data: bytes(64) if self.public_key == liar.public_key else real(self, data)
    )
    assert (await refusal_of(victim, keys=liar)).code == Code.BAD_SIGNATURE


async def refusal_of(victim: Running, **more: object) -> RemoteError:
    """Why the daemon does not serve this peer, at whichever step it says so."""
    async with hostile_to(port_of(victim), shake=False, **more) as peer:  # type: ignore[arg-type]
        with pytest.raises(RemoteError) as caught:
            await be_served(peer)
    return caught.value


async def be_served(peer: Hostile) -> None:
    await peer.shake_hands()
    await peer.is_served()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\xff\xff", Code.TOO_LARGE),
        ((HANDSHAKE_FRAME_BYTES_MAX + 1).to_bytes(4, "big"), Code.TOO_LARGE),
        (b"\x00\x00\x00\x01\xc1", Code.MALFORMED),
        (b"\x00\x00\x00\x00", Code.MALFORMED),
    ],
)
async def test_what_ends_a_handshake(victim: Running, data: bytes, code: str) -> None:
    async with hostile_to(port_of(victim), shake=False) as peer:
        await peer.send_raw(data)
        assert await peer.reason() == code
    assert victim.daemon.status().sessions == 0


async def test_a_text_message_ends_a_handshake(victim: Running) -> None:
    async with hostile_to(port_of(victim), shake=False) as peer:
        await peer.websocket.send_message("hello")
        assert await peer.reason() in (Code.MALFORMED, NO_TEXT)


async def test_forged_contacts_and_records_lead_nobody_astray(network: Network, victim: Running) -> None:
    """A liar among honest nodes: it claims to hold everything, and names contacts that are not there."""
    await network.grow(4)
    await network.joined()
    await announced(network.daemons[2], ["x"], replicas=3)

    def lie(request: object) -> object:
        match request:
            case Get():
                forged = (signed(peer.keys, "another")[0], bytes(64))
                return Got((forged, signed(peer.keys, "another")), 500)
            case Find():
                return Found(())
            case _:
                return Pong()

    async with hostile_to(port_of(victim)) as peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer, lie)  # type: ignore[arg-type]
            for _ in range(3):
                assert await providers_of(victim.daemon, subject("x")) == {network.daemons[2].server_name}
                assert not await providers_of(victim.daemon, subject("nothing"))
            nursery.cancel_scope.cancel()
