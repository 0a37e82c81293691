"""Records: what is signed stays what was signed, and only who knows the ID can read it."""

from __future__ import annotations

import msgpack
import pytest
from core_strategies import key_pairs, media_of, payloads, property_settings, server_names, subjects, wire_values
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from mediadht.core.constants import (
    CLOCK_TOLERANCE_S,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES_MAX,
    RECORD_VALIDITY_S,
)
from mediadht.core.errors import CallerError, Code, RemoteError
from mediadht.core.identifiers import Kind, Subject, room
from mediadht.core.keys import KeyPair
from mediadht.core.records import Payload, Record, check_times, open_payload, parse_record, sign_record

KEYS = KeyPair.from_seed(bytes(32))
SUBJECT = media_of("a file")
sequences = st.integers(0, (1 << 63) - 1)


def signed(payload: Payload | None = None, *, expires_s: int = 1_000, sequence: int = 1) -> Record:
    return sign_record(
        KEYS,
        SUBJECT,
        server_name="example.org",
        sequence=sequence,
        expires_s=expires_s,
        payload=Payload() if payload is None else payload,
    )


def with_signature(fields: list[object]) -> tuple[bytes, bytes]:
    """A body of these fields with a signature that fits."""
    body: bytes = msgpack.packb(fields)
    return body, KEYS.sign(b"mediadht/1/record\n" + body)


def fields_of(record: Record) -> list[object]:
    found: list[object] = msgpack.unpackb(record.body)
    return found


def code_of(body: bytes, signature: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        parse_record(body, signature)
    return caught.value.code


@property_settings(100)
@given(key_pairs, subjects, server_names, sequences, sequences, st.none() | payloads)
def test_a_record_reads_back_as_it_was_signed(
    keys: KeyPair, subject: Subject, server_name: str, sequence: int, expires_s: int, payload: Payload | None
) -> None:
    record = sign_record(
        keys, subject, server_name=server_name, sequence=sequence, expires_s=expires_s, payload=payload
    )
    assert parse_record(record.body, record.signature) == record
    assert record.withdrawn == (payload is None)
    assert record.size_bytes <= RECORD_BYTES_MAX
    if payload is not None:
        is_media = subject.kind is Kind.MEDIA
        assert open_payload(record, subject) == Payload(payload.room_id if is_media else None, payload.offers)


def test_any_flipped_bit_is_noticed() -> None:
    record = signed(Payload("!r:example.org"))
    for place in range(8 * len(record.body)):
        changed = bytearray(record.body)
        changed[place // 8] ^= 1 << place % 8
        assert code_of(bytes(changed), record.signature) in (Code.BAD_SIGNATURE, Code.MALFORMED)
    for place in range(8 * 64):
        forged = bytearray(record.signature)
        forged[place // 8] ^= 1 << place % 8
        assert code_of(record.body, bytes(forged)) == Code.BAD_SIGNATURE


@property_settings(60)
@given(st.text(max_size=8), payloads)
def test_without_the_id_the_payload_cannot_be_read(other: str, payload: Payload) -> None:
    record = signed(payload)
    if media_of(other) != SUBJECT:
        with pytest.raises(RemoteError, match="malformed"):
            open_payload(record, media_of(other))
    if payload.room_id is not None and len(payload.room_id) > 4:
        assert payload.room_id.encode() not in record.body
    assert SUBJECT.id.encode() not in record.body


def test_the_same_record_is_the_same_bytes_and_a_newer_one_shows_nothing_of_the_older() -> None:
    one, again, newer = signed(), signed(), signed(sequence=2)
    assert one == again
    assert one.sealed != newer.sealed
    assert one.sealed[:24] != newer.sealed[:24], "no nonce is used twice under one key"


@pytest.mark.parametrize(
    ("expires_s", "now_s", "code"),
    [
        (1_000, 999.999, None),
        (1_000, 1_000.0, Code.EXPIRED),
        (1_000, 1_001.0, Code.EXPIRED),
        (RECORD_VALIDITY_S + CLOCK_TOLERANCE_S, 0.0, None),
        (RECORD_VALIDITY_S + CLOCK_TOLERANCE_S + 1, 0.0, Code.CLOCK),
        (RECORD_VALIDITY_S + CLOCK_TOLERANCE_S + 1, 1.0, None),
    ],
)
def test_times_hold_to_the_second(expires_s: int, now_s: float, code: Code | None) -> None:
    record = signed(expires_s=expires_s)
    if code is None:
        check_times(record, now_s)
    else:
        with pytest.raises(RemoteError) as caught:
            check_times(record, now_s)
        assert caught.value.code == code


@property_settings(60)
@given(st.lists(wire_values, max_size=4))
def test_later_fields_survive_and_are_covered_by_the_signature(later: list[object]) -> None:
    body, signature = with_signature([*fields_of(signed()), *later])
    if len(body) + 64 <= RECORD_BYTES_MAX:
        record = parse_record(body, signature)
        assert record.body == body
        assert open_payload(record, SUBJECT) == Payload()
        assert code_of(body + b"\x00", signature) == Code.MALFORMED


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, -1),
        (0, 256),
        (0, True),
        (0, 1.0),
        (1, bytes(31)),
        (1, bytes(33)),
        (1, "x" * 32),
        (2, bytes(31)),
        (2, bytes(33)),
        (3, ""),
        (3, "a b"),
        (3, "a" * 231),
        (3, b"example.org"),
        (4, -1),
        (4, 1 << 63),
        (4, True),
        (4, 1.5),
        (5, -1),
        (5, 1 << 63),
        (5, None),
        (5, float("nan")),
        (6, 0),
        (6, None),
        (6, True),
        (7, b""),
        (7, "text"),
        (7, None),
    ],
)
def test_a_field_of_the_wrong_kind_or_size_is_malformed(position: int, value: object) -> None:
    fields = fields_of(signed())
    fields[position] = value
    assert code_of(*with_signature(fields)) == Code.MALFORMED


