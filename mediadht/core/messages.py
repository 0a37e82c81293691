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
    "Query",
    "Request",
    "Response",
    "SignedBytes",
    "UnknownRequest",
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


@dataclass(frozen=True, slots=True)
class Failure:
    """The request was not served: a `Code`, and a text for people."""

    code: str
    why: str = ""


Request: TypeAlias = Ping | Find | Get | Put | UnknownRequest
Response: TypeAlias = Pong | Found | Got | PutDone | Failure


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
