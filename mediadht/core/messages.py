"""The messages of the protocol, as data.

A `Query` carries one request and its transaction number, an `Answer` the response to it. Records travel as the bytes
that their signers signed (`SignedBytes`); who receives them decides whether they are worth a signature check.
Implements `docs/protocol.md`, section "Messages". The bytes of each are `codec`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mediadht.core.contacts import Contact

__all__ = [
    "Answer",
    "Claim",
    "Failure",
    "Find",
    "Found",
    "Get",
    "Got",
    "Message",
    "Ping",
    "Pong",
    "Put",
    "PutDone",
    "PutOutcome",
    "PutRoom",
    "Query",
    "RawReceipt",
    "Request",
    "Response",
    "RoomDone",
    "SignedBytes",
    "SignedRoom",
    "UnknownRequest",
    "Vote",
]

SignedBytes: TypeAlias = tuple[bytes, bytes]
"""A record's body and its signature, unchecked."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class Find:
    """Name the contacts nearest to `target`, except those whose ID prefixes stand in `known`."""

    target: int
    contacts_max: int
    known: bytes = b""
    """Concatenated ID prefixes of `KNOWN_PREFIX_BYTES` each."""


@dataclass(frozen=True, slots=True)
class Get:
    """Hand out provider records of `key`: those whose signers are nearest to the random point `sample`.

    With `after`, those farther from `sample` than that node ID: the next page. Where the replica holds none, it names
    `contacts_max` contacts nearest to the key instead.
    """

    key: int
    sample: int
    providers_max: int
    contacts_max: int
    after: int | None = None
    known: bytes = b""


@dataclass(frozen=True, slots=True)
class Put:
    """Keep these records; and name contacts nearer to the first one's key than the asker knows."""

    records: tuple[SignedBytes, ...]
    contacts_max: int = 0
    known: bytes = b""


@dataclass(frozen=True, slots=True)
class RawReceipt:
    """One replica's word for a room, unchecked: see `room_records`."""

    public_key: bytes
    expires_s: int
    replicas: int
    """How many replicas the key has, as the signer knows it."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedRoom:
    """A room record and the receipts it won, unchecked."""

    body: bytes
    signature: bytes
    receipts: tuple[RawReceipt, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Vote for this claim: a signed record of that kind. Withdrawn, it gives the vote back, if any, and only looks.

    `lease_s` is set where a replica hands over a vote of its own.
    """

    claim: SignedBytes
    lease_s: float | None = None
    """To the millisecond."""
    contacts_max: int = 0
    known: bytes = b""


@dataclass(frozen=True, slots=True)
class PutRoom:
    """Accept this room for its key, and sign a receipt for it."""

    room: SignedRoom
    contacts_max: int = 0
    known: bytes = b""


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """A method that this version does not know; answered with `unknown_method`."""

    method: str


@dataclass(frozen=True, slots=True)
class Pong:
    """I am here."""


@dataclass(frozen=True, slots=True)
class Found:
    """Contacts, nearest first."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Got:
    """Records in order of distance from the sample point, then withdrawals; how many live ones there are in all."""

    records: tuple[SignedBytes, ...]
    total: int
    contacts: tuple[Contact, ...] = ()
    rooms: tuple[SignedRoom, ...] = ()


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """What became of one record: kept (`code` empty), or refused. `sequence` is the newer one held, where `stale`."""

    code: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class PutDone:
    """One outcome per record of the request, in its order."""

    outcomes: tuple[PutOutcome, ...]
    contacts: tuple[Contact, ...] = ()
    rooms: tuple[bytes, ...] = ()
    """For each record the first bytes of the digest of its key's room, empty where none is held; empty if none is."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What became of a claim: voted for (`code` empty), or refused; and what the replica holds at the key."""

    code: str
    lease_s: float
    """What is left of the vote's lease, the asker's or that of the claim in `holder`; to the millisecond."""
    replicas: int
    """How many replicas the key has, as this one knows it."""
    holder: SignedBytes | None = None
    """The claim of another that has the vote."""
    rooms: tuple[SignedRoom, ...] = ()
    records: tuple[SignedBytes, ...] = ()
    """Some providers."""
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class RoomDone:
    """What became of a room record: accepted (`code` empty), with a receipt, or refused."""

    code: str
    replicas: int
    receipt: RawReceipt | None = None
    rooms: tuple[SignedRoom, ...] = ()
    """Others that the replica holds, where it refused."""
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The request was not served: a `Code`, and a text for people."""

    code: str
    why: str = ""


Request: TypeAlias = Ping | Find | Get | Put | Claim | PutRoom | UnknownRequest
Response: TypeAlias = Pong | Found | Got | PutDone | Vote | RoomDone | Failure


@dataclass(frozen=True, slots=True)
class Query:
    """A request; `transaction` is the asker's own number for it, unique among its open ones to that peer."""

    transaction: int
    request: Request


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to the query of the same transaction."""

    transaction: int
    response: Response


Message: TypeAlias = Query | Answer