@pytest.mark.parametrize(("position", "value"), [(0, 255), (3, "a" * 230), (4, (1 << 63) - 1), (5, (1 << 63) - 1)])
def test_a_field_at_its_maximum_is_taken(position: int, value: object) -> None:
    fields = fields_of(signed())
    fields[position] = value
    parse_record(*with_signature(fields))


def test_a_record_at_the_maximum_size_is_taken_and_one_byte_more_is_too_large() -> None:
    fields = fields_of(signed())
    rest = RECORD_BYTES_MAX - 64 - len(with_signature([*fields, b"x" * 256])[0]) + 256
    body, signature = with_signature([*fields, b"x" * rest])
    assert len(body) + len(signature) == RECORD_BYTES_MAX
    parse_record(body, signature)
    assert code_of(*with_signature([*fields, b"x" * (rest + 1)])) == Code.TOO_LARGE


def test_a_list_that_is_too_short_or_no_list_is_malformed() -> None:
    assert code_of(*with_signature(fields_of(signed())[:7])) == Code.MALFORMED
    body: bytes = msgpack.packb({"a": 1})
    assert code_of(body, bytes(64)) == Code.MALFORMED


@property_settings(200)
@given(st.one_of(st.binary(max_size=200), wire_values.map(msgpack.packb)), st.binary(max_size=70))
def test_any_bytes_end_in_a_remote_error(body: bytes, signature: bytes) -> None:
    with pytest.raises(RemoteError):
        parse_record(body, signature)


def record_with_payload(plain: bytes) -> Record:
    nonce = bytes(24)
    sealed = nonce + bindings.crypto_secretbox(plain, nonce, SUBJECT.seal_key)
    fields = fields_of(signed())
    fields[7] = sealed
    return parse_record(*with_signature(fields))


@property_settings(200)
@given(st.one_of(st.binary(max_size=60), wire_values.map(msgpack.packb)))
def test_any_sealed_bytes_end_in_a_payload_or_a_remote_error(plain: bytes) -> None:
    record = record_with_payload(plain)
    try:
        found: Payload | str = open_payload(record, SUBJECT)
    except RemoteError as fault:
        found = fault.code
    assert isinstance(found, Payload) or found == Code.MALFORMED


@pytest.mark.parametrize(
    "room_id", [b"!a:b", 5, [], {}, ["!a:b"], {"!a:b": 1}, "", "!", "a:b", "!a:b" + "c" * 300, True]
)
def test_a_payload_with_a_room_that_is_none_is_malformed(room_id: object) -> None:
    with pytest.raises(RemoteError, match="malformed"):
        open_payload(record_with_payload(msgpack.packb({"r": room_id, "o": []})), SUBJECT)


@pytest.mark.parametrize("offers", ["bytes", {"bytes": 1}, None, 3, ["bytes"] * 9])
def test_a_payload_whose_offers_are_no_short_list_is_malformed(offers: object) -> None:
    with pytest.raises(RemoteError, match="malformed"):
        open_payload(record_with_payload(msgpack.packb({"o": offers})), SUBJECT)


def test_unknown_offers_and_fields_of_a_payload_are_ignored() -> None:
    plain = msgpack.packb({"o": ["bytes", "smell", 3, [], None], "z": {"later": [1]}})
    assert {o.value for o in open_payload(record_with_payload(plain), SUBJECT).offers} == {"bytes"}


@pytest.mark.parametrize("length", [0, 1, 23, 24, 25, 39, 40])
def test_a_sealed_field_too_short_to_be_one_is_malformed_for_its_reader(length: int) -> None:
    fields = fields_of(signed())
    fields[7] = b"x" * max(1, length)
    with pytest.raises(RemoteError, match="malformed"):
        open_payload(parse_record(*with_signature(fields)), SUBJECT)


def test_a_payload_with_the_longest_room_id_fits() -> None:
    longest = "!" + "x" * (255 - len("!:example.org")) + ":example.org"
    room(longest)
    record = signed(Payload(longest))
    assert open_payload(record, SUBJECT).room_id == longest
    with pytest.raises(CallerError):
        signed(Payload("!" + "x" * PAYLOAD_BYTES_MAX))
