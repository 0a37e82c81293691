"""A replica's promises: its ballots for all keys, within caps; leases that end, claimants that let them.

Every new promise is handed out as a `Promise`, to be on disk before the answer leaves. Always: within a promise's time
nothing here contradicts it, over restarts too. Times are the node's monotonic seconds, except where a promise is
written down: those are Unix seconds. Implements `docs/protocol.md`, section "Claims". Leaves to others: signatures,
who is near the key, room records (`claim_desk`).
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mediadht.core.ballot import FREE, Ask, Ballot, Seat, Verdict, ask, claim_ask, room_ask
from mediadht.core.constants import (
    CLAIM_BACKOFF_S_MAX,
    CLAIM_LAPSES_FREE,
    CLAIM_LEASE_S,
    CLOCK_TOLERANCE_S,
    LAPSES_REMEMBERED_MAX,
    RECEIPT_S,
    ROOM_VALIDITY_S,
    ROOMS_MAX,
    VOTES_MAX,
    VOTES_PER_DOMAIN_MAX,
    VOTES_PER_SIGNER_MAX,
)
from mediadht.core.errors import Code
from mediadht.core.record_store import count_down
from mediadht.core.records import Record

__all__ = ["ClaimVotes", "Promise"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a replica has promised for a key: to be kept over restarts. A later one of the same key replaces it."""

    key: int
    seat: Seat
    holder: bytes
    """The claimant's public key, or the room's digest; empty where nothing is promised any more."""
    until_s: float
    """Unix time."""
    body: bytes = b""
    signature: bytes = b""
    """Of the claim that was voted for, so that it can be shown."""


