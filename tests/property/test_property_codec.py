"""The codec: every message there and back, every bound at its maximum and one above, any bytes without surprise."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from core_strategies import messages, property_settings, wire_values
from hypothesis import given
from hypothesis import strategies as st

from mediadht.core.codec import decode, encode
from mediadht.core.constants import (
    CONTACTS_PER_ANSWER_MAX,
    ENDPOINT_CHARACTERS_MAX,
    ENDPOINTS_PER_CONTACT_MAX,
    FRAME_BYTES_MAX,
    KNOWN_PREFIX_BYTES,
    KNOWN_PREFIXES_MAX,
    PROVIDERS_PER_ANSWER_MAX,
    RECORD_BYTES_MAX,
    RECORDS_PER_PUT_MAX,
    SERVER_NAME_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    WITHDRAWALS_PER_ANSWER_MAX,
)
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code, RemoteError
from mediadht.core.messages import (
    Answer,
    Failure,
    Found,
    Got,
    Message,
    Put,
    PutDone,
    PutOutcome,
    Query,
    UnknownRequest,
)

POINT = bytes(range(32))
CONTACT = [bytes(32), ["wss://a.org/"], "a.org"]
RECORD = [b"body", bytes(64)]
PING = {"t": 1, "q": "ping"}
FIND = {"t": 1, "q": "find", "k": POINT, "n": 3, "x": b""}
GET = {"t": 1, "q": "get", "k": POINT, "s": POINT, "p": 3, "n": 3, "x": b""}
PUT = {"t": 1, "q": "put", "r": [RECORD], "n": 3, "x": b""}
FOUND = {"t": 1, "a": "found", "c": [CONTACT]}
GOT = {"t": 1, "a": "got", "r": [RECORD], "m": 1, "c": [CONTACT]}
DONE = {"t": 1, "a": "put", "o": [None, ["stale", 5]], "c": []}
NO = {"t": 1, "a": "no", "e": "busy", "w": "later"}
EVERY = [PING, FIND, GET, PUT, FOUND, GOT, DONE, NO, {"t": 1, "a": "pong"}]

host = "a" * (SERVER_NAME_CHARACTERS_MAX - 4) + ".org"
path = "/" + "p" * (ENDPOINT_CHARACTERS_MAX - len("wss://a.org/"))


def unpacked(fields: dict[str, Any]) -> Message:
    return decode(msgpack.packb(fields))


def code_of(data: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        decode(data)
    return caught.value.code


def message_or_code(data: bytes) -> Message | str:
    """What these bytes are: a message, or the code of the error; any other exception fails the test."""
    try:
        return decode(data)
    except RemoteError as fault:
        return fault.code


def malformed(fields: dict[str, Any]) -> None:
    assert code_of(msgpack.packb(fields)) == Code.MALFORMED


@property_settings(300)
@given(messages)
def test_every_message_comes_back(message: Message) -> None:
    assert decode(encode(message)) == message


@property_settings(300)
@given(messages, st.dictionaries(st.sampled_from(["y", "z", "later", "v2"]), wire_values, max_size=3))
def test_unknown_fields_are_ignored(message: Message, later: dict[str, Any]) -> None:
    data = encode(message)
    assert decode(msgpack.packb(msgpack.unpackb(data) | later)) == message


@property_settings(500)
@given(st.one_of(st.binary(max_size=120), wire_values.map(msgpack.packb)))
def test_any_bytes_end_in_a_message_or_a_remote_error(data: bytes) -> None:
    message = message_or_code(data)
    if isinstance(message, str):
        assert message == Code.MALFORMED
    else:
        assert decode(encode(message)) == message


@property_settings(300)
@given(st.sampled_from(EVERY), st.data())
def test_any_value_in_any_field_ends_in_a_message_or_a_remote_error(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([*fields, "a", "q", "c"]))
    message = message_or_code(msgpack.packb(fields | {name: data.draw(wire_values)}))
    assert not isinstance(message, str) or message == Code.MALFORMED


@property_settings(200)
@given(st.sampled_from([msgpack.packb(fields) for fields in EVERY]), st.data())
def test_changed_and_cut_messages_end_in_a_message_or_a_remote_error(packed: bytes, data: st.DataObject) -> None:
    changed = bytearray(packed)
    for place in data.draw(st.lists(st.integers(0, len(packed) - 1), max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    message_or_code(bytes(changed[: data.draw(st.integers(0, len(packed)))]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80" * 2,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x81\xa1t\xd6\xff\x00\x00\x00\x00",
        b"\x81\xa1t\xd7\xff" + b"\xff" * 8,
        b"\x81\xa1t\xc7\x0c\xff" + b"\xff" * 12,
        b"\x81\xa1t\xc7\x00\xff",
        b"\x81\xa1t\xc7\x00\x05",
        b"\x81\xa1t\xa2\xff\xfe",
        b"\x81\xa2\xff\xfe\x01",
        b"\x81\x01\x02",
        b"\x81\xc0\x02",
        b"\x81\x90\x02",
        b"\x81\x80\x02",
        b"\x82\xa1t\x01\xa1q\xcb" + struct.pack(">d", float("nan")),
        b"\x82\xa1q\xa4ping\xa1t\xcb" + struct.pack(">d", float("inf")),
        b"\x82\xa1q\xa4ping\xa1t\xcf" + b"\xff" * 8,
        b"\x82\xa1q\xa4ping\xa1t\xd3" + b"\xff" * 8,
        b"\x90",
        b"\x01",
        b"\xc0",
        *(
            opening * depth + b"\xc0"
            for depth in (100, 511, 512, 1_000, 1_024, 5_000)
            for opening in (b"\x91", b"\x81\xa1q")
        ),
        *(b"\x82\xa1t\x01\xa1q" + b"\x91" * depth + b"\xc0" for depth in (100, 500, 990, 1_020, 1_030, 60_000)),
    ],
)
def test_nasty_bytes_are_malformed(data: bytes) -> None:
    assert code_of(data) == Code.MALFORMED


def test_of_a_repeated_field_the_last_counts() -> None:
    assert decode(b"\x83\xa1t\x01\xa1q\xa4ping\xa1t\x02") == decode(b"\x82\xa1t\x02\xa1q\xa4ping")


def test_bytes_behind_the_message_are_malformed() -> None:
    assert code_of(msgpack.packb(PING) + b"\x00") == Code.MALFORMED


def test_a_message_of_the_largest_size_is_read_and_one_byte_more_is_too_large() -> None:
    padding = FRAME_BYTES_MAX - len(msgpack.packb(PING | {"z": b"x" * 60_000})) + 60_000
    data = msgpack.packb(PING | {"z": b"x" * padding})
    assert len(data) == FRAME_BYTES_MAX
    decode(data)
    assert code_of(data + b"x") == Code.TOO_LARGE


def test_a_message_with_neither_question_nor_answer_is_malformed() -> None:
    malformed({"t": 1})
    malformed({"t": 1, "a": 5})
    malformed({"t": 1, "q": None})


@pytest.mark.parametrize("fields", EVERY)
@pytest.mark.parametrize("transaction", [-1, 1 << 32, True, 1.0, "1", None])
def test_a_transaction_that_is_no_number_of_32_bits_is_malformed(fields: dict[str, Any], transaction: object) -> None:
    malformed(fields | {"t": transaction})
    unpacked(fields | {"t": (1 << 32) - 1})


@pytest.mark.parametrize(
    ("fields", "name", "most", "above"),
    [
        (FIND, "n", CONTACTS_PER_ANSWER_MAX, CONTACTS_PER_ANSWER_MAX + 1),
        (GET, "n", CONTACTS_PER_ANSWER_MAX, CONTACTS_PER_ANSWER_MAX + 1),
        (GET, "p", PROVIDERS_PER_ANSWER_MAX, PROVIDERS_PER_ANSWER_MAX + 1),
        (PUT, "n", CONTACTS_PER_ANSWER_MAX, CONTACTS_PER_ANSWER_MAX + 1),
        (GOT, "m", (1 << 32) - 1, 1 << 32),
        (
            FIND,
            "x",
            bytes(KNOWN_PREFIXES_MAX * KNOWN_PREFIX_BYTES),
            bytes((KNOWN_PREFIXES_MAX + 1) * KNOWN_PREFIX_BYTES),
        ),
        (FIND, "x", bytes(KNOWN_PREFIX_BYTES), bytes(KNOWN_PREFIX_BYTES + 1)),
        (FIND, "k", bytes(32), bytes(33)),
        (GET, "k", bytes(32), bytes(33)),
        (GET, "s", bytes(32), bytes(33)),
        (GET, "a", bytes(32), bytes(33)),
        (PUT, "r", [RECORD] * RECORDS_PER_PUT_MAX, [RECORD] * (RECORDS_PER_PUT_MAX + 1)),
        (PUT, "r", [[bytes(RECORD_BYTES_MAX - 64), bytes(64)]], [[bytes(RECORD_BYTES_MAX - 63), bytes(64)]]),
        (
            GOT,
            "r",
            [RECORD] * (PROVIDERS_PER_ANSWER_MAX + WITHDRAWALS_PER_ANSWER_MAX),
            [RECORD] * (PROVIDERS_PER_ANSWER_MAX + WITHDRAWALS_PER_ANSWER_MAX + 1),
        ),
        (FOUND, "c", [CONTACT] * CONTACTS_PER_ANSWER_MAX, [CONTACT] * (CONTACTS_PER_ANSWER_MAX + 1)),
        (GOT, "c", [CONTACT] * CONTACTS_PER_ANSWER_MAX, [CONTACT] * (CONTACTS_PER_ANSWER_MAX + 1)),
        (DONE, "c", [CONTACT] * CONTACTS_PER_ANSWER_MAX, [CONTACT] * (CONTACTS_PER_ANSWER_MAX + 1)),
        (DONE, "o", [None] * RECORDS_PER_PUT_MAX, [None] * (RECORDS_PER_PUT_MAX + 1)),
        (DONE, "o", [["stale", (1 << 63) - 1]], [["stale", 1 << 63]]),
        (
            FOUND,
            "c",
            [[bytes(32), ["wss://a.org/"] * ENDPOINTS_PER_CONTACT_MAX, None]],
            [[bytes(32), ["wss://a.org/"] * (ENDPOINTS_PER_CONTACT_MAX + 1), None]],
        ),
        (FOUND, "c", [[bytes(32), ["wss://a.org" + path], None]], [[bytes(32), ["wss://a.org" + path + "p"], None]]),
        (FOUND, "c", [[bytes(32), [], host]], [[bytes(32), [], "a" + host]]),
        (FOUND, "c", [[bytes(32), ["wss://a:65535/"], None]], [[bytes(32), ["wss://a:65536/"], None]]),
        (FOUND, "c", [[bytes(32), ["ws://10.0.0.1/"], None]], [[bytes(32), ["ws://8.8.8.8/"], None]]),
        (PING, "q", "m" * 32, "m" * 33),
    ],
)
def test_every_bound_at_its_maximum_and_one_above(
    fields: dict[str, Any], name: str, most: object, above: object
) -> None:
    unpacked(fields | {name: most})
    malformed(fields | {name: above})


@pytest.mark.parametrize(
    "contact",
    [
        None,
        [],
        [bytes(32)],
        [bytes(32), []],
        [bytes(31), [], None],
        [bytes(33), [], None],
        ["x" * 32, [], None],
        [bytes(32), None, None],
        [bytes(32), [b"wss://a.org/"], None],
        [bytes(32), ["http://a.org/"], None],
        [bytes(32), ["wss://a.org/ b"], None],
        [bytes(32), ["wss://u@a.org/"], None],
        [bytes(32), ["wss://a.org/?q"], None],
        [bytes(32), ["wss://a.org:0/"], None],
        [bytes(32), ["wss://\u0430.org/"], None],
        [bytes(32), ["wss://a.org/\n"], None],
        [bytes(32), ["ws://example.org/"], None],
        [bytes(32), [], 5],
        [bytes(32), [], ""],
        [bytes(32), [], "a b"],
        [bytes(32), [], "a.org\n"],
    ],
)
def test_what_is_no_contact_is_malformed(contact: object) -> None:
    malformed(FOUND | {"c": [contact]})


@pytest.mark.parametrize(
    "outcome", [True, 5, "stale", [], ["stale"], ["", 1], ["stale", -1], ["stale", True], [b"x", 1]]
)
def test_what_is_no_outcome_is_malformed(outcome: object) -> None:
    malformed(DONE | {"o": [outcome]})


@pytest.mark.parametrize("record", [None, [], [b"x"], ["x", b"y"], [b"x", "y"], {"b": 1}])
def test_what_is_no_record_is_malformed(record: object) -> None:
    malformed(PUT | {"r": [record]})
    malformed(GOT | {"r": [record]})


@pytest.mark.parametrize("fields", [FIND, GET, PUT, GOT, DONE])
def test_a_missing_field_is_malformed_unless_it_has_a_default(fields: dict[str, Any]) -> None:
    for name in fields:
        rest = {k: v for k, v in fields.items() if k != name}
        if name in ("x", "c"):
            assert unpacked(rest) == unpacked(fields | {name: b"" if name == "x" else []})
        else:
            malformed(rest)


def test_later_elements_of_contacts_records_and_outcomes_are_ignored() -> None:
    later = {"c": [[*CONTACT, 7, {"z": 1}]], "r": [[*RECORD, None]]}
    assert unpacked(GOT | later) == unpacked(GOT)
    assert unpacked(DONE | {"o": [None, ["stale", 5, "why"]]}) == unpacked(DONE)


def test_an_unknown_method_is_a_request_and_an_unknown_answer_a_failure() -> None:
    assert unpacked({"t": 7, "q": "fetch", "k": 5}) == Query(7, UnknownRequest("fetch"))
    answer = unpacked({"t": 7, "a": "claimed"})
    assert isinstance(answer, Answer)
    assert isinstance(answer.response, Failure)


def test_texts_are_cut_to_their_length() -> None:
    message = unpacked(NO | {"e": "e" * 300, "w": "w" * 300})
    assert message == Answer(1, Failure("e" * TEXT_CHARACTERS_MAX, "w" * TEXT_CHARACTERS_MAX))
    assert unpacked(NO | {"e": 5, "w": None}) == Answer(1, Failure(Code.MALFORMED, ""))


def test_the_largest_messages_that_we_send_fit_a_frame() -> None:
    contact = Contact.of(bytes(32), ("wss://a.org" + path,) * ENDPOINTS_PER_CONTACT_MAX, host)
    contacts = (contact,) * CONTACTS_PER_ANSWER_MAX
    record = (bytes(RECORD_BYTES_MAX - 64), bytes(64))
    known = bytes(KNOWN_PREFIXES_MAX * KNOWN_PREFIX_BYTES)
    largest = (1 << 32) - 1
    for message in (
        Query(largest, Put((record,) * RECORDS_PER_PUT_MAX, CONTACTS_PER_ANSWER_MAX, known)),
        Answer(largest, Found(contacts)),
        Answer(largest, Got((record,) * (PROVIDERS_PER_ANSWER_MAX + WITHDRAWALS_PER_ANSWER_MAX), largest, contacts)),
        Answer(largest, PutDone((PutOutcome("domain_full", (1 << 63) - 1),) * RECORDS_PER_PUT_MAX, contacts)),
        Answer(largest, Failure("e" * TEXT_CHARACTERS_MAX, "\U0001f600" * TEXT_CHARACTERS_MAX)),
    ):
        assert decode(encode(message)) == message
