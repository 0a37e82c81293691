"""One encrypted session between two nodes, without the socket: handshake, then frames.

Both ends agree on keys with ephemeral X25519 and then show, under those keys, who they are: an Ed25519 signature over
the transcript (SIGMA-I; Krawczyk 2003). Whoever carries the bytes, a proxy that ends TLS included, learns neither who
speaks nor what is said, and can forge nothing. A frame is a 4-byte big-endian length and a box; the stream may be cut
anywhere, a byte at a time gives what one chunk gives. Bytes from the peer raise only `RemoteError`, after which the
session is dead. Implements `docs/protocol.md`, sections "Handshake" and "Frames".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import msgpack
from nacl import bindings, exceptions

from mediadht.core.constants import (
    FRAME_BYTES_MAX,
    HANDSHAKE_FRAME_BYTES_MAX,
    ID_BYTES,
    PROTOCOL_VERSIONS,
    TEXT_CHARACTERS_MAX,
)
from mediadht.core.contacts import Contact, contact_from_wire
from mediadht.core.errors import Code, RemoteError
from mediadht.core.keys import KeyPair

__all__ = ["Hello", "PeerSession", "Role", "refusal_frame"]

_LENGTH_BYTES = 4
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_INSTANCE_BYTES = 8
_NONCE_PADDING = bytes(bindings.crypto_secretbox_NONCEBYTES - 8)
_BOX_OVERHEAD_BYTES = bindings.crypto_secretbox_MACBYTES
_VERSIONS_MAX = 16
_SECONDS_MAX = 1 << 40
_REFUSABLE_FRAMES = 2
"""A peer that does not accept our identity says so in the clear, in place of its first or second sealed frame."""


class Role(Enum):
    """Which end of the session this is."""

    DIALER = "dialer"
    LISTENER = "listener"


class _State(Enum):
    WAIT_OFFER = auto()  # listener: the dialer's ephemeral key
    WAIT_REPLY = auto()  # dialer: the listener's ephemeral key and identity
    WAIT_PROOF = auto()  # listener: the dialer's identity
    OPEN = auto()
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself in the handshake. Everything but the proven public key is its own claim."""

    contact: Contact
    instance: bytes
    """8 random bytes, new at each start: tells a restarted node from one with two connections."""
    uptime_s: int
    clock_s: int
    """Its Unix time."""
    agent: str
    probe: bool = False
    """The dialer only wants to know whether this address is this node's, and will hang up."""


