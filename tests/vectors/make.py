"""Makes `protocol.json`, the test vectors of `docs/protocol.md`, from fixed seeds: the same bytes in every run.

    python tests/vectors/make.py            print them
    python tests/vectors/make.py --write    write tests/vectors/protocol.json

Bytes are lower-case hexadecimal. A test regenerates the file and compares, and reads every vector.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgpack
from nacl import bindings

from mediadht.core.claim_rules import quorum, rank, room_digest
from mediadht.core.codec import encode
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code, RemoteError
from mediadht.core.identifiers import Subject, parse_subject
from mediadht.core.keys import KeyPair
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
    RoomDone,
    UnknownRequest,
    Vote,
)
from mediadht.core.records import Offer, Payload, Record, sign_record
from mediadht.core.room_records import Room, sign_claim, sign_receipt, sign_room
from mediadht.core.session import Hello, PeerSession, Role, refusal_frame

PATH = Path(__file__).with_name("protocol.json")

HEX = "".join(f"{n:02x}" for n in range(32))
ALICE, BOB = KeyPair.from_seed(bytes([0xA1] * 32)), KeyPair.from_seed(bytes([0xB0] * 32))
ALICE_CONTACT = Contact.of(ALICE.public_key, ("wss://alice.example.org/_mediadht",), "alice.example.org")
BOB_CONTACT = Contact.of(BOB.public_key, ("wss://bob.example.net:8448/", "ws://127.0.0.1:9/"), "bob.example.net:8448")
NOW_S = 1_800_000_000
MEDIA, ROOM = parse_subject("sha256." + HEX), parse_subject("!room:example.org")

SUBJECTS = [
    "sha256." + HEX,
    "sha256-merkle." + HEX,
    "!sha256." + HEX,
    "!room:example.org",
    "!room:example.org:8448",
    "!room:[2001:db8::1]:8448",
    "!Zw\u00f6lf \u2603:example.org",
    "!" + "A" * 43,
    "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
    "!" + "x" * (255 - len("!:example.org")) + ":example.org",
]
NO_SUBJECTS = [
    "",
    "sha256." + HEX.upper(),
    "sha256." + HEX[:-1],
    "sha512." + HEX,
    "!",
    "!room",
    "!:example.org",
    "!" + "A" * 42,
    "!" + "A" * 44,
    "!room:",
    "!room:exa mple.org",
    "!room:example.org:65536",
    "!ro\x00om:example.org",
    "#alias:example.org",
    "!" + "x" * (256 - len("!:example.org")) + ":example.org",
]


def main() -> None:
    """Print the vectors, or write them to their file."""
    text = made()
    if "--write" in sys.argv[1:]:
        PATH.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def made() -> str:
    """The vectors as JSON text."""
    vectors = {
        "about": "Test vectors of the mediadht protocol, version 1; see docs/protocol.md. Bytes are hexadecimal.",
        "subjects": [subject_vector(text) for text in SUBJECTS],
        "no_subjects": NO_SUBJECTS,
        "nodes": [
            {"seed": seed.hex(), "public_key": keys.public_key.hex(), "node_id": f"{keys.node_id:064x}"}
            for seed in (bytes(32), bytes([0xA1] * 32), bytes([0xB0] * 32))
            for keys in (KeyPair.from_seed(seed),)
        ],
        "handshake": handshake_vector(),
        "handshake_refusals": handshake_refusals(),
        "messages": [message_vector(name, message) for name, message in messages().items()],
        "message_refusals": message_refusals(),
        "records": [record_vector(**wish) for wish in record_wishes()],
        "claims": claims_vector(),
        "record_refusals": record_refusals(),
        "record_times": record_times(),
    }
    return json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"


def subject_vector(text: str) -> dict[str, str]:
    subject = parse_subject(text)
    return {
        "text": text,
        "kind": subject.kind,
        "id": subject.id,
        "key": f"{subject.key:064x}",
        "seal_key": subject.seal_key.hex(),
    }


# --- Handshake and frames ----------------------------------------------------------------------------------------


def hello(contact: Contact, agent: str) -> Hello:
    return Hello(contact, bytes(range(8)), 3_600, NOW_S, agent)


def dialer(network: str = "mediadht") -> PeerSession:
    return PeerSession(
        Role.DIALER,
        ALICE,
        hello(ALICE_CONTACT, "alice/1"),
        network=network,
        ephemeral_seed=bytes([0xE1] * 32),
        expected_node_id=BOB.node_id,
    )


def listener(keys: KeyPair = BOB) -> PeerSession:
    return PeerSession(
        Role.LISTENER, keys, hello(BOB_CONTACT, "bob/1"), network="mediadht", ephemeral_seed=bytes([0xE2] * 32)
    )


def hello_fields(keys_seed: bytes, ephemeral_seed: bytes, said: Hello) -> dict[str, Any]:
    return {
        "seed": keys_seed.hex(),
        "ephemeral_seed": ephemeral_seed.hex(),
        "endpoints": list(said.contact.endpoints),
        "server_name": said.contact.server_name,
        "instance": said.instance.hex(),
        "uptime_s": said.uptime_s,
        "clock_s": said.clock_s,
        "agent": said.agent,
        "probe": said.probe,
    }


def handshake_vector() -> dict[str, Any]:
    one, other = dialer(), listener()
    offer = one.outgoing()
    other.receive(offer)
    reply = other.outgoing()
    one.receive(reply)
    proof = one.outgoing()
    other.receive(proof)
    reply_fields = msgpack.unpackb(reply[4:])
    return {
        "network": "mediadht",
        "dialer": hello_fields(bytes([0xA1] * 32), bytes([0xE1] * 32), hello(ALICE_CONTACT, "alice/1")),
        "listener": hello_fields(bytes([0xB0] * 32), bytes([0xE2] * 32), hello(BOB_CONTACT, "bob/1")),
        "offer": offer.hex(),
        "reply": reply.hex(),
        "proof": proof.hex(),
        "shared_secret": bindings.crypto_scalarmult(bytes([0xE1] * 32), reply_fields["e"]).hex(),
        "transcript": one._transcript.hex(),
        "dialer_key": one._send_key.hex(),
        "listener_key": one._receive_key.hex(),
        "dialer_identity": one._identity().hex(),
        "listener_identity": other._identity().hex(),
        "frames_of_dialer": [
            {"plain": plain.hex(), "frame": one.seal(plain).hex()} for plain in (b"", encode(Query(1, Ping())))
        ],
        "frames_of_listener": [
            {"plain": plain.hex(), "frame": other.seal(plain).hex()} for plain in (encode(Answer(1, Pong())), b"x" * 40)
        ],
    }


def frame(fields_: Any) -> str:
    payload: bytes = msgpack.packb(fields_)
    return (len(payload).to_bytes(4, "big") + payload).hex()


def handshake_refusals() -> list[dict[str, Any]]:
    """What one side receives as its first frame, and the code with which it ends the session."""
    offer = msgpack.unpackb(dialer().outgoing()[4:])
    wrong_key = listener(KeyPair.from_seed(bytes([0xC0] * 32)))
    wrong_key.receive(dialer().outgoing())
    refusal = refusal_frame(RemoteError(Code.WRONG_NETWORK, "elsewhere"))
    reply = {"v": 1, "e": offer["e"], "b": bytes(120)}
    rows: list[tuple[str, str, str, Code]] = [
        ("listener", "no common version", frame(offer | {"v": [2, 3]}), Code.WRONG_VERSION),
        ("listener", "a boolean is no version", frame(offer | {"v": [True]}), Code.WRONG_VERSION),
        ("listener", "17 versions", frame(offer | {"v": [1] * 17}), Code.MALFORMED),
        ("listener", "another network", frame(offer | {"n": "other"}), Code.WRONG_NETWORK),
        ("listener", "a network that is no text", frame(offer | {"n": 5}), Code.MALFORMED),
        ("listener", "a short key", frame(offer | {"e": bytes(31)}), Code.MALFORMED),
        ("listener", "a key of low order", frame(offer | {"e": bytes(32)}), Code.MALFORMED),
        ("listener", "no map", frame([1]), Code.MALFORMED),
        ("listener", "no msgpack", "00000001c1", Code.MALFORMED),
        ("listener", "a frame of 8,193 bytes", "00002001", Code.TOO_LARGE),
        ("dialer", "a refusal", refusal.hex(), Code.WRONG_NETWORK),
        ("dialer", "a version that was not offered", frame(reply | {"v": 2}), Code.WRONG_VERSION),
        ("dialer", "no identity", frame({"v": 1, "e": offer["e"]}), Code.MALFORMED),
        ("dialer", "an identity that is no box", frame(reply), Code.BAD_FRAME),
        ("dialer", "an identity that its signer does not own", wrong_key.outgoing().hex(), Code.BAD_SIGNATURE),
    ]
    return [{"to": to, "what": what, "frame": data, "code": code} for to, what, data, code in rows]


# --- Messages ----------------------------------------------------------------------------------------------------


def messages() -> dict[str, Message]:
    record = record_of(**record_wishes()[0])
    signed = (record.body, record.signature)
    known = ALICE.node_id.to_bytes(32, "big")[:8]
    claim, room = claim_of(), room_of().to_signed()
    return {
        "ping": Query(0, Ping()),
        "find": Query(1, Find(MEDIA.key, 20, known)),
        "get": Query(2, Get(MEDIA.key, ROOM.key, 16, 20, None, known)),
        "get, a further page": Query(3, Get(MEDIA.key, ROOM.key, 16, 0, BOB.node_id)),
        "put": Query(4, Put((signed,), 20, known)),
        "claim": Query(6, Claim((claim.body, claim.signature), None, 20, known)),
        "claim, handed over": Query(7, Claim((claim.body, claim.signature), 42.125)),
        "room": Query(8, PutRoom(room, 20, known)),
        "an unknown method": Query((1 << 32) - 1, UnknownRequest("fetch")),
        "pong": Answer(0, Pong()),
        "found": Answer(1, Found((ALICE_CONTACT, BOB_CONTACT, Contact.of(bytes(32))))),
        "got records": Answer(2, Got((signed,), 1)),
        "got contacts": Answer(3, Got((), 0, (BOB_CONTACT,))),
        "put done": Answer(4, PutDone((PutOutcome(), PutOutcome("stale", 1_800_000_000_001)), (BOB_CONTACT,))),
        "got rooms": Answer(2, Got((signed,), 1, (), (room,))),
        "put done, with rooms": Answer(4, PutDone((PutOutcome(), PutOutcome()), (), (b"", bytes(range(8))))),
        "vote, granted": Answer(6, Vote("", 60.0, 20, None, (), (signed,), (BOB_CONTACT,))),
        "vote, refused": Answer(7, Vote("voted", 12.5, 5, (claim.body, claim.signature), (room,))),
        "room accepted": Answer(8, RoomDone("", 20, room.receipts[0])),
        "room refused": Answer(9, RoomDone("taken", 20, None, (room,), (BOB_CONTACT,))),
        "a failure": Answer(5, Failure("unknown_method", "this node does not know the method 'fetch'")),
    }


def claim_of(*, withdrawn: bool = False) -> Record:
    return sign_claim(
        ALICE,
        MEDIA,
        server_name="alice.example.org",
        sequence=1_000 * NOW_S + withdrawn,
        expires_s=NOW_S + 61,
        withdrawn=withdrawn,
    )


def room_of() -> Room:
    digest = room_digest(MEDIA, "!room:example.org")
    receipts = tuple(sign_receipt(keys, MEDIA.key, digest, expires_s=NOW_S + 600, replicas=2) for keys in (ALICE, BOB))
    return sign_room(
        ALICE,
        MEDIA,
        "!room:example.org",
        server_name="alice.example.org",
        sequence=1_000 * NOW_S,
        expires_s=NOW_S + 604_800,
        receipts=receipts,
    )


def claims_vector() -> dict[str, Any]:
    room, names = room_of(), ("alice.example.org", "bob.example.net:8448")
    return {
        "subject": MEDIA.id,
        "seed": bytes([0xA1] * 32).hex(),
        "claim": {"body": claim_of().body.hex(), "signature": claim_of().signature.hex()},
        "withdrawn": {
            "body": claim_of(withdrawn=True).body.hex(),
            "signature": claim_of(withdrawn=True).signature.hex(),
        },
        "room_id": "!room:example.org",
        "digest": room.digest.hex(),
        "room": {"body": room.record.body.hex(), "signature": room.record.signature.hex()},
        "receipts": [
            {
                "public_key": receipt.public_key.hex(),
                "expires_s": receipt.expires_s,
                "replicas": receipt.replicas,
                "signature": receipt.signature.hex(),
            }
            for receipt in room.receipts
        ],
        "ranks": {name: rank(MEDIA.key, name).hex() for name in names},
        "quorums": [quorum(n) for n in range(1, 21)],
    }


def plain(value: Any) -> Any:
    """A message as JSON: classes by name, bytes and points as hexadecimal."""
    if is_dataclass(value):
        named = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__, **named}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return f"{value:064x}" if isinstance(value, int) and value > 1 << 64 else value


def message_vector(name: str, message: Message) -> dict[str, Any]:
    return {"name": name, "message": plain(message), "bytes": encode(message).hex()}


def message_refusals() -> list[dict[str, Any]]:
    find: dict[str, Any] = {"q": "find", "k": bytes(32), "n": 20, "x": b"", "t": 1}
    contact = [bytes(32), ["wss://a.example.org/"], None]
    receipt = [bytes(32), NOW_S, 20, bytes(64)]
    many, short = [*receipt[:2], 21, bytes(64)], [*receipt[:3], b"s"]
    rows: dict[str, Any] = {
        "no msgpack": b"\xc1",
        "nothing": b"",
        "two values": msgpack.packb(find) + b"\xc0",
        "no map": msgpack.packb([1]),
        "a key that is no text": msgpack.packb({5: 1} | find),
        "a text that is not UTF-8": b"\x81\xa1t\xa2\xff\xfe",
        "an extension type": b"\x81\xa1t\xd4\x05\x00",
        "a timestamp": b"\x81\xa1t\xd6\xff\x00\x00\x00\x00",
        "neither q nor a": {"t": 1},
        "no transaction": {"q": "ping"},
        "a transaction of 33 bits": {"q": "ping", "t": 1 << 32},
        "a transaction that is a boolean": {"q": "ping", "t": True},
        "a transaction that is a float": {"q": "ping", "t": 1.0},
        "a method of 33 characters": {"q": "m" * 33, "t": 1},
        "a short target": find | {"k": bytes(31)},
        "21 contacts wanted": find | {"n": 21},
        "prefixes of 9 bytes": find | {"x": bytes(9)},
        "33 prefixes": find | {"x": bytes(33 * 8)},
        "21 contacts": {"a": "found", "t": 1, "c": [contact] * 21},
        "a contact with 5 endpoints": {"a": "found", "t": 1, "c": [[bytes(32), contact[1] * 5, None]]},
        "plain ws to a public host": {"a": "found", "t": 1, "c": [[bytes(32), ["ws://example.org/"], None]]},
        "65 records": {"q": "put", "t": 1, "n": 0, "r": [[b"", bytes(64)]] * 65},
        "a record of 901 bytes": {"q": "put", "t": 1, "n": 0, "r": [[bytes(837), bytes(64)]]},
        "21 records in an answer": {"a": "got", "t": 1, "m": 0, "r": [[b"", bytes(64)]] * 21},
        "4 rooms in an answer": {"a": "got", "t": 1, "m": 0, "r": [], "o": [[b"", bytes(64), []]] * 4},
        "a room with 21 receipts": {"q": "room", "t": 1, "n": 0, "r": [b"", bytes(64), [receipt] * 21]},
        "a receipt of 21 replicas": {
            "q": "room",
            "t": 1,
            "n": 0,
            "r": [b"", bytes(64), [many]],
        },
        "a receipt with a short signature": {
            "q": "room",
            "t": 1,
            "n": 0,
            "r": [b"", bytes(64), [short]],
        },
        "a claim that is no record": {"q": "claim", "t": 1, "n": 0, "r": b""},
        "a lease above an hour": {"q": "claim", "t": 1, "n": 0, "r": [b"", bytes(64)], "l": 3_600_001},
        "a vote without a code": {"a": "vote", "t": 1, "l": 0, "m": 1, "r": []},
        "a vote of 21 replicas": {"a": "vote", "t": 1, "e": "", "l": 0, "m": 21, "r": []},
        "5 providers with a vote": {"a": "vote", "t": 1, "e": "", "l": 0, "m": 1, "r": [[b"", bytes(64)]] * 5},
        "a room prefix of 7 bytes": {"a": "put", "t": 1, "o": [None], "d": [bytes(7)]},
        "an outcome without a code": {"a": "put", "t": 1, "o": [["", 1]]},
    }
    found = [
        {"what": what, "bytes": (raw if isinstance(raw, bytes) else msgpack.packb(raw)).hex(), "code": Code.MALFORMED}
        for what, raw in rows.items()
    ]
    return [*found, {"what": "65,537 bytes", "bytes": "c0", "repeated": 65_537, "code": Code.TOO_LARGE}]


# --- Records -----------------------------------------------------------------------------------------------------


def record_wishes() -> list[dict[str, Any]]:
    offers = frozenset({Offer.BYTES, Offer.HISTORY})
    expires_s = NOW_S + 48 * 3_600
    return [
        {"subject": MEDIA, "sequence": 1, "expires_s": expires_s, "payload": Payload("!media:example.org", offers)},
        {"subject": MEDIA, "sequence": 1_800_000_000_000, "expires_s": expires_s, "payload": None},
        {"subject": ROOM, "sequence": 0, "expires_s": expires_s, "payload": Payload()},
    ]


def record_of(subject: Subject, sequence: int, expires_s: int, payload: Payload | None) -> Record:
    return sign_record(
        ALICE,
        subject,
        server_name="alice.example.org",
        sequence=sequence,
        expires_s=expires_s,
        payload=payload,
    )


def record_vector(subject: Subject, sequence: int, expires_s: int, payload: Payload | None) -> dict[str, Any]:
    record = record_of(subject, sequence, expires_s, payload)
    opened = None
    if payload is not None:
        sealed = record.sealed
        opened = bindings.crypto_secretbox_open(sealed[24:], sealed[:24], subject.seal_key).hex()
    return {
        "seed": bytes([0xA1] * 32).hex(),
        "subject": str(subject),
        "server_name": "alice.example.org",
        "sequence": sequence,
        "expires_s": expires_s,
        "withdrawn": payload is None,
        "room_id": None if payload is None else payload.room_id,
        "offers": None if payload is None else sorted(payload.offers),
        "payload": opened,
        "sealed": record.sealed.hex(),
        "body": record.body.hex(),
        "signature": record.signature.hex(),
    }


def record_refusals() -> list[dict[str, Any]]:
    record = record_of(**record_wishes()[0])
    right: list[Any] = msgpack.unpackb(record.body)

    def row(what: str, code: Code, *changes: tuple[int, Any], more: tuple[Any, ...] = ()) -> dict[str, Any]:
        changed = [*right, *more]
        for position, value in changes:
            changed[position] = value
        body: bytes = msgpack.packb(changed)
        signature = ALICE.sign(b"mediadht/1/record\n" + body)
        return {"what": what, "body": body.hex(), "signature": signature.hex(), "code": code}

    flipped = bytearray(record.signature)
    flipped[0] ^= 1
    return [
        row("another's public key", Code.BAD_SIGNATURE, (2, BOB.public_key)),
        {"what": "a flipped bit", "body": record.body.hex(), "signature": flipped.hex(), "code": Code.BAD_SIGNATURE},
        {
            "what": "signed without the domain",
            "body": record.body.hex(),
            "signature": ALICE.sign(record.body).hex(),
            "code": Code.BAD_SIGNATURE,
        },
        row("a kind of 256", Code.MALFORMED, (0, 256)),
        row("a short key", Code.MALFORMED, (1, bytes(31))),
        row("no server name", Code.MALFORMED, (3, "not a name")),
        row("a sequence of 64 bits", Code.MALFORMED, (4, 1 << 63)),
        row("a sequence that is a boolean", Code.MALFORMED, (4, True)),
        row("an expiry that is a float", Code.MALFORMED, (5, 1.5)),
        row("withdrawn with a payload", Code.MALFORMED, (6, True)),
        row("neither withdrawn nor with a payload", Code.MALFORMED, (7, b"")),
        row("901 bytes and more", Code.TOO_LARGE, more=(bytes(837),)),
    ]


def record_times() -> list[dict[str, Any]]:
    expires_s = NOW_S + 48 * 3_600
    rows = [(NOW_S, ""), (expires_s - 1, ""), (expires_s, Code.EXPIRED), (NOW_S - 600, ""), (NOW_S - 601, Code.CLOCK)]
    return [{"expires_s": expires_s, "now_s": now_s, "code": code} for now_s, code in rows]


if __name__ == "__main__":
    main()
