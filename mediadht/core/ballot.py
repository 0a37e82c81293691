"""One replica's ballot for one key: whom it has promised what. Pure, and small enough to be explored exhaustively.

A ballot is free, *voted* (a lease for one claim) or *bound* (a receipt was signed for one room, and none for another
will be until it has expired). What an ask does to it stands in `TRANSITIONS`, and nowhere else. Always: a ballot binds
itself to a second room only where that room brings the certificate of a quorum, or after the first receipt expired.
Implements `docs/protocol.md`, section "Claims". Leaves to others: signatures, caps, disk (`claim_votes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["FREE", "TRANSITIONS", "Ask", "Ballot", "Seat", "Verdict", "ask", "claim_ask", "room_ask"]


class Seat(Enum):
    """What a ballot has promised."""

    FREE = "free"
    VOTED = "voted"
    BOUND = "bound"


class Ask(Enum):
    """What is asked of a ballot. *Same*: by the holder of the vote, or for the room that it is bound to."""

    CLAIM_SAME = "claim, same"
    CLAIM_OTHER = "claim, other"
    RELEASE_SAME = "release, same"
    RELEASE_OTHER = "release, other"
    ROOM_SAME = "room, same"
    ROOM_OTHER = "room, other"
    PROVED_SAME = "certified room, same"
    PROVED_OTHER = "certified room, other"
    LAPSE = "time is over"


class Verdict(Enum):
    """What the asker is told."""

    GRANTED = "granted"
    VOTED = "voted"
    """Refused: another claim has the vote."""
    TAKEN = "taken"
    """Refused: another room has the key."""
    NOTED = "noted"
    """Nothing to grant or refuse."""


TRANSITIONS: Final[dict[tuple[Seat, Ask], tuple[Seat, Verdict]]] = {
    (Seat.FREE, Ask.CLAIM_OTHER): (Seat.VOTED, Verdict.GRANTED),
    (Seat.FREE, Ask.RELEASE_OTHER): (Seat.FREE, Verdict.NOTED),
    (Seat.FREE, Ask.ROOM_OTHER): (Seat.BOUND, Verdict.GRANTED),
    (Seat.FREE, Ask.PROVED_OTHER): (Seat.BOUND, Verdict.GRANTED),
    (Seat.VOTED, Ask.CLAIM_SAME): (Seat.VOTED, Verdict.GRANTED),
    (Seat.VOTED, Ask.CLAIM_OTHER): (Seat.VOTED, Verdict.VOTED),
    (Seat.VOTED, Ask.RELEASE_SAME): (Seat.FREE, Verdict.NOTED),
    (Seat.VOTED, Ask.RELEASE_OTHER): (Seat.VOTED, Verdict.NOTED),
    (Seat.VOTED, Ask.ROOM_SAME): (Seat.BOUND, Verdict.GRANTED),
    (Seat.VOTED, Ask.ROOM_OTHER): (Seat.VOTED, Verdict.VOTED),
    (Seat.VOTED, Ask.PROVED_SAME): (Seat.BOUND, Verdict.GRANTED),
    (Seat.VOTED, Ask.PROVED_OTHER): (Seat.BOUND, Verdict.GRANTED),
    (Seat.VOTED, Ask.LAPSE): (Seat.FREE, Verdict.NOTED),
    (Seat.BOUND, Ask.CLAIM_OTHER): (Seat.BOUND, Verdict.TAKEN),
    (Seat.BOUND, Ask.RELEASE_OTHER): (Seat.BOUND, Verdict.NOTED),
    (Seat.BOUND, Ask.ROOM_SAME): (Seat.BOUND, Verdict.GRANTED),
    (Seat.BOUND, Ask.ROOM_OTHER): (Seat.BOUND, Verdict.TAKEN),
    (Seat.BOUND, Ask.PROVED_SAME): (Seat.BOUND, Verdict.GRANTED),
    (Seat.BOUND, Ask.PROVED_OTHER): (Seat.BOUND, Verdict.GRANTED),
    (Seat.BOUND, Ask.LAPSE): (Seat.FREE, Verdict.NOTED),
}
"""What is missing cannot be asked: nobody is the same as nobody, and a room's claimant is not what it is bound to."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What was promised: to the claimant with this public key (voted), or to the room with this digest (bound)."""

    seat: Seat = Seat.FREE
    holder: bytes = b""
    until_s: float = 0.0
    """The replica's own monotonic time at which the promise is over."""


FREE: Final = Ballot()


def ask(
    ballot: Ballot, of: Ask, *, claimant: bytes = b"", digest: bytes = b"", until_s: float = 0.0
) -> tuple[Ballot, Verdict]:
    """The ballot after `of` was asked of it, and what to say.

    `claimant` is whose claim or release it is, or who made the room; `digest` the room's, `until_s` when a promise
    given now is over. A vote's lease is not renewed by asking again; a receipt's time is.
    """
    seat, verdict = TRANSITIONS[ballot.seat, of]
    if seat is Seat.FREE:
        return FREE, verdict
    if verdict is not Verdict.GRANTED or (seat is ballot.seat is Seat.VOTED):
        return ballot, verdict
    if seat is Seat.VOTED:
        return Ballot(seat, claimant, until_s), verdict
    if ballot.seat is Seat.BOUND and ballot.holder == digest:
        until_s = max(until_s, ballot.until_s)
    return Ballot(seat, digest, until_s), verdict


def claim_ask(ballot: Ballot, claimant: bytes, *, is_release: bool) -> Ask:
    """Which ask a claim or a release of `claimant` is."""
    is_same = ballot.seat is Seat.VOTED and ballot.holder == claimant
    if is_release:
        return Ask.RELEASE_SAME if is_same else Ask.RELEASE_OTHER
    return Ask.CLAIM_SAME if is_same else Ask.CLAIM_OTHER


def room_ask(ballot: Ballot, signer: bytes, digest: bytes, *, is_proved: bool) -> Ask:
    """Which ask a room record is: by `signer`, for the room with `digest`, with or without its certificate."""
    is_same = ballot.holder == (digest if ballot.seat is Seat.BOUND else signer) and ballot.seat is not Seat.FREE
    if is_proved:
        return Ask.PROVED_SAME if is_same else Ask.PROVED_OTHER
    return Ask.ROOM_SAME if is_same else Ask.ROOM_OTHER
