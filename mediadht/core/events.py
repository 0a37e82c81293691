"""What goes into a node and what comes out: the seam between the core and whoever drives it.

`Node.handle(event, now)` takes one `Event` and returns `Effect`s, in order. There are three kinds of effect: talk to a
peer (`Send`, `Dial`, `Probe`, `Hangup`, `Bootstrap`), wake me (`WakeAt`), and tell the owner (`Tell`, with a
`Notice`). A driver obeys effects in order and needs to know nothing else of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from mediadht.core.claim_votes import Promise
from mediadht.core.contacts import Contact
from mediadht.core.identifiers import Subject
from mediadht.core.messages import Message, SignedRoom
from mediadht.core.records import Payload, Record
from mediadht.core.session import Hello

__all__ = [
    "AnnounceWish",
    "AnnouncementProgress",
    "Bootstrap",
    "Cancel",
    "CanonicalChanged",
    "ClaimDecided",
    "ClaimLapsed",
    "ClockSet",
    "Decision",
    "Dial",
    "DialFailed",
    "Effect",
    "EstablishRoom",
    "Event",
    "Hangup",
    "Leave",
    "Left",
    "LookupEnded",
    "Notice",
    "PingEnded",
    "Probe",
    "ProbeEnded",
    "PromiseMade",
    "ProviderFound",
    "Received",
    "RecordDropped",
    "RecordKept",
    "ReleaseClaim",
    "RoomDropped",
    "RoomEstablished",
    "RoomKept",
    "RoomRenewed",
    "RoomsFound",
    "Send",
    "SessionClosed",
    "SessionOpened",
    "Start",
    "StartClaim",
    "StartLookup",
    "StartPing",
    "Tell",
    "WakeAt",
    "Woke",
]


# --- Events ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """The driver is ready to send and dial. The first event."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A session with this peer is open, the only one. `address`: the IP at which it was reached, if known."""

    hello: Hello
    outbound: bool
    address: str | None = None
    endpoint: str | None = None
    """Which of its endpoints was dialled; None inbound."""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is gone. `code` is a `Code`: `unreachable` where it broke."""

    node_id: int
    code: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    """No session could be opened for an earlier `Send` or `Dial`; its queued messages are lost."""

    node_id: int
    code: str


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded message of the peer's."""

    node_id: int
    message: Message


@dataclass(frozen=True, slots=True)
class ProbeEnded:
    """How a `Probe` ended: whether that node answered at one of its endpoints, and at which IP."""

    node_id: int
    reached: bool
    address: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Woke:
    """The time named by the latest `WakeAt` has come."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """Unix time minus the monotonic time of `now`, in seconds. Sent before `Start`, and when the clock was set."""

    offset_s: float


@dataclass(frozen=True, slots=True)
class StartLookup:
    """Find providers of `subject`; `operation` is the driver's number for it."""

    operation: int
    subject: Subject
    providers_max: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class StartPing:
    """Measure the round trip to a known node."""

    operation: int
    node_id: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """The owner no longer wants the operation; no notice of it follows."""

    operation: int


@dataclass(frozen=True, slots=True)
class AnnounceWish:
    """Announce `subject` from now on, or withdraw it if `payload` is None. The driver has made the wish durable.

    `sequence` and `stored_at_s` (Unix time of the last acknowledged round) are what was last persisted, 0 if nothing.
    `lifetime_s` shortens the record's life and ends the announcement with it (canaries); None renews it for ever.
    `withdrawn_at_s` is the Unix time at which it was withdrawn, if that was before now.
    """

    subject: Subject
    payload: Payload | None
    sequence: int = 0
    stored_at_s: float = 0.0
    lifetime_s: int | None = None
    withdrawn_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class StartClaim:
    """May we create the room of this media? A `ClaimDecided` follows, after `deadline_s` seconds at the latest.

    Asking again while the claim is held gives the same answer.
    """

    operation: int
    subject: Subject
    deadline_s: float


@dataclass(frozen=True, slots=True)
class EstablishRoom:
    """The room exists: have the key's replicas accept it. A `RoomEstablished` follows.

    Also without a claim, or after it has lapsed: at a restart, where what was claimed before is not known to be over.
    """

    operation: int
    subject: Subject
    room_id: str
    deadline_s: float


@dataclass(frozen=True, slots=True)
class ReleaseClaim:
    """The room will not be made: give the votes back. Also after a restart, for what was claimed before it."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class Leave:
    """Hand over what others should keep; a `Left` notice follows."""

    deadline_s: float


Event: TypeAlias = (
    Start
    | SessionOpened
    | SessionClosed
    | DialFailed
    | Received
    | ProbeEnded
    | Woke
    | ClockSet
    | StartLookup
    | StartPing
    | Cancel
    | AnnounceWish
    | StartClaim
    | EstablishRoom
    | ReleaseClaim
    | Leave
)


# --- Effects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send the message; open a session first if there is none. What cannot be sent ends in `DialFailed`."""

    contact: Contact
    message: Message


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a session, if there is none."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Probe:
    """Dial anew, even where a session exists, see whether this node answers, and hang up."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Hangup:
    """Close the session, giving `code` as the reason."""

    node_id: int
    code: str


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """No peer is left to talk to: try the configured bootstrap nodes."""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `Woke` at this monotonic time, in seconds; replaces the earlier one."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Something that the owner wants to know."""

    notice: Notice


