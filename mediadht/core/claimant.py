"""One claimant's way to a room: ask, count, wait or create, establish. Pure, and small enough to explore exhaustively.

`TRANSITIONS` is the whole machine: where it stands, what came out, where it goes and what is to be done. Outcomes are
read off by `count` (of votes) and `count_receipts`, from what the replicas of the key said. Always: a claimant that
was told to create holds the votes of a quorum, or was told that it is provisional; whatever it is asked, its deadline
ends it. Implements `docs/protocol.md`, section "Claims". Leaves to others: messages, time, and whom to ask (`claims`,
`claiming`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mediadht.core.claim_rules import quorum
from mediadht.core.constants import WITNESSES

__all__ = [
    "TRANSITIONS",
    "Action",
    "Heard",
    "Outcome",
    "Phase",
    "advance",
    "count",
    "count_receipts",
    "witnesses",
]


class Phase(Enum):
    """Where a claimant stands."""

    ASKING = "asking"
    """A sweep over the replicas is under way."""
    RETRYING = "retrying"
    """First in rank among those who claim, or unheard: about to ask again, votes kept."""
    FOLLOWING = "following"
    """Somebody else is about to create: about to look."""
    PEEKING = "peeking"
    """Looking, without asking for votes."""
    HOLDING = "holding"
    """Told to create; the lease runs."""
    ESTABLISHING = "establishing"
    """The room exists, and receipts are asked for."""
    CERTIFIED = "certified"
    PROVISIONAL = "provisional"
    """The room stands without a certificate; it is tried again with the key's next round."""
    MOVED = "moved"
    """The room exists, and another one is canonical."""
    JOINED = "joined"
    """There is a room already."""
    ENDED = "ended"
    """Given up, given back, or out of time."""


class Outcome(Enum):
    """What came out of a phase."""

    ROOM = "a room is there"
    WON = "a quorum of votes"
    FIRST = "too few votes, and none ranks before"
    BEHIND = "too few votes, and a claim that ranks before"
    UNHEARD = "too few answers"
    FREE = "no other claim is there"
    HELD = "another claim is there"
    TIMER = "time to ask again"
    DEADLINE = "the owner's deadline"
    MADE = "the room was made"
    LEASE_OVER = "the lease is over"
    RELEASED = "the owner gives the claim back"
    QUORUM = "a quorum of receipts"
    TAKEN = "another room is there"
    SHORT = "too few receipts"


class Action(Enum):
    """What is to be done."""

    NOTHING = "nothing"
    ASK = "ask the replicas for their votes"
    PEEK = "ask the replicas what they hold"
    RETRY_LATER = "ask again after a short jitter"
    POLL_LATER = "look again after a while"
    RELEASE_AND_POLL = "give the votes back, and look again after a while"
    TELL_CREATE = "tell the owner to create"
    TELL_JOIN = "give the votes back, tell the owner to join"
    GIVE_UP = "give the votes back, tell the owner to wait, or to create provisionally"
    ESTABLISH = "ask the replicas for receipts"
    TELL_LAPSED = "give the votes back, tell the owner that the claim has lapsed"
    RELEASE = "give the votes back"
    TELL_CERTIFIED = "tell the owner, hand the replicas the certificate"
    TELL_PROVISIONAL = "tell the owner that the room is provisional"
    TELL_MOVED = "tell the owner which room is canonical"


_UNDECIDED = (Phase.ASKING, Phase.RETRYING, Phase.FOLLOWING, Phase.PEEKING)

