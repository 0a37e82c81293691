"""A node's own keys: Ed25519 for identity, and the node ID that follows from it.

The node ID is SHA-256 of the public key, so nobody can choose where in the key space to sit without grinding keys.
Implements `docs/protocol.md`, section "Node IDs". Where keys are kept is the driver's business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from nacl import bindings, exceptions

from mediadht.core.errors import CallerError, Code, RemoteError

__all__ = ["SEED_BYTES", "KeyPair", "check_signature", "node_id_hex", "node_id_of"]

SEED_BYTES = 32
_SIGNATURE_BYTES = 64


def node_id_of(public_key: bytes) -> int:
    """The node ID of an Ed25519 public key of 32 bytes."""
    return int.from_bytes(hashlib.sha256(public_key).digest(), "big")


def node_id_hex(node_id: int) -> str:
    """A node ID (or a key) as people see it: 64 hexadecimal digits."""
    return f"{node_id:064x}"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key pair. Its representation never shows the secret."""

    public_key: bytes
    node_id: int
    _secret: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> KeyPair:
        """The key pair of a seed of 32 bytes. Raises CallerError for another length."""
        if len(seed) != SEED_BYTES:
            raise CallerError(f"a node key's seed has {SEED_BYTES} bytes, this has {len(seed)}")
        public_key, secret = bindings.crypto_sign_seed_keypair(seed)
        return cls(public_key, node_id_of(public_key), secret)

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, 64 bytes."""
        return bindings.crypto_sign(message, self._secret)[:_SIGNATURE_BYTES]


def check_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raises RemoteError (`bad_signature`) unless `signature` (64 bytes) is that of `public_key` over `message`."""
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except (exceptions.CryptoError, ValueError) as fault:
        raise RemoteError(Code.BAD_SIGNATURE, "the signature does not fit its signer") from fault
