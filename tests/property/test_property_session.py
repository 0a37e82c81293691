"""Sessions: the same for any cut of the stream, and nothing but RemoteError for any damage to it."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import msgpack
import pytest
from core_strategies import property_settings, wire_values
from hypothesis import given
from hypothesis import strategies as st

from mediadht.core.constants import FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code, RemoteError
from mediadht.core.keys import KeyPair
from mediadht.core.session import Hello, PeerSession, Role, refusal_frame

DIALER = KeyPair.from_seed(bytes([1]) * 32)
LISTENER = KeyPair.from_seed(bytes([2]) * 32)
MAC_BYTES = 16


def hello_of(keys: KeyPair, name: str, *, probe: bool = False) -> Hello:
    contact = Contact.of(keys.public_key, (f"wss://{name}/",), name)
    return Hello(contact, hashlib.sha256(name.encode()).digest()[:8], 77, 1_700_000_000, "mediadht/test", probe)


def dialer(expected_node_id: int | None = None, network: str = "net", *, probe: bool = False) -> PeerSession:
    return PeerSession(
        Role.DIALER,
        DIALER,
        hello_of(DIALER, "dialer.org", probe=probe),
        network=network,
        ephemeral_seed=bytes([3]) * 32,
        expected_node_id=expected_node_id,
    )


def listener(keys: KeyPair = LISTENER, network: str = "net") -> PeerSession:
    return PeerSession(
        Role.LISTENER, keys, hello_of(keys, "listener.org"), network=network, ephemeral_seed=bytes([4]) * 32
    )


def opened() -> tuple[PeerSession, PeerSession]:
    one, other = dialer(), listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    other.receive(one.outgoing())
    assert one.is_open
    assert other.is_open
    return one, other


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def outcome(session: PeerSession, chunks: list[bytes]) -> tuple[list[bytes], str | None, bytes]:
    """All that a session makes of a stream: the messages, the code it ended with, and what it sent."""
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            messages += session.receive(chunk)
        messages += session.receive(b"")
    except RemoteError as fault:
        return messages, fault.code, session.outgoing()
    return messages, None, session.outgoing()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    stops = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in pairwise(stops)]


def streams() -> dict[Role, bytes]:
    """What each role receives in one conversation, handshake included."""
    one, other = dialer(), listener()
    offer = one.outgoing()
    other.receive(offer)
    reply = other.outgoing()
    one.receive(reply)
    proof = one.outgoing()
    other.receive(proof)
    texts = [b"", b"a", b"b" * 300, b"c" * 70]
    to_listener = offer + proof + b"".join(one.seal(t) for t in texts)
    to_dialer = reply + b"".join(other.seal(t) for t in texts)
    return {Role.LISTENER: to_listener, Role.DIALER: to_dialer}


STREAMS = streams()


def session_for(role: Role) -> PeerSession:
    return dialer() if role is Role.DIALER else listener()


def test_a_handshake_tells_each_who_the_other_is() -> None:
    one, other = opened()
    assert one.peer == hello_of(LISTENER, "listener.org")
    assert other.peer == hello_of(DIALER, "dialer.org")


def test_a_probe_says_that_it_is_one() -> None:
    one, other = dialer(probe=True), listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    other.receive(one.outgoing())
    assert other.peer is not None
    assert other.peer.probe


def test_messages_go_both_ways_in_order_empty_and_largest_included() -> None:
    one, other = opened()
    texts = [b"", b"x" * FRAME_BYTES_MAX, b"y"]
    assert other.receive(b"".join(one.seal(t) for t in texts)) == texts
    assert one.receive(b"".join(other.seal(t) for t in texts)) == texts


@pytest.mark.parametrize("role", Role)
def test_a_byte_at_a_time_gives_what_one_chunk_gives(role: Role) -> None:
    data = STREAMS[role]
    whole = outcome(session_for(role), [data])
    assert whole[1] is None
    assert len(whole[0]) == 4
    assert outcome(session_for(role), [bytes([b]) for b in data]) == whole


@pytest.mark.parametrize("role", Role)
@property_settings(80)
@given(places=st.lists(st.integers(0, 5_000), max_size=12))
def test_any_cut_gives_what_one_chunk_gives(role: Role, places: list[int]) -> None:
    assert outcome(session_for(role), cut(STREAMS[role], places)) == outcome(session_for(role), [STREAMS[role]])


@pytest.mark.parametrize("role", Role)
@property_settings(150)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), places=st.lists(st.integers(0, 5_000), max_size=6))
def test_a_flipped_bit_ends_the_session_however_the_stream_is_cut(
    role: Role, place: int, bit: int, places: list[int]
) -> None:
    """Nothing behind the flipped bit is handed out; either the fault is seen, or the frame is never complete."""
    data = bytearray(STREAMS[role])
    data[place % len(data)] ^= 1 << bit
    found = outcome(session_for(role), [bytes(data)])
    assert found == outcome(session_for(role), cut(bytes(data), places))
    messages, code, _ = found
    assert messages == [b"", b"a", b"b" * 300, b"c" * 70][: len(messages)]
    assert len(messages) < 4
    assert code is None or code in set(Code)


@pytest.mark.parametrize("role", Role)
@property_settings(150)
@given(garbage=st.binary(max_size=200), prefix=st.integers(0, 5_000))
def test_garbage_anywhere_ends_in_nothing_but_a_remote_error(role: Role, garbage: bytes, prefix: int) -> None:
    outcome(session_for(role), [STREAMS[role][: prefix % len(STREAMS[role])] + garbage])


@pytest.mark.parametrize("role", Role)
@property_settings(200)
@given(value=wire_values)
def test_any_value_as_first_frame_ends_in_nothing_but_a_remote_error(role: Role, value: object) -> None:
    outcome(session_for(role), [frame(msgpack.packb(value))])


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("depth", [10, 500, 990, 1_000, 1_020, 1_030, 8_000])
@pytest.mark.parametrize("field", ["v", "n", "e", "b", "x", "w"])
def test_deep_nesting_ends_in_nothing_but_a_remote_error(role: Role, depth: int, field: str) -> None:
    fields = b"\x84\xa1v\x91\x09\xa1n\xa3net\xa1e\xc0\xa1" + field.encode() + b"\x91" * depth + b"\xc0"
    with pytest.raises(RemoteError):
        session_for(role).receive(frame(fields))


@property_settings(60)
@given(order=st.permutations(range(4)))
def test_frames_repeated_left_out_or_in_another_order_end_the_session(order: list[int]) -> None:
    one, other = opened()
    frames = [one.seal(bytes([n])) for n in range(4)]
    right = 0
    while right < 4 and order[right] == right:
        right += 1
    messages, code, _ = outcome(other, [b"".join(frames[n] for n in order)])
    assert messages == [bytes([n]) for n in range(right)]
    assert code == (None if right == 4 else Code.BAD_FRAME)


def test_a_replayed_frame_ends_the_session() -> None:
    one, other = opened()
    sealed = one.seal(b"pay")
    assert other.receive(sealed) == [b"pay"]
    with pytest.raises(RemoteError, match="bad_frame"):
        other.receive(sealed)


def test_a_frame_sent_back_to_its_sender_ends_the_session() -> None:
    one, _ = opened()
    with pytest.raises(RemoteError, match="bad_frame"):
        one.receive(one.seal(b"echo"))


def test_a_session_cannot_be_replayed_to_another_listener() -> None:
    """The proof of an old conversation proves nothing to a listener with another ephemeral key."""
    fresh = PeerSession(
        Role.LISTENER, LISTENER, hello_of(LISTENER, "listener.org"), network="net", ephemeral_seed=bytes([9]) * 32
    )
    messages, code, _ = outcome(fresh, [STREAMS[Role.LISTENER]])
    assert (messages, code) == ([], Code.BAD_FRAME)


@pytest.mark.parametrize("role", Role)
def test_a_handshake_frame_has_its_maximum_and_not_one_byte_more(role: Role) -> None:
    session = session_for(role)
    assert session.receive(HANDSHAKE_FRAME_BYTES_MAX.to_bytes(4, "big") + b"x") == []
    with pytest.raises(RemoteError, match="too_large"):
        session_for(role).receive((HANDSHAKE_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_an_open_session_takes_the_largest_frame_and_not_one_byte_more() -> None:
    _, other = opened()
    assert other.receive((FRAME_BYTES_MAX + MAC_BYTES).to_bytes(4, "big")) == []
    _, other = opened()
    with pytest.raises(RemoteError, match="too_large"):
        other.receive((FRAME_BYTES_MAX + MAC_BYTES + 1).to_bytes(4, "big"))


def test_the_fault_behind_good_messages_comes_with_the_next_call() -> None:
    one, other = opened()
    assert other.receive(one.seal(b"good") + b"\xff" * 8) == [b"good"]
    for _ in range(2):
        with pytest.raises(RemoteError, match="too_large"):
            other.receive(b"")


# --- Refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", [[], [0], [2, 3], ["1"], [True], [1.0], [[1]], [None] * 16])
def test_a_dialer_without_a_common_version_is_refused(versions: list[object]) -> None:
    offer = msgpack.packb({"v": versions, "n": "net", "e": bytes(32)})
    with pytest.raises(RemoteError) as caught:
        listener().receive(frame(offer))
    assert caught.value.code == Code.WRONG_VERSION
    assert "update" in caught.value.why


def test_further_versions_do_no_harm_up_to_sixteen() -> None:
    for extra, code in ((15, None), (16, Code.MALFORMED)):
        fields = msgpack.unpackb(dialer().outgoing()[4:])
        fields["v"] = [*range(100, 100 + extra), 1]
        assert outcome(listener(), [frame(msgpack.packb(fields))])[1] == code


@pytest.mark.parametrize("version", [0, 2, True, 1.0, "1", None, [1]])
def test_a_listener_that_chooses_what_was_not_offered_is_refused(version: object) -> None:
    reply = msgpack.packb({"v": version, "e": bytes(32), "b": b""})
    with pytest.raises(RemoteError, match="wrong_version"):
        dialer().receive(frame(reply))


def test_another_network_is_refused_by_name() -> None:
    with pytest.raises(RemoteError, match=r"wrong_network.*'net'.*'other'"):
        listener().receive(dialer(network="other").outgoing())


def test_another_node_than_expected_is_refused() -> None:
    one, other = dialer(expected_node_id=DIALER.node_id ^ 1), listener()
    other.receive(one.outgoing())
    with pytest.raises(RemoteError, match="wrong_node"):
        one.receive(other.outgoing())
    assert not one.is_open


def test_the_expected_node_is_welcome() -> None:
    one, other = dialer(expected_node_id=LISTENER.node_id), listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    assert one.is_open


def test_a_node_that_dials_itself_notices() -> None:
    one, other = dialer(), listener(DIALER)
    other.receive(one.outgoing())
    with pytest.raises(RemoteError) as caught:
        one.receive(other.outgoing())
    assert caught.value.code == Code.SELF


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_key_that_would_make_the_secret_known_to_all_is_refused(point: bytes) -> None:
    offer = msgpack.packb({"v": [1], "n": "net", "e": point})
    with pytest.raises(RemoteError, match="malformed"):
        listener().receive(frame(offer))


def test_an_identity_signed_by_somebody_else_is_refused() -> None:
    """A node that claims another's contact cannot prove it."""
    stolen = Hello(Contact.of(LISTENER.public_key), bytes(8), 0, 0, "thief")
    thief = PeerSession(Role.LISTENER, DIALER, stolen, network="net", ephemeral_seed=bytes([5]) * 32)
    one = PeerSession(
        Role.DIALER,
        KeyPair.from_seed(bytes([6]) * 32),
        hello_of(DIALER, "x.org"),
        network="net",
        ephemeral_seed=bytes([7]) * 32,
    )
    thief.receive(one.outgoing())
    with pytest.raises(RemoteError, match="bad_signature"):
        one.receive(thief.outgoing())


