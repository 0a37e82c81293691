"""Records: what nodes sign and replicas keep.

A record is signed bytes: whoever passes it on can withhold it, never change it. The body travels and is stored as the
signer packed it, so a signature is checked over what was received and later fields survive replicas that do not know
them. The payload is sealed for readers who know the subject's ID. Sealing takes its nonce from the signer, the
sequence and the payload itself, so that it needs no entropy and the same record is the same bytes.
Implements `docs/protocol.md`, section "Records". Leaves to others: which records a replica keeps (`record_store`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any

import msgpack
from nacl import bindings, exceptions

from mediadht.core import keys as signatures
from mediadht.core.constants import (
    CLOCK_TOLERANCE_S,
    ID_BYTES,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES_MAX,
    RECORD_VALIDITY_S,
    ROOM_ID_BYTES_MAX,
)
from mediadht.core.errors import CallerError, Code, RemoteError
from mediadht.core.identifiers import Kind, Subject, is_server_name, room
from mediadht.core.keys import KeyPair, node_id_of

__all__ = [
    "Offer",
    "Payload",
    "Record",
    "RecordKind",
    "check_times",
    "open_payload",
    "parse_record",
    "sign_record",
    "verify_record",
]

_DOMAIN = b"mediadht/1/record\n"
_SIGNATURE_BYTES = 64
_BODY_FIELDS = 8
_NONCE_BYTES = bindings.crypto_secretbox_NONCEBYTES
_OFFERS_MAX = 8
_PARSED_MAX = 2_048
_SEQUENCE_MAX = (1 << 63) - 1


class RecordKind(IntEnum):
    """What a record states. Replicas refuse kinds that they do not know."""

    PROVIDER = 0
    ROOM = 1
    """This room holds the key's file; its ninth field is the room's digest. Kept by `room_store`, with receipts."""
    CLAIM = 2
    """The signer is about to create the key's room; withdrawn, it no longer is. Kept by nobody: a vote names it."""


class Offer(StrEnum):
    """What a provider of media serves."""

    BYTES = "bytes"
    """It serves leeching: binary ranges of the file."""
    HISTORY = "history"
    """Its homeserver holds the media room back to the create event, so others can join and rebuild through it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose signature has been checked, or that we signed. Times are Unix seconds."""

    kind: int
    key: int
    public_key: bytes
    server_name: str
    """The Matrix server that the signer says it serves: a claim until its delegation is checked."""
    sequence: int
    """Newer wins, per signer and key; the signer's Unix time in milliseconds, kept increasing."""
    expires_s: int
    withdrawn: bool
    sealed: bytes
    body: bytes
    signature: bytes
    node_id: int
    """The signer's node ID, SHA-256 of `public_key`."""

    @property
    def size_bytes(self) -> int:
        """Of body and signature: what caps and batches count."""
        return len(self.body) + _SIGNATURE_BYTES

    def supersedes(self, other: Record) -> bool:
        """Whether this replaces `other` of the same signer and key; equal sequences fall to the lower body."""
        return (self.sequence, other.body) > (other.sequence, self.body)


@dataclass(frozen=True, slots=True)
class Payload:
    """What only readers who know the ID can read."""

    room_id: str | None = None
    offers: frozenset[Offer] = frozenset()


def sign_record(
    keys: KeyPair,
    subject: Subject,
    *,
    server_name: str,
    sequence: int,
    expires_s: int,
    payload: Payload | None,
    kind: RecordKind = RecordKind.PROVIDER,
    more: tuple[Any, ...] = (),
) -> Record:
    """A record for `subject`, of a provider if nothing else is said; a withdrawal if `payload` is None.

    `more` are the fields that its kind has beyond those of all records.

    Raises CallerError if the payload is larger than `PAYLOAD_BYTES_MAX`.
    """
    withdrawn = payload is None
    sealed = b"" if payload is None else _seal(keys.public_key, subject, sequence, payload)
    body: bytes = msgpack.packb(
        [
            int(kind),
            subject.key.to_bytes(ID_BYTES, "big"),
            keys.public_key,
            server_name,
            sequence,
            expires_s,
            withdrawn,
            sealed,
            *more,
        ]
    )
    return Record(
        kind=int(kind),
        key=subject.key,
        public_key=keys.public_key,
        server_name=server_name,
        sequence=sequence,
        expires_s=expires_s,
        withdrawn=withdrawn,
        sealed=sealed,
        body=body,
        signature=keys.sign(_DOMAIN + body),
        node_id=keys.node_id,
    )


def parse_record(body: Any, signature: Any, *, verify: bool = True) -> Record:
    """The record in `body`, checked. `verify=False` is for records that this node itself has stored.

    Raises RemoteError: `malformed`, `too_large`, or `bad_signature`.
    """
    if not isinstance(body, bytes) or not isinstance(signature, bytes):
        raise RemoteError(Code.MALFORMED, "a record is a body and a signature of 64 bytes")
    record = _parsed(body, signature)
    if verify:
        verify_record(record)
    return record


