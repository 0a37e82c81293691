"""Room records and receipts: what says that a room holds a key, and who has agreed to it.

A room record is a record of kind `ROOM` whose ninth field is the room's *digest*, so that replicas can tell two rooms
apart without learning either. A *receipt* is a replica's signature over key, digest and expiry: it names the room, not
the record, so a room's certificate outlives its maker; any server in the room may renew and carry it. A record with
valid receipts of a quorum is certified. Implements `docs/protocol.md`, section "Room records".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median_high
from typing import Final

import msgpack

from mediadht.core import keys as signatures
from mediadht.core.claim_rules import DIGEST_BYTES, Standing, quorum, room_digest
from mediadht.core.constants import ID_BYTES, RECEIPTS_PER_GROUP_MAX, K
from mediadht.core.errors import CallerError, Code, RemoteError
from mediadht.core.identifiers import Kind, Subject
from mediadht.core.keys import KeyPair, node_id_of
from mediadht.core.messages import RawReceipt, SignedRoom
from mediadht.core.records import Payload, Record, RecordKind, open_payload, parse_record, sign_record

__all__ = [
    "Room",
    "certified_until_s",
    "check_receipt",
    "open_room",
    "parse_claim",
    "parse_room",
    "sign_claim",
    "sign_receipt",
    "sign_room",
    "valid_receipts",
]

_DOMAIN: Final = b"mediadht/1/receipt\n"
_DIGEST_FIELD: Final = 8


@dataclass(frozen=True, slots=True)
class Room:
    """A room record in form, its signature checked (or our own), and receipts that nobody has checked yet."""

    record: Record
    digest: bytes
    receipts: tuple[RawReceipt, ...] = ()

    def standing(self, *, certified: bool) -> Standing:
        """What it counts for among rooms."""
        return Standing(self.digest, self.record.server_name, certified)

    def to_signed(self) -> SignedRoom:
        """As it travels."""
        return SignedRoom(self.record.body, self.record.signature, self.receipts)


# --- Making ------------------------------------------------------------------------------------------------------


def sign_room(
    keys: KeyPair,
    subject: Subject,
    room_id: str,
    *,
    server_name: str,
    sequence: int,
    expires_s: int,
    receipts: tuple[RawReceipt, ...] = (),
    withdrawn: bool = False,
) -> Room:
    """Our statement that `room_id` holds the media `subject`. Raises CallerError if it is no media, or too large."""
    if subject.kind is not Kind.MEDIA:
        raise CallerError("only media has a room that holds it")
    digest = room_digest(subject, room_id)
    record = sign_record(
        keys,
        subject,
        server_name=server_name,
        sequence=sequence,
        expires_s=expires_s,
        payload=None if withdrawn else Payload(room_id),
        kind=RecordKind.ROOM,
        more=(digest,),
    )
    return Room(record, digest, receipts)


def sign_claim(
    keys: KeyPair, subject: Subject, *, server_name: str, sequence: int, expires_s: int, withdrawn: bool = False
) -> Record:
    """Our claim, or what gives it back."""
    payload = None if withdrawn else Payload()
    return sign_record(
        keys,
        subject,
        server_name=server_name,
        sequence=sequence,
        expires_s=expires_s,
        payload=payload,
        kind=RecordKind.CLAIM,
    )


def sign_receipt(keys: KeyPair, key: int, digest: bytes, *, expires_s: int, replicas: int) -> RawReceipt:
    """Our word that until `expires_s` we accept no other room for `key`, which has `replicas` replicas."""
    signature = keys.sign(_signed_part(key, digest, expires_s, replicas))
    return RawReceipt(keys.public_key, expires_s, replicas, signature)


# --- Reading -----------------------------------------------------------------------------------------------------


def parse_room(raw: SignedRoom, *, verify: bool = True) -> Room:
    """The room record in `raw`, its own signature checked; receipts are not.

    Raises RemoteError: `malformed`, `too_large`, `unknown_kind`, `bad_signature`.
    """
    record = parse_record(raw.body, raw.signature, verify=verify)
    if record.kind != RecordKind.ROOM:
        raise RemoteError(Code.UNKNOWN_KIND, "this is no room record")
    fields = msgpack.unpackb(raw.body, strict_map_key=True, max_array_len=64, max_map_len=64)
    digest = fields[_DIGEST_FIELD] if len(fields) > _DIGEST_FIELD else None
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise RemoteError(Code.MALFORMED, f"a room record names its room by {DIGEST_BYTES} bytes")
    return Room(record, digest, raw.receipts)


def parse_claim(body: bytes, signature: bytes) -> Record:
    """The claim in these bytes. Raises RemoteError as `parse_room` does."""
    record = parse_record(body, signature)
    if record.kind != RecordKind.CLAIM:
        raise RemoteError(Code.UNKNOWN_KIND, "this is no claim")
    return record


def open_room(room: Room, subject: Subject) -> str:
    """The room ID. Raises RemoteError (`malformed`) if the record was not made by somebody who knows `subject`."""
    payload = open_payload(room.record, subject)
    if payload.room_id is None or room_digest(subject, payload.room_id) != room.digest:
        raise RemoteError(Code.MALFORMED, "the room record does not hold the room that it names")
    return payload.room_id


def check_receipt(key: int, digest: bytes, receipt: RawReceipt) -> None:
    """Raises RemoteError (`bad_signature`) unless its signer has accepted this room for this key."""
    signed = _signed_part(key, digest, receipt.expires_s, receipt.replicas)
    signatures.check_signature(receipt.public_key, signed, receipt.signature)


def valid_receipts(
    room: Room,
    *,
    now_s: float,
    distance_max: int,
    groups_of: Callable[[int], tuple[str, ...]] = lambda _: (),
) -> list[RawReceipt]:
    """Those receipts that count: unexpired, one a signer, near the key, so many a group, signature right.

    `groups_of` names the diversity groups of a node, where they are known. Signatures are checked last.
    """
    key, seen, per_group = room.record.key, set[bytes](), Counter[str]()
    found: list[RawReceipt] = []
    for receipt in room.receipts:
        node_id = node_id_of(receipt.public_key)
        groups = groups_of(node_id)
        if (
            receipt.public_key in seen
            or receipt.expires_s <= now_s
            or node_id ^ key > distance_max
            or any(per_group[group] >= RECEIPTS_PER_GROUP_MAX for group in groups)
        ):
            continue
        try:
            check_receipt(key, room.digest, receipt)
        except RemoteError:
            continue
        seen.add(receipt.public_key)
        per_group.update(groups)
        found.append(receipt)
    return found


def certified_until_s(valid: list[RawReceipt], replicas: int) -> float:
    """Until when (Unix time) these receipts are those of a quorum; 0 if they are not.

    `replicas` is how many the reader believes the key to have. What most of the signers say of that counts as well,
    where it is more.
    """
    if not valid:
        return 0.0
    said = median_high(receipt.replicas for receipt in valid)
    needed = quorum(max(1, min(K, max(replicas, said))))
    expiries = sorted((receipt.expires_s for receipt in valid), reverse=True)
    return float(expiries[needed - 1]) if len(expiries) >= needed else 0.0


def _signed_part(key: int, digest: bytes, expires_s: int, replicas: int) -> bytes:
    return _DOMAIN + key.to_bytes(ID_BYTES, "big") + digest + expires_s.to_bytes(8, "big") + replicas.to_bytes(1, "big")