class PeerSession:
    """One end of a session. Feed it what arrives, send what `outgoing` returns, `seal` what is to be said.

    `ephemeral_seed` must be 32 fresh random bytes, used for nothing else.
    """

    __slots__ = (
        "_buffer",
        "_ephemeral_secret",
        "_expected_node_id",
        "_fault",
        "_hello",
        "_keys",
        "_network",
        "_offer",
        "_outgoing",
        "_receive_count",
        "_receive_key",
        "_role",
        "_send_count",
        "_send_key",
        "_state",
        "_transcript",
        "peer",
    )

    def __init__(
        self,
        role: Role,
        keys: KeyPair,
        hello: Hello,
        *,
        network: str,
        ephemeral_seed: bytes,
        expected_node_id: int | None = None,
    ) -> None:
        self._role = role
        self._keys = keys
        self._hello = hello
        self._network = network
        self._ephemeral_secret = ephemeral_seed
        self._expected_node_id = expected_node_id
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self._offer = b""
        self._transcript = b""
        self._send_key = self._receive_key = b""
        self._send_count = self._receive_count = 0
        self._fault: RemoteError | None = None
        self.peer: Hello | None = None
        if role is Role.DIALER:
            public = bindings.crypto_scalarmult_base(ephemeral_seed)
            self._offer = msgpack.packb({"v": list(PROTOCOL_VERSIONS), "n": network, "e": public})
            self._put_frame(self._offer)
            self._state = _State.WAIT_REPLY
        else:
            self._state = _State.WAIT_OFFER

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done: `peer` is set, and `seal` may be called."""
        return self._state is _State.OPEN

    def outgoing(self) -> bytes:
        """Bytes to send now; each is returned once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def receive(self, data: bytes) -> list[bytes]:
        """The messages completed by `data`. Raises RemoteError, and is of no use afterwards.

        A fault behind complete messages is raised by the next call (of `receive(b"")` at the latest), so that what is
        handed out does not depend on how the stream was cut.
        """
        if self._fault is not None:
            raise self._fault
        assert self._state is not _State.DEAD
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        start = 0
        try:
            while len(buffer) - start >= _LENGTH_BYTES:
                size = int.from_bytes(buffer[start : start + _LENGTH_BYTES], "big")
                is_open = self._state is _State.OPEN
                maximum = FRAME_BYTES_MAX + _BOX_OVERHEAD_BYTES if is_open else HANDSHAKE_FRAME_BYTES_MAX
                if size > maximum:
                    raise RemoteError(Code.TOO_LARGE, f"a frame of {size} bytes; {maximum} are allowed here")
                stop = start + _LENGTH_BYTES + size
                if len(buffer) < stop:
                    break
                frame = bytes(buffer[start + _LENGTH_BYTES : stop])
                start = stop
                if is_open:
                    messages.append(self._open(frame))
                else:
                    self._handshake_frame(frame)
        except RemoteError as fault:
            self._state = _State.DEAD
            self._fault = fault
            buffer.clear()
            if not messages:
                raise
            return messages
        del buffer[:start]
        return messages

    def seal(self, message: bytes) -> bytes:
        """The frame that carries `message`, of at most `FRAME_BYTES_MAX` bytes."""
        assert self._state is _State.OPEN
        assert len(message) <= FRAME_BYTES_MAX
        box = self._box(message)
        return len(box).to_bytes(_LENGTH_BYTES, "big") + box

    def _box(self, plain: bytes) -> bytes:
        nonce = _NONCE_PADDING + self._send_count.to_bytes(8, "big")
        self._send_count += 1
        return bindings.crypto_secretbox(plain, nonce, self._send_key)

    def _open(self, box: bytes) -> bytes:
        nonce = _NONCE_PADDING + self._receive_count.to_bytes(8, "big")
        self._receive_count += 1
        try:
            return bindings.crypto_secretbox_open(box, nonce, self._receive_key)
        except (exceptions.CryptoError, ValueError) as fault:
            if self._receive_count <= _REFUSABLE_FRAMES:
                _raise_if_refusal(box)
            raise RemoteError(Code.BAD_FRAME, "a frame was changed, repeated or left out on its way") from fault

    def _put_frame(self, payload: bytes) -> None:
        self._outgoing += len(payload).to_bytes(_LENGTH_BYTES, "big") + payload

    # --- The handshake: offer, reply, proof ----------------------------------------------------------------------

    def _handshake_frame(self, frame: bytes) -> None:
        match self._state:
            case _State.WAIT_OFFER:
                self._on_offer(frame)
            case _State.WAIT_REPLY:
                self._on_reply(frame)
            case _State.WAIT_PROOF:
                self._on_identity(self._open(frame))
                self._state = _State.OPEN
            case _:
                raise AssertionError(self._state)

    def _on_offer(self, frame: bytes) -> None:
        fields = _unpacked_map(frame)
        offered, network = fields.get("v"), fields.get("n")
        if not isinstance(offered, list) or len(offered) > _VERSIONS_MAX:
            raise RemoteError(Code.MALFORMED, f"v is a list of {_VERSIONS_MAX} versions at most")
        versions = [version for version in offered if type(version) is int]
        common = [version for version in PROTOCOL_VERSIONS if version in versions]
        if not common:
            raise RemoteError(
                Code.WRONG_VERSION,
                f"this node speaks protocol {list(PROTOCOL_VERSIONS)}, the peer {versions}; "
                "the older of the two needs an update",
            )
        if not isinstance(network, str):
            raise RemoteError(Code.MALFORMED, "n is the network's name")
        if network != self._network:
            raise RemoteError(
                Code.WRONG_NETWORK, f"this node is in the network {self._network!r}, the peer in {network[:80]!a}"
            )
        public = bindings.crypto_scalarmult_base(self._ephemeral_secret)
        reply = {"v": common[-1], "e": public}
        self._agree(_ephemeral(fields), frame, msgpack.packb(reply))
        self._put_frame(msgpack.packb(reply | {"b": self._box(self._identity())}))
        self._state = _State.WAIT_PROOF

    def _on_reply(self, frame: bytes) -> None:
        fields = _unpacked_map(frame)
        _raise_refusal(fields)
        version = fields.get("v")
        if type(version) is not int or version not in PROTOCOL_VERSIONS:
            raise RemoteError(Code.WRONG_VERSION, "the peer chose a protocol version that was not offered")
        box = fields.get("b")
        if not isinstance(box, bytes):
            raise RemoteError(Code.MALFORMED, "b is the listener's identity")
        self._agree(_ephemeral(fields), self._offer, msgpack.packb({"v": version, "e": fields["e"]}))
        self._on_identity(self._open(box))
        self._put_frame(self._box(self._identity()))
        self._state = _State.OPEN

    def _agree(self, peer_ephemeral: bytes, offer: bytes, reply: bytes) -> None:
        try:
            shared = bindings.crypto_scalarmult(self._ephemeral_secret, peer_ephemeral)
        except (exceptions.CryptoError, RuntimeError) as fault:
            raise RemoteError(Code.MALFORMED, "e is not a usable X25519 key") from fault
        self._transcript = hashlib.sha256(
            b"mediadht/1/transcript\n" + len(offer).to_bytes(4, "big") + offer + reply
        ).digest()
        secret = shared + self._transcript
        both = hashlib.blake2b(secret, digest_size=2 * _KEY_BYTES, person=b"mediadht/1/keys").digest()
        dialer_key, listener_key = both[:_KEY_BYTES], both[_KEY_BYTES:]
        if self._role is Role.DIALER:
            self._send_key, self._receive_key = dialer_key, listener_key
        else:
            self._send_key, self._receive_key = listener_key, dialer_key
        self._ephemeral_secret = b""

    def _identity(self) -> bytes:
        hello = self._hello
        packed: bytes = msgpack.packb(
            {
                "s": self._keys.sign(_signed_bytes(self._role, self._transcript)),
                "c": hello.contact.to_wire(),
                "i": hello.instance,
                "u": hello.uptime_s,
                "t": hello.clock_s,
                "a": hello.agent[:TEXT_CHARACTERS_MAX],
                "p": hello.probe,
            }
        )
        return packed

    def _on_identity(self, plain: bytes) -> None:
        fields = _unpacked_map(plain)
        contact = contact_from_wire(fields.get("c"))
        instance, uptime_s, clock_s, agent = (fields.get(name) for name in ("i", "u", "t", "a"))
        signature = fields.get("s")
        if (
            not isinstance(instance, bytes)
            or len(instance) != _INSTANCE_BYTES
            or type(uptime_s) is not int
            or type(clock_s) is not int
            or not 0 <= uptime_s < _SECONDS_MAX
            or not 0 <= clock_s < _SECONDS_MAX
            or not isinstance(agent, str)
            or not isinstance(signature, bytes)
            or len(signature) != _SIGNATURE_BYTES
        ):
            raise RemoteError(Code.MALFORMED, "an identity lacks a field, or has one of a wrong type")
        other = Role.LISTENER if self._role is Role.DIALER else Role.DIALER
        try:
            bindings.crypto_sign_open(signature + _signed_bytes(other, self._transcript), contact.public_key)
        except (exceptions.CryptoError, ValueError) as fault:
            raise RemoteError(Code.BAD_SIGNATURE, "the peer did not prove its node key") from fault
        if contact.node_id == self._keys.node_id:
            raise RemoteError(Code.SELF, "this address is this node's own")
        if self._expected_node_id not in (None, contact.node_id):
            raise RemoteError(Code.WRONG_NODE, "another node answers at this address than was expected")
        self.peer = Hello(
            contact, instance, uptime_s, clock_s, agent[:TEXT_CHARACTERS_MAX], probe=fields.get("p") is True
        )