def test_a_refusal_of_the_offer_is_read_with_its_reason() -> None:
    refusal = refusal_frame(RemoteError(Code.WRONG_NETWORK, "this node is elsewhere"))
    with pytest.raises(RemoteError, match=r"wrong_network: the peer refused: this node is elsewhere"):
        dialer().receive(refusal)


def test_a_refusal_of_the_listener_is_read_in_place_of_the_proof() -> None:
    one, other = dialer(), listener()
    other.receive(one.outgoing())
    with pytest.raises(RemoteError, match="wrong_node"):
        other.receive(refusal_frame(RemoteError(Code.WRONG_NODE, "somebody else")))


def test_a_refusal_of_the_proof_is_read_in_place_of_the_first_message() -> None:
    one, other = dialer(), listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    assert one.is_open
    with pytest.raises(RemoteError, match="busy"):
        one.receive(refusal_frame(RemoteError(Code.BUSY, "full")))


def test_later_a_refusal_in_the_clear_is_but_a_bad_frame() -> None:
    one, other = opened()
    for text in (b"1", b"2", b"3"):
        one.receive(other.seal(text))
    with pytest.raises(RemoteError, match="bad_frame"):
        one.receive(refusal_frame(RemoteError(Code.LEAVING, "not really")))


# --- Who carries the bytes learns nothing ------------------------------------------------------------------------