# --- Notices -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderFound:
    """A provider, signature checked and payload opened; each signer once per lookup."""

    operation: int
    record: Record
    payload: Payload
    alive_s_ago: float | None
    """Seconds since the signer itself was last heard."""


@dataclass(frozen=True, slots=True)
class LookupEnded:
    """The last notice of a lookup."""

    operation: int
    providers_total: int
    replicas_answered: int
    """Nodes that answered, this one included where it holds records of the key."""
    replicas_holding: int
    """Other nodes that gave valid records."""
    requests: int
    hops: int
    """Answers that led to what was found, one upon the other (to the closest nodes where nothing was); 0: nobody
    answered."""
    complete: bool


@dataclass(frozen=True, slots=True)
class PingEnded:
    """`round_trip_s` is None where no answer came; `code` then says why."""

    operation: int
    round_trip_s: float | None
    code: str


@dataclass(frozen=True, slots=True)
class RecordKept:
    """A record was taken in for others, and should be on disk soon."""

    record: Record


@dataclass(frozen=True, slots=True)
class RecordDropped:
    """A record was given up."""

    record: Record


@dataclass(frozen=True, slots=True)
class AnnouncementProgress:
    """A round of an own announcement ended."""

    subject: Subject
    withdrawn: bool
    ended: bool
    """Nothing of it is left to do: it may be forgotten."""
    sequence: int
    replicas: int
    """Other nodes that acknowledged it: the own copy is no news to anybody."""
    requests: int
    """Of the lookup and the storing; those of one region share them."""
    hops: int
    """Answers that led to its replicas, one upon the other."""
    next_in_s: float
    trouble: str | None


class Decision(StrEnum):
    """What to do about an upload."""

    CREATE = "create"
    JOIN = "join"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class ClaimDecided:
    """The answer to a `StartClaim`. A driver writes a `CREATE` down, to establish or release it after a restart."""

    operation: int
    subject: Subject
    decision: Decision
    why: str
    """For people."""
    provisional: bool = False
    """Create, but the network was not heard, or seems to be cut in two; join, and the room is not certified."""
    room_id: str | None = None
    providers: tuple[tuple[Record, Payload], ...] = ()
    """Whom the room may be joined through, besides `servers`."""
    servers: tuple[str, ...] = ()
    """Servers that say that the room holds the key, the canonical one's first."""
    lease_s: float = 0.0
    """Create: the room must be established within this."""
    retry_s: float = 0.0
    """Wait: when to ask again."""


@dataclass(frozen=True, slots=True)
class RoomEstablished:
    """The answer to an `EstablishRoom`."""

    operation: int
    subject: Subject
    room_id: str
    certified: bool
    canonical_room_id: str
    """Another than `room_id` where that one is to be moved to."""
    receipts: int
    replicas: int
    why: str


@dataclass(frozen=True, slots=True)
class RoomRenewed:
    """An own room record with the receipts it has now: to be on disk, and given back to `Node.restore`."""

    subject: Subject
    room_id: str
    room: SignedRoom


@dataclass(frozen=True, slots=True)
class ClaimLapsed:
    """The lease of a claim that was to be created is over, and nothing was established."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class CanonicalChanged:
    """A media room that this node announces is not the canonical one of its key."""

    subject: Subject
    own_room_id: str
    room_id: str
    certified: bool
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoomsFound:
    """Room records that a lookup came by, the canonical room's first: (room ID, server name, certified)."""

    operation: int
    rooms: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True)
class PromiseMade:
    """A replica's promise. It must be on disk before any `Send` that follows it in the same list is obeyed."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class RoomKept:
    """A room record was taken in for others. On disk before any later `Send`, like a promise."""

    room: SignedRoom


@dataclass(frozen=True, slots=True)
class RoomDropped:
    """A room record was given up."""

    key: int
    signer: int


@dataclass(frozen=True, slots=True)
class Left:
    """All is handed over that could be."""

    records: int


Notice: TypeAlias = (
    ProviderFound
    | LookupEnded
    | PingEnded
    | RecordKept
    | RecordDropped
    | AnnouncementProgress
    | ClaimDecided
    | RoomEstablished
    | RoomRenewed
    | ClaimLapsed
    | CanonicalChanged
    | RoomsFound
    | PromiseMade
    | RoomKept
    | RoomDropped
    | Left
)
Effect: TypeAlias = Send | Dial | Probe | Hangup | Bootstrap | WakeAt | Tell