def refusal_frame(fault: RemoteError) -> bytes:
    """What to send before hanging up on a handshake: the code and the reason, readable without keys.

    Nobody vouches for it: it explains an end, and proves nothing.
    """
    payload: bytes = msgpack.packb({"x": fault.code, "w": fault.why[:TEXT_CHARACTERS_MAX]})
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def _raise_if_refusal(frame: bytes) -> None:
    try:
        fields = _unpacked_map(frame)
    except RemoteError:
        return
    _raise_refusal(fields)


def _raise_refusal(fields: dict[str, Any]) -> None:
    code = fields.get("x")
    if isinstance(code, str):
        why = fields.get("w")
        text = why[:TEXT_CHARACTERS_MAX] if isinstance(why, str) else ""
        raise RemoteError(code[:64], f"the peer refused: {text}")


def _signed_bytes(role: Role, transcript: bytes) -> bytes:
    return b"mediadht/1/handshake/" + role.value.encode() + b"\n" + transcript


def _ephemeral(fields: dict[str, Any]) -> bytes:
    value = fields.get("e")
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise RemoteError(Code.MALFORMED, f"e has {ID_BYTES} bytes")
    return value


def _unpacked_map(data: bytes) -> dict[str, Any]:
    try:
        fields = msgpack.unpackb(data, strict_map_key=True, max_array_len=64, max_map_len=64, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as fault:
        raise RemoteError(Code.MALFORMED, "a handshake frame is one msgpack value") from fault
    if not isinstance(fields, dict):
        raise RemoteError(Code.MALFORMED, "a handshake frame is a map")
    return fields