def test_neither_names_nor_keys_nor_messages_stand_in_the_bytes() -> None:
    one, other = dialer(), listener()
    wire = b""
    for _ in range(2):
        sent = one.outgoing()
        wire += sent
        other.receive(sent)
        sent = other.outgoing()
        wire += sent
        one.receive(sent)
    sealed = one.seal(b"a secret that is long enough to be found")
    wire += sealed
    assert other.receive(sealed) == [b"a secret that is long enough to be found"]
    for keys, name in ((DIALER, b"dialer.org"), (LISTENER, b"listener.org")):
        assert name not in wire
        assert keys.public_key not in wire
        assert keys.node_id.to_bytes(32, "big") not in wire
    assert b"mediadht/test" not in wire
    assert b"a secret" not in wire


def test_who_stands_between_and_keeps_its_own_keys_is_not_taken_for_the_peer() -> None:
    """A proxy that runs a handshake of its own with each side can be itself only, not the node that was dialled."""
    proxy = listener(KeyPair.from_seed(bytes([8]) * 32))
    one = dialer(expected_node_id=LISTENER.node_id)
    proxy.receive(one.outgoing())
    with pytest.raises(RemoteError, match="wrong_node"):
        one.receive(proxy.outgoing())
    assert one.outgoing() == b"", "the dialer has not said who it is"


