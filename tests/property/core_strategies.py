"""Hypothesis strategies for the core, and the settings of its property tests: the same examples in every run."""

from __future__ import annotations

import hashlib

from hypothesis import settings
from hypothesis import strategies as st

from mediadht.core.constants import KNOWN_PREFIX_BYTES, PROVIDERS_PER_ANSWER_MAX, RECORD_BYTES_MAX, K
from mediadht.core.contacts import Contact, Groups
from mediadht.core.identifiers import Subject, media, room
from mediadht.core.keys import KeyPair
from mediadht.core.messages import (
    Answer,
    Claim,
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
    PutRoom,
    Query,
    RawReceipt,
    RoomDone,
    SignedRoom,
    UnknownRequest,
    Vote,
)
from mediadht.core.records import Offer, Payload

ID_MAX = (1 << 256) - 1


def property_settings(examples: int, steps: int = 30) -> settings:
    """Settings as a decorator: no randomness between runs, no deadline (the machine is shared), no database."""
    return settings(derandomize=True, deadline=None, database=None, max_examples=examples, stateful_step_count=steps)


def point(text: str) -> int:
    """A point of the key space that a text stands for."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def media_of(text: str) -> Subject:
    """The media ID of a file with these bytes."""
    return media("sha256." + hashlib.sha256(text.encode()).hexdigest())


points = st.one_of(
    st.integers(0, ID_MAX),
    st.integers(0, 40),
    st.builds(lambda bit, low: (1 << bit) | low, st.integers(0, 255), st.integers(0, 3)),
    st.integers(ID_MAX - 8, ID_MAX),
)
"""Points of the key space: random ones, and such as lie close together or on a boundary."""

labels = st.text("abcxyz019", min_size=1, max_size=8)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.one_of(st.just(""), st.integers(1, 65_535).map(lambda p: f":{p}"))
server_names = st.one_of(
    st.builds("{}{}".format, hosts, ports),
    st.sampled_from(["192.0.2.1", "192.0.2.1:8448", "[2001:db8::1]", "[2001:db8::1]:1", "a" * 230]),
)
endpoints = st.one_of(
    st.builds("wss://{}{}{}".format, hosts, ports, st.sampled_from(["", "/", "/_mediadht", "/a/b~c"])),
    st.sampled_from(["ws://127.0.0.1:9", "ws://[::1]:80/x", "ws://localhost/", "wss://[2001:db8::1]/"]),
)
contacts = st.builds(
    Contact.of,
    st.binary(min_size=32, max_size=32),
    st.lists(endpoints, max_size=4).map(tuple),
    st.none() | server_names,
)
groups = st.builds(
    Groups,
    st.none() | st.sampled_from([f"203.0.{n}.0/24" for n in range(4)]),
    st.none() | st.sampled_from([f"example{n}.org" for n in range(4)]),
)
room_ids = st.one_of(
    st.builds("!{}:{}".format, st.text("abcXYZ09._=-é", min_size=1, max_size=12), server_names),
    st.text("abcXYZ09_-", min_size=43, max_size=43).map(lambda s: "!" + s),
)
subjects = st.one_of(st.text(max_size=8).map(media_of), room_ids.map(room))
key_pairs = st.integers(0, 30).map(lambda n: KeyPair.from_seed(hashlib.sha256(bytes([n])).digest()))
payloads = st.builds(Payload, st.none() | room_ids, st.frozensets(st.sampled_from(list(Offer))))

knowns = st.binary(max_size=32 * KNOWN_PREFIX_BYTES).map(lambda b: b[: len(b) - len(b) % KNOWN_PREFIX_BYTES])
signed = st.tuples(st.binary(max_size=RECORD_BYTES_MAX - 64), st.binary(min_size=64, max_size=64))
answer_contacts = st.lists(contacts, max_size=3).map(tuple)
counts = st.integers(0, K)
signatures = st.binary(min_size=64, max_size=64)
receipts = st.builds(
    RawReceipt, st.binary(min_size=32, max_size=32), st.integers(0, (1 << 63) - 1), st.integers(1, K), signatures
)
rooms = st.builds(SignedRoom, st.binary(max_size=80), signatures, st.lists(receipts, max_size=3).map(tuple))
room_lists = st.lists(rooms, max_size=3).map(tuple)
leases_s = st.integers(0, 3_600_000).map(lambda ms: ms / 1_000)
codes = st.sampled_from(["", "voted", "taken", "a code of tomorrow"])
requests = st.one_of(
    st.just(Ping()),
    st.builds(Find, points, counts, knowns),
    st.builds(Get, points, points, st.integers(0, PROVIDERS_PER_ANSWER_MAX), counts, st.none() | points, knowns),
    st.builds(Put, st.lists(signed, max_size=4).map(tuple), counts, knowns),
    st.builds(Claim, signed, st.none() | leases_s, counts, knowns),
    st.builds(PutRoom, rooms, counts, knowns),
    st.text("abcdefgh_", min_size=1, max_size=32)
    .filter(lambda method: method not in ("ping", "find", "get", "put", "claim", "room"))
    .map(UnknownRequest),
)
outcomes = st.one_of(
    st.just(PutOutcome()),
    st.builds(PutOutcome, st.text(min_size=1, max_size=256), st.integers(0, (1 << 63) - 1)),
)
responses = st.one_of(
    st.just(Pong()),
    st.builds(Found, answer_contacts),
    st.builds(Got, st.lists(signed, max_size=4).map(tuple), st.integers(0, (1 << 32) - 1), answer_contacts, room_lists),
    st.builds(
        PutDone,
        st.lists(outcomes, max_size=8).map(tuple),
        answer_contacts,
        st.lists(st.sampled_from([b"", bytes(8), b"8 bytes."]), max_size=8).map(tuple),
    ),
    st.builds(
        Vote,
        codes,
        leases_s,
        counts,
        st.none() | signed,
        room_lists,
        st.lists(signed, max_size=4).map(tuple),
        answer_contacts,
    ),
    st.builds(RoomDone, codes, counts, st.none() | receipts, room_lists, answer_contacts),
    st.builds(Failure, st.text(min_size=1, max_size=256), st.text(max_size=256)),
)
transactions = st.integers(0, (1 << 32) - 1)
messages = st.one_of(st.builds(Query, transactions, requests), st.builds(Answer, transactions, responses))

wire_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 64) - 1),
        st.floats(),
        st.text(max_size=12),
        st.binary(max_size=40),
        st.sampled_from(
            ["ping", "find", "get", "put", "claim", "room", "vote", "pong", "found", "got", "no", "t", "q", "a", "k"]
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("tqaksnxprceowmvbiu"), inner, max_size=6)
    ),
    max_leaves=12,
)
"""Any msgpack value, biased to the shapes of our messages."""
