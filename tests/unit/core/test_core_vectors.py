"""The test vectors of `docs/protocol.md`: regenerated they are the same, and every one of them holds.

Where it is short, the test computes the value once more as the document says, with hashes and NaCl alone.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
from nacl import bindings

from mediadht.core.codec import decode, encode
from mediadht.core.contacts import Contact
from mediadht.core.errors import CallerError, RemoteError
from mediadht.core.identifiers import media, parse_subject
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Answer, Failure, Query, RawReceipt, SignedRoom, UnknownRequest
from mediadht.core.records import Offer, Payload, check_times, open_payload, parse_record, sign_record
from mediadht.core.room_records import open_room, parse_claim, parse_room
from mediadht.core.session import Hello, PeerSession, Role

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "tests" / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "protocol.json").read_text(encoding="utf-8"))
SHARED = REPOSITORY.parent / "shared" / "data" / "vectors"
HANDSHAKE = VECTORS["handshake"]


def named(rows: list[dict[str, Any]], field: str) -> Any:
    return pytest.mark.parametrize(
        "row", rows, ids=[str(row[field])[:40].encode("ascii", "replace").decode() for row in rows]
    )


def bytes_of(row: dict[str, Any], field: str) -> bytes:
    return bytes.fromhex(row[field]) * int(row.get("repeated", 1))


def test_the_vectors_are_what_their_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(FOLDER / "make.py")], capture_output=True, text=True, check=True, timeout=60
    )
    assert made.stdout == (FOLDER / "protocol.json").read_text(encoding="utf-8")


# --- Subjects and nodes ------------------------------------------------------------------------------------------


@named(VECTORS["subjects"], "text")
def test_a_subject_has_its_key(row: dict[str, str]) -> None:
    subject = parse_subject(row["text"])
    assert (subject.kind, subject.id) == (row["kind"], row["id"])
    assert f"{subject.key:064x}" == row["key"]
    assert subject.seal_key.hex() == row["seal_key"]
    assert row["key"] == hashlib.sha256(f"mediadht/1/{row['kind']}/{row['id']}".encode()).hexdigest()
    assert row["seal_key"] == hashlib.sha256(f"mediadht/1/seal/{row['kind']}/{row['id']}".encode()).hexdigest()


@pytest.mark.parametrize("text", VECTORS["no_subjects"])
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(CallerError):
        parse_subject(text)


@named(VECTORS["nodes"], "seed")
def test_a_node_id_is_the_hash_of_the_public_key(row: dict[str, str]) -> None:
    keys = KeyPair.from_seed(bytes.fromhex(row["seed"]))
    assert keys.public_key.hex() == row["public_key"]
    assert f"{keys.node_id:064x}" == row["node_id"] == hashlib.sha256(keys.public_key).hexdigest()


# --- Handshake ---------------------------------------------------------------------------------------------------


def session(role: Role, network: str = "mediadht", expected: int | None = None) -> PeerSession:
    said = HANDSHAKE[role.value]
    keys = KeyPair.from_seed(bytes.fromhex(said["seed"]))
    hello = Hello(
        Contact.of(keys.public_key, tuple(said["endpoints"]), said["server_name"]),
        bytes.fromhex(said["instance"]),
        said["uptime_s"],
        said["clock_s"],
        said["agent"],
        said["probe"],
    )
    seed = bytes.fromhex(said["ephemeral_seed"])
    return PeerSession(role, keys, hello, network=network, ephemeral_seed=seed, expected_node_id=expected)


def opened() -> tuple[PeerSession, PeerSession]:
    dialer, listener = session(Role.DIALER), session(Role.LISTENER)
    assert dialer.outgoing().hex() == HANDSHAKE["offer"]
    listener.receive(bytes.fromhex(HANDSHAKE["offer"]))
    assert listener.outgoing().hex() == HANDSHAKE["reply"]
    dialer.receive(bytes.fromhex(HANDSHAKE["reply"]))
    assert dialer.outgoing().hex() == HANDSHAKE["proof"]
    listener.receive(bytes.fromhex(HANDSHAKE["proof"]))
    return dialer, listener


def test_a_handshake_goes_byte_for_byte_as_written_and_frames_follow() -> None:
    dialer, listener = opened()
    for role, sender, receiver in (("dialer", dialer, listener), ("listener", listener, dialer)):
        for row in HANDSHAKE[f"frames_of_{role}"]:
            plain, sealed = bytes.fromhex(row["plain"]), bytes.fromhex(row["frame"])
            assert sender.seal(plain) == sealed
            assert receiver.receive(sealed) == [plain]


def test_the_key_schedule_is_the_documents() -> None:
    """Once more, with primitives alone."""
    offer, reply = bytes.fromhex(HANDSHAKE["offer"])[4:], bytes.fromhex(HANDSHAKE["reply"])[4:]
    chosen = msgpack.unpackb(reply)
    head = msgpack.packb({"v": chosen["v"], "e": chosen["e"]})
    transcript = hashlib.sha256(b"mediadht/1/transcript\n" + len(offer).to_bytes(4, "big") + offer + head).digest()
    assert transcript.hex() == HANDSHAKE["transcript"]
    seeds = {role: bytes.fromhex(HANDSHAKE[role]["ephemeral_seed"]) for role in ("dialer", "listener")}
    shared = bindings.crypto_scalarmult(seeds["dialer"], chosen["e"])
    assert shared == bindings.crypto_scalarmult(seeds["listener"], msgpack.unpackb(offer)["e"])
    assert shared.hex() == HANDSHAKE["shared_secret"]
    both = hashlib.blake2b(shared + transcript, digest_size=64, person=b"mediadht/1/keys").digest()
    assert (both[:32].hex(), both[32:].hex()) == (HANDSHAKE["dialer_key"], HANDSHAKE["listener_key"])
    boxes = {"listener": chosen["b"], "dialer": bytes.fromhex(HANDSHAKE["proof"])[4:]}
    for role, box in boxes.items():
        plain = bindings.crypto_secretbox_open(box, bytes(24), bytes.fromhex(HANDSHAKE[f"{role}_key"]))
        assert plain.hex() == HANDSHAKE[f"{role}_identity"]
        identity = msgpack.unpackb(plain)
        signed = b"mediadht/1/handshake/" + role.encode() + b"\n" + transcript
        assert bindings.crypto_sign_open(identity["s"] + signed, identity["c"][0]) == signed
    for role in ("dialer", "listener"):
        for number, row in enumerate(HANDSHAKE[f"frames_of_{role}"], start=1):
            frame, nonce = bytes.fromhex(row["frame"]), bytes(16) + number.to_bytes(8, "big")
            key = bytes.fromhex(HANDSHAKE[f"{role}_key"])
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4
            assert bindings.crypto_secretbox_open(frame[4:], nonce, key).hex() == row["plain"]


@named(VECTORS["handshake_refusals"], "what")
def test_a_handshake_is_refused_with_its_code(row: dict[str, str]) -> None:
    with pytest.raises(RemoteError) as caught:
        session(Role(row["to"])).receive(bytes.fromhex(row["frame"]))
    assert caught.value.code == row["code"]


# --- Messages ----------------------------------------------------------------------------------------------------


@named(VECTORS["messages"], "name")
def test_a_message_is_these_bytes(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["bytes"])
    message = decode(data)
    assert encode(message) == data
    said = row["message"]
    assert type(message).__name__ == said["is"]
    assert message.transaction == said["transaction"]
    inner = message.request if isinstance(message, Query) else message.response
    inner_said = said["request"] if isinstance(message, Query) else said["response"]
    assert type(inner).__name__ == inner_said["is"]
    for name, value in inner_said.items():
        if isinstance(value, str | int) and name != "is":
            held = getattr(inner, name)
            shown = held.hex() if isinstance(held, bytes) else f"{held:064x}" if len(str(value)) == 64 else held
            assert shown == value, name


def test_unknown_methods_and_answers_are_what_the_document_says() -> None:
    rows = {row["name"]: decode(bytes.fromhex(row["bytes"])) for row in VECTORS["messages"]}
    assert rows["an unknown method"] == Query((1 << 32) - 1, UnknownRequest("fetch"))
    answer = rows["a failure"]
    assert isinstance(answer, Answer)
    assert isinstance(answer.response, Failure)


@named(VECTORS["message_refusals"], "what")
def test_a_message_is_refused_with_its_code(row: dict[str, Any]) -> None:
    with pytest.raises(RemoteError) as caught:
        decode(bytes_of(row, "bytes"))
    assert caught.value.code == row["code"]


# --- Records -----------------------------------------------------------------------------------------------------


@named(VECTORS["records"], "subject")
def test_a_record_is_these_bytes(row: dict[str, Any]) -> None:
    subject = parse_subject(row["subject"])
    keys = KeyPair.from_seed(bytes.fromhex(row["seed"]))
    payload = None
    if not row["withdrawn"]:
        payload = Payload(row["room_id"], frozenset(Offer(offer) for offer in row["offers"]))
    record = sign_record(
        keys,
        subject,
        server_name=row["server_name"],
        sequence=row["sequence"],
        expires_s=row["expires_s"],
        payload=payload,
    )
    assert record.body.hex() == row["body"]
    assert record.signature.hex() == row["signature"]
    assert record.sealed.hex() == row["sealed"]
    assert parse_record(record.body, record.signature) == record
    if payload is not None:
        assert open_payload(record, subject) == payload
        plain = bytes.fromhex(row["payload"])
        nonce = hashlib.blake2b(
            keys.public_key + row["sequence"].to_bytes(8, "big") + plain, digest_size=24, key=subject.seal_key
        ).digest()
        assert nonce + bindings.crypto_secretbox(plain, nonce, subject.seal_key) == record.sealed


@named(VECTORS["record_refusals"], "what")
def test_a_record_is_refused_with_its_code(row: dict[str, str]) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_record(bytes.fromhex(row["body"]), bytes.fromhex(row["signature"]))
    assert caught.value.code == row["code"]


@named(VECTORS["record_times"], "now_s")
def test_a_records_times_are_judged_to_the_second(row: dict[str, Any]) -> None:
    keys = KeyPair.from_seed(bytes(32))
    subject = media("sha256." + "0" * 64)
    record = sign_record(keys, subject, server_name="a.org", sequence=1, expires_s=row["expires_s"], payload=Payload())
    code = ""
    try:
        check_times(record, row["now_s"])
    except RemoteError as fault:
        code = fault.code
    assert code == row["code"]


# --- Claims ------------------------------------------------------------------------------------------------------


def test_claims_rooms_and_receipts_are_these_bytes() -> None:
    row = VECTORS["claims"]
    subject, keys = parse_subject(row["subject"]), KeyPair.from_seed(bytes.fromhex(row["seed"]))
    key = subject.key.to_bytes(32, "big")
    for name in ("claim", "withdrawn"):
        claim = parse_claim(bytes.fromhex(row[name]["body"]), bytes.fromhex(row[name]["signature"]))
        assert (claim.key, claim.public_key, claim.withdrawn) == (subject.key, keys.public_key, name == "withdrawn")
    digest = hashlib.blake2b(
        b"mediadht/1/room\n" + row["room_id"].encode(), digest_size=32, key=subject.seal_key
    ).digest()
    assert digest.hex() == row["digest"]
    receipts = tuple(
        RawReceipt(bytes.fromhex(r["public_key"]), r["expires_s"], r["replicas"], bytes.fromhex(r["signature"]))
        for r in row["receipts"]
    )
    room = parse_room(SignedRoom(bytes.fromhex(row["room"]["body"]), bytes.fromhex(row["room"]["signature"]), receipts))
    assert room.digest == digest
    assert open_room(room, subject) == row["room_id"]
    for receipt in receipts:
        signed = b"mediadht/1/receipt\n" + key + digest + receipt.expires_s.to_bytes(8, "big") + bytes([2])
        assert bindings.crypto_sign_open(receipt.signature + signed, receipt.public_key) == signed
    for name, value in row["ranks"].items():
        assert hashlib.sha256(b"mediadht/1/rank\n" + key + name.encode()).hexdigest() == value
    assert row["quorums"] == [2 * n // 3 + 1 for n in range(1, 21)]


# --- Vectors that others have published --------------------------------------------------------------------------


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here: published vectors lie beside the repository, not in it")
    return path


def test_our_signatures_are_those_of_the_matrix_specification() -> None:
    published = json.loads(shared("matrix_spec_vectors.json").read_text(encoding="utf-8"))
    seed = base64.b64decode(published["seed_unpadded_base64"] + "=")
    row = next(row for row in published["sign_json"] if row["input"] == {})
    signature = row["signed"]["signatures"][published["server_name"]][published["key_id"]]
    assert KeyPair.from_seed(seed).sign(b"{}") == base64.b64decode(signature + "==")


def test_a_media_id_names_the_sha256_that_others_compute() -> None:
    with shared("multihash_test_cases.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["algorithm"], row["bits"]) == ("sha2-256", "256")]
    assert rows
    for row in rows:
        digest = hashlib.sha256(row["input"].encode()).hexdigest()
        assert row["multihash"] == "1220" + digest
        assert media("sha256." + digest).id.endswith(digest)