@pytest.mark.parametrize("missing", ["s", "c", "i", "u", "t", "a"])
def test_an_identity_that_lacks_a_field_is_malformed(missing: str) -> None:
    fields = msgpack.unpackb(identity_of(dialer()))
    del fields[missing]
    assert identity_code(fields) == Code.MALFORMED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("i", bytes(7)),
        ("i", bytes(9)),
        ("u", -1),
        ("u", 1 << 40),
        ("u", True),
        ("t", 1.5),
        ("a", b"x"),
        ("s", bytes(63)),
    ],
)
def test_an_identity_with_a_field_of_the_wrong_kind_is_malformed(field: str, value: object) -> None:
    fields = msgpack.unpackb(identity_of(dialer()))
    assert identity_code(fields | {field: value}) == Code.MALFORMED


def test_unknown_fields_of_an_identity_are_ignored() -> None:
    assert identity_code(msgpack.unpackb(identity_of(dialer())) | {"later": [1]}) is None


@property_settings(150)
@given(st.one_of(st.binary(max_size=60), wire_values.map(msgpack.packb)))
def test_any_identity_ends_in_nothing_but_a_remote_error(plain: bytes) -> None:
    one, other = dialer(), listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    one.outgoing()
    outcome(other, [frame(replace_proof(one, plain))])


def identity_of(one: PeerSession) -> bytes:
    """The plain identity that a dialer sends, once it has its transcript."""
    other = listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    return one._identity()


def identity_code(fields: dict[str, object]) -> str | None:
    one, other = dialer(), listener()
    other.receive(one.outgoing())
    one.receive(other.outgoing())
    one.outgoing()
    return outcome(other, [frame(replace_proof(one, msgpack.packb(fields)))])[1]


def replace_proof(one: PeerSession, plain: bytes) -> bytes:
    """A proof frame of the dialer's with other contents, under the right key."""
    one._send_count = 0
    return one._box(plain)