@lru_cache(maxsize=_PARSED_MAX)
def _parsed(body: bytes, signature: bytes) -> Record:
    """The record in `body`, unverified. All replicas of a lookup send the same few records: each is read once."""
    if len(signature) != _SIGNATURE_BYTES:
        raise RemoteError(Code.MALFORMED, "a record is a body and a signature of 64 bytes")
    if len(body) + _SIGNATURE_BYTES > RECORD_BYTES_MAX:
        raise RemoteError(Code.TOO_LARGE, f"a record has {RECORD_BYTES_MAX} bytes at most")
    try:
        fields = msgpack.unpackb(body, strict_map_key=True, max_array_len=64, max_map_len=64)
    except (ValueError, msgpack.UnpackException) as fault:
        raise RemoteError(Code.MALFORMED, "a record's body is not msgpack") from fault
    match fields:
        case [
            kind,
            bytes(key),
            bytes(public_key),
            str(server_name),
            sequence,
            expires_s,
            bool(withdrawn),
            bytes(sealed),
            *_,
        ] if (
            type(kind) is type(sequence) is type(expires_s) is int
            and 0 <= kind <= 255
            and len(key) == ID_BYTES
            and len(public_key) == ID_BYTES
            and is_server_name(server_name)
            and 0 <= sequence <= _SEQUENCE_MAX
            and 0 <= expires_s <= _SEQUENCE_MAX
            and bool(sealed) != withdrawn
        ):
            pass
        case _:
            raise RemoteError(Code.MALFORMED, f"a record's body has {_BODY_FIELDS} fields of stated types")
    return Record(
        kind=kind,
        key=int.from_bytes(key, "big"),
        public_key=public_key,
        server_name=server_name,
        sequence=sequence,
        expires_s=expires_s,
        withdrawn=withdrawn,
        sealed=sealed,
        body=body,
        signature=signature,
        node_id=node_id_of(public_key),
    )


def verify_record(record: Record) -> None:
    """Check the signature of a record that was parsed without. Raises RemoteError (`bad_signature`)."""
    signatures.check_signature(record.public_key, _DOMAIN + record.body, record.signature)


def check_times(record: Record, now_s: float, validity_s: float = RECORD_VALIDITY_S) -> None:
    """Raises RemoteError `expired` or `clock` where the record's expiry cannot be right at Unix time `now_s`."""
    if record.expires_s <= now_s:
        raise RemoteError(Code.EXPIRED, f"the record expired {now_s - record.expires_s:.0f} s ago by this node's clock")
    ahead_s = record.expires_s - now_s - validity_s
    if ahead_s > CLOCK_TOLERANCE_S:
        raise RemoteError(
            Code.CLOCK,
            f"the record expires {ahead_s:.0f} s later than any may: one of two clocks is wrong; check NTP on both",
        )


def open_payload(record: Record, subject: Subject) -> Payload:
    """What `record` says to those who know `subject`. Unknown fields and unknown offers are ignored.

    Raises RemoteError (`malformed`) if it was not sealed for this subject or is not a payload.
    """
    nonce, box = record.sealed[:_NONCE_BYTES], record.sealed[_NONCE_BYTES:]
    try:
        fields = msgpack.unpackb(
            bindings.crypto_secretbox_open(box, nonce, subject.seal_key), max_array_len=64, max_map_len=64
        )
    except (exceptions.CryptoError, ValueError, msgpack.UnpackException) as fault:
        raise RemoteError(Code.MALFORMED, "the record's payload is not sealed for this ID") from fault
    if not isinstance(fields, dict):
        raise RemoteError(Code.MALFORMED, "a payload is a map")
    room_id, offers = fields.get("r"), fields.get("o", [])
    if not isinstance(offers, list) or len(offers) > _OFFERS_MAX:
        raise RemoteError(Code.MALFORMED, f"o is a list of {_OFFERS_MAX} offers at most")
    if room_id is not None and not _is_room_id(room_id):
        raise RemoteError(Code.MALFORMED, "r is a room ID")
    return Payload(room_id, frozenset(Offer(o) for o in offers if isinstance(o, str) and o in _OFFER_VALUES))


def _is_room_id(raw: Any) -> bool:
    try:
        return isinstance(raw, str) and bool(room(raw))
    except CallerError:
        return False


_OFFER_VALUES = frozenset(offer.value for offer in Offer)


def _seal(public_key: bytes, subject: Subject, sequence: int, payload: Payload) -> bytes:
    if payload.room_id is not None and len(payload.room_id.encode()) > ROOM_ID_BYTES_MAX:
        raise CallerError(f"a room ID has {ROOM_ID_BYTES_MAX} bytes at most")
    fields: dict[str, Any] = {"o": sorted(payload.offers)}
    if payload.room_id is not None and subject.kind is Kind.MEDIA:
        fields["r"] = payload.room_id
    plain: bytes = msgpack.packb(fields)
    if len(plain) > PAYLOAD_BYTES_MAX:
        raise CallerError(f"a record's payload has {PAYLOAD_BYTES_MAX} bytes at most")
    nonce = hashlib.blake2b(
        public_key + sequence.to_bytes(8, "big") + plain, digest_size=_NONCE_BYTES, key=subject.seal_key
    ).digest()
    return nonce + bindings.crypto_secretbox(plain, nonce, subject.seal_key)