TRANSITIONS: Final[dict[tuple[Phase, Outcome], tuple[Phase, Action]]] = {
    (Phase.ASKING, Outcome.ROOM): (Phase.JOINED, Action.TELL_JOIN),
    (Phase.ASKING, Outcome.WON): (Phase.HOLDING, Action.TELL_CREATE),
    (Phase.ASKING, Outcome.FIRST): (Phase.RETRYING, Action.RETRY_LATER),
    (Phase.ASKING, Outcome.UNHEARD): (Phase.RETRYING, Action.RETRY_LATER),
    (Phase.ASKING, Outcome.BEHIND): (Phase.FOLLOWING, Action.RELEASE_AND_POLL),
    (Phase.RETRYING, Outcome.TIMER): (Phase.ASKING, Action.ASK),
    (Phase.FOLLOWING, Outcome.TIMER): (Phase.PEEKING, Action.PEEK),
    (Phase.PEEKING, Outcome.ROOM): (Phase.JOINED, Action.TELL_JOIN),
    (Phase.PEEKING, Outcome.HELD): (Phase.FOLLOWING, Action.POLL_LATER),
    (Phase.PEEKING, Outcome.FREE): (Phase.ASKING, Action.ASK),
    **{(phase, Outcome.DEADLINE): (Phase.ENDED, Action.GIVE_UP) for phase in _UNDECIDED},
    **{(phase, Outcome.RELEASED): (Phase.ENDED, Action.RELEASE) for phase in (*_UNDECIDED, Phase.HOLDING)},
    (Phase.HOLDING, Outcome.LEASE_OVER): (Phase.ENDED, Action.TELL_LAPSED),
    **{
        (phase, Outcome.MADE): (Phase.ESTABLISHING, Action.ESTABLISH)
        for phase in (*_UNDECIDED, Phase.HOLDING, Phase.JOINED, Phase.ENDED, Phase.PROVISIONAL, Phase.MOVED)
    },
    (Phase.ESTABLISHING, Outcome.QUORUM): (Phase.CERTIFIED, Action.TELL_CERTIFIED),
    (Phase.ESTABLISHING, Outcome.TAKEN): (Phase.MOVED, Action.TELL_MOVED),
    (Phase.ESTABLISHING, Outcome.SHORT): (Phase.PROVISIONAL, Action.TELL_PROVISIONAL),
}
"""What is missing does not happen. A room that was made is established whatever the claim came to: the receipts decide,
not the votes."""


def advance(phase: Phase, outcome: Outcome) -> tuple[Phase, Action]:
    """Where it goes from `phase`, and what is to be done."""
    return TRANSITIONS[phase, outcome]


@dataclass(frozen=True, slots=True)
class Heard:
    """What one replica said to a claim, or to a look."""

    granted: bool
    other: bytes | None = None
    """The rank of the claim of somebody else that it holds."""
    rooms: frozenset[bytes] = frozenset()
    """The digests of rooms that it showed, checked and opened."""
    certified: bool = False
    """Whether one of them is certified."""


def witnesses(replicas: int) -> int:
    """How many replicas must show a provisional room before it keeps a claimant that has a quorum from creating.

    One liar shall not; and in a small network every honest replica counts.
    """
    return min(WITNESSES, replicas - quorum(replicas) + 1)


def count(phase: Phase, own: bytes, heard: Mapping[int, Heard], replicas: int, *, is_over: bool) -> Outcome | None:
    """What came out of a sweep over `replicas` replicas, of which those in `heard` answered; None while it may change.

    `own` is the rank of our claim. With enough votes a sweep is won at once, before the last have answered.
    """
    shown = Counter(digest for said in heard.values() for digest in said.rooms)
    if any(said.certified for said in heard.values()) or max(shown.values(), default=0) >= witnesses(replicas):
        return Outcome.ROOM
    votes = sum(said.granted for said in heard.values())
    if phase is Phase.ASKING and votes >= quorum(replicas):
        return Outcome.WON
    if not is_over:
        return None
    if shown:
        return Outcome.ROOM
    others = [said.other for said in heard.values() if said.other is not None]
    if phase is Phase.PEEKING:
        return Outcome.HELD if others else Outcome.FREE
    if not others:
        return Outcome.UNHEARD
    return Outcome.BEHIND if min(others) < own else Outcome.FIRST


def count_receipts(receipts: int, canonical: bytes | None, own: bytes, replicas: int) -> Outcome:
    """What came out of asking `replicas` replicas for receipts of the room `own`.

    `canonical` is the room that follows from what they showed, ours included.
    """
    if receipts >= quorum(replicas):
        return Outcome.QUORUM
    return Outcome.SHORT if canonical in (None, own) else Outcome.TAKEN
