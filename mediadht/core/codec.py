"""Messages to bytes and back: msgpack maps with one-letter keys.

Decoding checks every type and bound here, so that nothing behind it sees an unchecked value; it can raise only
`RemoteError`. Unknown fields are ignored, an unknown method decodes to `UnknownRequest`, an unknown response to a
`Failure`. Implements `docs/protocol.md`, section "Messages", whose table of fields is this file's.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgpack

from mediadht.core.constants import (
    CONTACTS_PER_ANSWER_MAX,
    FRAME_BYTES_MAX,
    ID_BYTES,
    KNOWN_PREFIX_BYTES,
    KNOWN_PREFIXES_MAX,
    PROVIDERS_PER_ANSWER_MAX,
    PROVIDERS_PER_VOTE_MAX,
    RECEIPTS_MAX,
    RECORD_BYTES_MAX,
    RECORDS_PER_PUT_MAX,
    ROOM_PREFIX_BYTES,
    ROOMS_PER_ANSWER_MAX,
    TEXT_CHARACTERS_MAX,
    WITHDRAWALS_PER_ANSWER_MAX,
    K,
)
from mediadht.core.contacts import Contact, contact_from_wire
from mediadht.core.errors import Code, RemoteError
from mediadht.core.messages import (
    Answer,
    Claim,
    Failure,
    Find,
    Found,
    Get,
    Got,
    Message,
    Ping,
    Pong,
    Put,
    PutDone,
    PutOutcome,
    PutRoom,
    Query,
    RawReceipt,
    Request,
    Response,
    RoomDone,
    SignedBytes,
    SignedRoom,
    UnknownRequest,
    Vote,
)

__all__ = ["decode", "encode"]

_TRANSACTION_MAX = (1 << 32) - 1
_COUNT_MAX = (1 << 32) - 1
_METHOD_CHARACTERS_MAX = 32
_LEASE_MS_MAX = 3_600_000
_TIME_S_MAX = (1 << 63) - 1
_SIGNATURE_BYTES = 64


def encode(message: Message) -> bytes:
    """The bytes of `message`. The sender keeps its own bounds; what `decode` would refuse is our mistake."""
    match message:
        case Query(transaction, request):
            fields = _request_fields(request)
        case Answer(transaction, response):
            fields = _response_fields(response)
        case _:
            assert_never(message)
    fields["t"] = transaction
    packed: bytes = msgpack.packb(fields)
    assert len(packed) <= FRAME_BYTES_MAX, f"own message of {len(packed)} bytes"
    return packed


def decode(data: bytes) -> Message:
    """The message in `data`. Raises RemoteError (`malformed` or `too_large`)."""
    if len(data) > FRAME_BYTES_MAX:
        raise RemoteError(Code.TOO_LARGE, f"a message has {FRAME_BYTES_MAX} bytes at most")
    try:
        fields = msgpack.unpackb(data, strict_map_key=True, max_array_len=256, max_map_len=64, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as fault:
        raise RemoteError(Code.MALFORMED, "a message is one msgpack value") from fault
    if not isinstance(fields, dict):
        raise RemoteError(Code.MALFORMED, "a message is a map")
    transaction = _integer(fields, "t", _TRANSACTION_MAX)
    if "q" in fields:
        return Query(transaction, _request(fields))
    return Answer(transaction, _response(fields))


def _request_fields(request: Request) -> dict[str, Any]:
    match request:
        case Ping():
            return {"q": "ping"}
        case Find(target, contacts_max, known):
            return {"q": "find", "k": target.to_bytes(ID_BYTES, "big"), "n": contacts_max, "x": known}
        case Get(key, sample, providers_max, contacts_max, after, known):
            fields = {
                "q": "get",
                "k": key.to_bytes(ID_BYTES, "big"),
                "s": sample.to_bytes(ID_BYTES, "big"),
                "p": providers_max,
                "n": contacts_max,
                "x": known,
            }
            if after is not None:
                fields["a"] = after.to_bytes(ID_BYTES, "big")
            return fields
        case Put(records, contacts_max, known):
            return {"q": "put", "r": records, "n": contacts_max, "x": known}
        case Claim(claim, lease_s, contacts_max, known):
            fields = {"q": "claim", "r": claim, "n": contacts_max, "x": known}
            if lease_s is not None:
                fields["l"] = _milliseconds(lease_s)
            return fields
        case PutRoom(room, contacts_max, known):
            return {"q": "room", "r": _room_fields(room), "n": contacts_max, "x": known}
        case UnknownRequest(method):
            return {"q": method}
        case _:
            assert_never(request)


def _response_fields(response: Response) -> dict[str, Any]:
    match response:
        case Pong():
            return {"a": "pong"}
        case Found(contacts):
            return {"a": "found", "c": _contact_fields(contacts)}
        case Got(records, total, contacts, rooms):
            got = {"a": "got", "r": records, "m": total, "c": _contact_fields(contacts)}
            return got | {"o": [_room_fields(room) for room in rooms]} if rooms else got
        case PutDone(outcomes, contacts, rooms):
            done = [None if not o.code else [o.code, o.sequence] for o in outcomes]
            put = {"a": "put", "o": done, "c": _contact_fields(contacts)}
            return put | {"d": rooms} if rooms else put
        case Vote():
            return {
                "a": "vote",
                "e": response.code,
                "l": _milliseconds(response.lease_s),
                "m": response.replicas,
                "h": response.holder,
                "o": [_room_fields(room) for room in response.rooms],
                "r": response.records,
                "c": _contact_fields(response.contacts),
            }
        case RoomDone(code, replicas, receipt, rooms, contacts):
            return {
                "a": "room",
                "e": code,
                "m": replicas,
                "s": None if receipt is None else _receipt_fields(receipt),
                "o": [_room_fields(room) for room in rooms],
                "c": _contact_fields(contacts),
            }
        case Failure(code, why):
            return {"a": "no", "e": code, "w": why[:TEXT_CHARACTERS_MAX]}
        case _:
            assert_never(response)


def _contact_fields(contacts: tuple[Contact, ...]) -> list[Any]:
    return [contact.to_wire() for contact in contacts]


def _room_fields(room: SignedRoom) -> list[Any]:
    return [room.body, room.signature, [_receipt_fields(receipt) for receipt in room.receipts]]


def _receipt_fields(receipt: RawReceipt) -> list[Any]:
    return [receipt.public_key, receipt.expires_s, receipt.replicas, receipt.signature]


def _milliseconds(seconds: float) -> int:
    return max(0, min(_LEASE_MS_MAX, round(seconds * 1_000)))


def _request(fields: dict[str, Any]) -> Request:
    method = fields["q"]
    match method:
        case "ping":
            return Ping()
        case "find":
            return Find(_point(fields, "k"), _integer(fields, "n", CONTACTS_PER_ANSWER_MAX), _known(fields))
        case "get":
            return Get(
                key=_point(fields, "k"),
                sample=_point(fields, "s"),
                providers_max=_integer(fields, "p", PROVIDERS_PER_ANSWER_MAX),
                contacts_max=_integer(fields, "n", CONTACTS_PER_ANSWER_MAX),
                after=_point(fields, "a") if fields.get("a") is not None else None,
                known=_known(fields),
            )
        case "put":
            return Put(
                _records(fields, RECORDS_PER_PUT_MAX), _integer(fields, "n", CONTACTS_PER_ANSWER_MAX), _known(fields)
            )
        case "claim":
            return Claim(
                _record(fields.get("r")),
                None if fields.get("l") is None else _integer(fields, "l", _LEASE_MS_MAX) / 1_000,
                _integer(fields, "n", CONTACTS_PER_ANSWER_MAX),
                _known(fields),
            )
        case "room":
            return PutRoom(_room(fields.get("r")), _integer(fields, "n", CONTACTS_PER_ANSWER_MAX), _known(fields))
        case str() if len(method) <= _METHOD_CHARACTERS_MAX:
            return UnknownRequest(method)
        case _:
            raise RemoteError(Code.MALFORMED, "q is a method's name")


def _response(fields: dict[str, Any]) -> Response:
    match fields.get("a"):
        case "pong":
            return Pong()
        case "found":
            return Found(_contacts(fields))
        case "got":
            return Got(
                _records(fields, PROVIDERS_PER_ANSWER_MAX + WITHDRAWALS_PER_ANSWER_MAX),
                _integer(fields, "m", _COUNT_MAX),
                _contacts(fields),
                _rooms(fields),
            )
        case "put":
            outcomes = fields.get("o")
            if not isinstance(outcomes, list) or len(outcomes) > RECORDS_PER_PUT_MAX:
                raise RemoteError(Code.MALFORMED, f"o is a list of {RECORDS_PER_PUT_MAX} outcomes at most")
            return PutDone(tuple(_outcome(raw) for raw in outcomes), _contacts(fields), _room_prefixes(fields))
        case "vote":
            return Vote(
                _code(fields),
                _integer(fields, "l", _LEASE_MS_MAX) / 1_000,
                _integer(fields, "m", K),
                None if fields.get("h") is None else _record(fields["h"]),
                _rooms(fields),
                _records(fields, PROVIDERS_PER_VOTE_MAX),
                _contacts(fields),
            )
        case "room":
            return RoomDone(
                _code(fields),
                _integer(fields, "m", K),
                None if fields.get("s") is None else _receipt(fields["s"]),
                _rooms(fields),
                _contacts(fields),
            )
        case "no":
            return Failure(_text(fields.get("e")) or Code.MALFORMED, _text(fields.get("w")))
        case str() as kind:
            return Failure(Code.MALFORMED, f"an answer of unknown kind {kind[:_METHOD_CHARACTERS_MAX]!r}")
        case _:
            raise RemoteError(Code.MALFORMED, "a message has q (a request) or a (an answer)")


def _outcome(raw: Any) -> PutOutcome:
    match raw:
        case None:
            return PutOutcome()
        case [str(code), sequence, *_] if code and type(sequence) is int and 0 <= sequence < 1 << 63:
            return PutOutcome(_text(code), sequence)
    raise RemoteError(Code.MALFORMED, "an outcome is nil or [code, sequence]")


def _text(raw: Any) -> str:
    return raw[:TEXT_CHARACTERS_MAX] if isinstance(raw, str) else ""


def _integer(fields: dict[str, Any], name: str, maximum: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= maximum:
        raise RemoteError(Code.MALFORMED, f"{name} is an integer from 0 to {maximum}")
    return value


def _point(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise RemoteError(Code.MALFORMED, f"{name} has {ID_BYTES} bytes")
    return int.from_bytes(value, "big")


def _known(fields: dict[str, Any]) -> bytes:
    value = fields.get("x", b"")
    maximum = KNOWN_PREFIXES_MAX * KNOWN_PREFIX_BYTES
    if not isinstance(value, bytes) or len(value) > maximum or len(value) % KNOWN_PREFIX_BYTES:
        raise RemoteError(Code.MALFORMED, f"x has prefixes of {KNOWN_PREFIX_BYTES} bytes, {maximum} bytes at most")
    return value


def _contacts(fields: dict[str, Any]) -> tuple[Contact, ...]:
    raw = fields.get("c", [])
    if not isinstance(raw, list) or len(raw) > CONTACTS_PER_ANSWER_MAX:
        raise RemoteError(Code.MALFORMED, f"c is a list of {CONTACTS_PER_ANSWER_MAX} contacts at most")
    return tuple(contact_from_wire(item) for item in raw)


def _records(fields: dict[str, Any], maximum: int) -> tuple[SignedBytes, ...]:
    raw = fields.get("r")
    if not isinstance(raw, list) or len(raw) > maximum:
        raise RemoteError(Code.MALFORMED, f"r is a list of {maximum} records at most")
    return tuple(_record(item) for item in raw)


def _record(raw: Any) -> SignedBytes:
    match raw:
        case [bytes(body), bytes(signature), *_] if len(body) + len(signature) <= RECORD_BYTES_MAX:
            return body, signature
    raise RemoteError(Code.MALFORMED, f"a record is [body, signature] of {RECORD_BYTES_MAX} bytes at most")


def _code(fields: dict[str, Any]) -> str:
    code = fields.get("e")
    if not isinstance(code, str):
        raise RemoteError(Code.MALFORMED, "e is a code, empty where nothing is refused")
    return _text(code)


def _rooms(fields: dict[str, Any]) -> tuple[SignedRoom, ...]:
    raw = fields.get("o", [])
    if not isinstance(raw, list) or len(raw) > ROOMS_PER_ANSWER_MAX:
        raise RemoteError(Code.MALFORMED, f"o is a list of {ROOMS_PER_ANSWER_MAX} room records at most")
    return tuple(_room(item) for item in raw)


def _room(raw: Any) -> SignedRoom:
    match raw:
        case [bytes(body), bytes(signature), [*receipts], *_] if (
            len(body) + len(signature) <= RECORD_BYTES_MAX and len(receipts) <= RECEIPTS_MAX
        ):
            return SignedRoom(body, signature, tuple(_receipt(item) for item in receipts))
    raise RemoteError(Code.MALFORMED, f"a room is a record and [receipt, ...], {RECEIPTS_MAX} at most")


def _receipt(raw: Any) -> RawReceipt:
    match raw:
        case [bytes(public_key), expires_s, replicas, bytes(signature), *_] if (
            len(public_key) == ID_BYTES
            and type(expires_s) is type(replicas) is int
            and 0 <= expires_s <= _TIME_S_MAX
            and 1 <= replicas <= K
            and len(signature) == _SIGNATURE_BYTES
        ):
            return RawReceipt(public_key, expires_s, replicas, signature)
    raise RemoteError(Code.MALFORMED, "a receipt is [public key, expiry, replicas, signature]")


def _room_prefixes(fields: dict[str, Any]) -> tuple[bytes, ...]:
    raw = fields.get("d", [])
    if (
        not isinstance(raw, list)
        or len(raw) > RECORDS_PER_PUT_MAX
        or not all(isinstance(item, bytes) and len(item) in (0, ROOM_PREFIX_BYTES) for item in raw)
    ):
        raise RemoteError(Code.MALFORMED, f"d is a list of room prefixes, {ROOM_PREFIX_BYTES} bytes or none")
    return tuple(raw)