class ClaimVotes:
    """Ballots by key. `registrable_domain` maps a server's name to its registrable domain."""

    def __init__(self, registrable_domain: Callable[[str], str | None], *, votes_max: int = VOTES_MAX) -> None:
        self._domain_of = registrable_domain
        self._votes_max = votes_max
        self._ballots: dict[int, Ballot] = {}
        self._claims: dict[int, Record] = {}
        self._ends: list[tuple[float, int]] = []
        self._per_signer: Counter[bytes] = Counter()
        self._per_domain: Counter[str] = Counter()
        self._lapses: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        """By claimant: how many leases it let lapse, and when the last one did."""
        self._lapsed_here: OrderedDict[tuple[int, bytes], float] = OrderedDict()
        self.refusals: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ballots)

    def ballot(self, key: int, now: float) -> Ballot:
        """The ballot of a key at this time."""
        self._end_leases(now)
        return self._ballots.get(key, FREE)

    def held_claim(self, key: int, now: float) -> Record | None:
        """The claim that has the vote for a key."""
        return self._claims.get(key) if self.ballot(key, now).seat is Seat.VOTED else None

    def votes(self, now: float) -> list[tuple[Record, float]]:
        """All claims voted for, each with what is left of its lease."""
        self._end_leases(now)
        return [(claim, self._ballots[key].until_s - now) for key, claim in self._claims.items()]

    def claim(
        self, claim: Record, now: float, wall_s: float, lease_s: float = CLAIM_LEASE_S
    ) -> tuple[Code | None, list[Promise]]:
        """Vote for a claim, or take a withdrawn one's vote back. None where it has the vote, or gave it back."""
        key, ballot = claim.key, self.ballot(claim.key, now)
        of = claim_ask(ballot, claim.public_key, is_release=claim.withdrawn)
        held = self._claims.get(key)
        if of in (Ask.CLAIM_SAME, Ask.RELEASE_SAME) and held is not None and claim.sequence < held.sequence:
            # Sent before the claim that is held: a release that was overtaken frees nothing.
            return None, []
        if of is Ask.CLAIM_OTHER and ballot.seat is Seat.FREE:
            code = self._refusal(claim, now)
            if code is not None:
                self.refusals[code] += 1
                return code, []
        after, verdict = ask(ballot, of, claimant=claim.public_key, until_s=now + min(lease_s, CLAIM_LEASE_S))
        if verdict in (Verdict.VOTED, Verdict.TAKEN):
            code = Code.VOTED if verdict is Verdict.VOTED else Code.TAKEN
            self.refusals[code] += 1
            return code, []
        if of is Ask.CLAIM_SAME:
            self._claims[key] = claim
            return None, []
        if of is Ask.RELEASE_SAME and ballot.until_s - now < CLAIM_LEASE_S / 2:
            # Held for long and nothing came of it: given back just before the end it is as good as lapsed.
            self._lapse(key, claim.public_key, now)
        return None, self._set(key, after, claim if verdict is Verdict.GRANTED else None, now, wall_s)

    def room(
        self, key: int, signer: bytes, digest: bytes, now: float, wall_s: float, *, is_proved: bool
    ) -> tuple[Code | None, float, list[Promise]]:
        """Accept a room for its key, or not. With None come the Unix time until which no other will be accepted.

        `is_proved` says that it brings a valid certificate, and ranks before what this replica holds.
        """
        ballot = self.ballot(key, now)
        if ballot.seat is Seat.FREE and len(self._ballots) >= ROOMS_MAX + self._votes_max:
            self.refusals[Code.STORE_FULL] += 1
            return Code.STORE_FULL, 0.0, []
        life_s = (ROOM_VALIDITY_S if is_proved else RECEIPT_S) + CLOCK_TOLERANCE_S
        of = room_ask(ballot, signer, digest, is_proved=is_proved)
        after, verdict = ask(ballot, of, claimant=signer, digest=digest, until_s=now + life_s)
        if verdict is not Verdict.GRANTED:
            code = Code.VOTED if verdict is Verdict.VOTED else Code.TAKEN
            self.refusals[code] += 1
            return code, 0.0, []
        return None, after.until_s - now + wall_s, self._set(key, after, None, now, wall_s)

    def restore(self, promises: Iterable[tuple[Promise, Record | None]], now: float, wall_s: float) -> None:
        """Take back what was on disk; each vote with the claim that it was for."""
        for promise, claim in promises:
            longest_s = CLAIM_LEASE_S if promise.seat is Seat.VOTED else ROOM_VALIDITY_S + CLOCK_TOLERANCE_S
            left_s = min(promise.until_s - wall_s, longest_s)
            if left_s > 0 and promise.seat is not Seat.FREE and (claim is not None or promise.seat is Seat.BOUND):
                self._set(promise.key, Ballot(promise.seat, promise.holder, now + left_s), claim, now, wall_s)

    def _set(self, key: int, ballot: Ballot, claim: Record | None, now: float, wall_s: float) -> list[Promise]:
        before = self._ballots.get(key, FREE)
        if ballot == before:
            return []
        self._forget_claim(key)
        if ballot.seat is Seat.FREE:
            self._ballots.pop(key, None)
            return [Promise(key, Seat.FREE, b"", 0.0)]
        self._ballots[key] = ballot
        heapq.heappush(self._ends, (ballot.until_s, key))
        if len(self._ends) > 2 * len(self._ballots) + 64:
            self._ends = [(b.until_s, k) for k, b in self._ballots.items()]
            heapq.heapify(self._ends)
        until_s = ballot.until_s - now + wall_s
        if ballot.seat is Seat.BOUND or claim is None:
            return [Promise(key, ballot.seat, ballot.holder, until_s)]
        self._claims[key] = claim
        self._per_signer[claim.public_key] += 1
        self._per_domain[self._domain(claim)] += 1
        return [Promise(key, ballot.seat, ballot.holder, until_s, claim.body, claim.signature)]

    def _forget_claim(self, key: int) -> None:
        claim = self._claims.pop(key, None)
        if claim is not None:
            count_down(self._per_signer, claim.public_key)
            count_down(self._per_domain, self._domain(claim))

    # --- Ends ----------------------------------------------------------------------------------------------------

    def _end_leases(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            until_s, key = heapq.heappop(self._ends)
            ballot = self._ballots.get(key)
            if ballot is None or ballot.until_s != until_s:
                continue
            if ballot.seat is Seat.VOTED:
                self._lapse(key, ballot.holder, until_s)
            ask(ballot, Ask.LAPSE)
            self._forget_claim(key)
            del self._ballots[key]

    def _lapse(self, key: int, claimant: bytes, at_s: float) -> None:
        count, last_s = self._lapses.pop(claimant, (0, float("-inf")))
        if at_s - last_s > CLAIM_BACKOFF_S_MAX:
            count = 0
        self._lapses[claimant] = (count + 1, at_s)
        self._lapsed_here[key, claimant] = at_s
        for remembered in (self._lapses, self._lapsed_here):
            if len(remembered) > LAPSES_REMEMBERED_MAX:
                remembered.popitem(last=False)

    def _refusal(self, claim: Record, now: float) -> Code | None:
        """Why a claim gets no vote although it is free."""
        signer = claim.public_key
        if now < self._lapsed_here.get((claim.key, signer), float("-inf")) + CLAIM_LEASE_S:
            return Code.LAPSED
        count, last_s = self._lapses.get(signer, (0, 0.0))
        if count >= CLAIM_LAPSES_FREE:
            backoff_s = min(CLAIM_BACKOFF_S_MAX, CLAIM_LEASE_S * 2 ** min(count - CLAIM_LAPSES_FREE, 16))
            if now < last_s + backoff_s:
                return Code.LAPSED
        if len(self._claims) >= self._votes_max:
            return Code.STORE_FULL
        if self._per_signer[signer] >= VOTES_PER_SIGNER_MAX:
            return Code.SIGNER_FULL
        if self._per_domain[self._domain(claim)] >= VOTES_PER_DOMAIN_MAX:
            return Code.DOMAIN_FULL
        return None

    def _domain(self, claim: Record) -> str:
        return self._domain_of(claim.server_name) or claim.server_name
