"""A node's own claims: each from the owner's question to the room that everybody agrees on.

Leads `claimant`'s machine: sweeps feed it, timers wake it, its actions become messages and notices. Always: every
`StartClaim` and every `EstablishRoom` is answered exactly once, within its deadline; votes not needed are given back; a
claim ends by itself with its lease. Implements `docs/protocol.md`, section "Claims". Leaves to others:
renewing rooms and healing (`healing`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never

from mediadht.core.claim_desk import best_room, is_abnormal
from mediadht.core.claim_rules import lease_ends_s
from mediadht.core.claimant import Action, Heard, Outcome, Phase, advance, count
from mediadht.core.claiming import VoteSweep, claim_rank
from mediadht.core.constants import (
    CLAIM_DEADLINE_S_MAX,
    CLAIM_LEASE_S,
    CLAIM_POLL_S_MAX,
    CLAIM_POLL_S_MIN,
    CLAIM_RETRY_S_MAX,
    CLAIM_RETRY_S_MIN,
    CLAIM_SWEEPS_UNHEARD_MAX,
    CLAIM_WAIT_S_MAX,
    CLAIMANTS_MAX,
    LOOKUP_DEADLINE_S,
)
from mediadht.core.establishing import Establishing
from mediadht.core.events import ClaimDecided, ClaimLapsed, Decision, EstablishRoom, StartClaim
from mediadht.core.identifiers import Subject
from mediadht.core.records import Record
from mediadht.core.room_records import sign_claim
from mediadht.core.state import NodeState
from mediadht.core.timers import Timer

__all__ = ["Claims"]

_WAITS_REMEMBERED_S = 600.0
_UNDECIDED = (Phase.ASKING, Phase.RETRYING, Phase.FOLLOWING, Phase.PEEKING)


@dataclass(slots=True)
class _Claim:
    """One claim of ours."""

    subject: Subject
    record: Record
    phase: Phase = Phase.ASKING
    sweep: VoteSweep | None = None
    timer: Timer | None = None
    """Of the phase: the next sweep, or the lease's end."""
    operations: dict[int, Timer] = field(default_factory=dict)
    unheard: int = 0
    others: int = 0
    """Claims of others seen in the latest sweep."""
    lease_ends_s: float = 0.0
    provisional: bool = False
    room_id: str = ""


class Claims:
    """Own claims by key. Driven by `StartClaim`, `EstablishRoom`, `ReleaseClaim`, and by timers."""

    def __init__(self, state: NodeState, establishing: Establishing) -> None:
        self._state = state
        self._establishing = establishing
        self._claims: dict[int, _Claim] = {}
        self._waiting_since: OrderedDict[int, float] = OrderedDict()
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._claims)

    # --- What the owner asks -------------------------------------------------------------------------------------

    def start(self, event: StartClaim) -> None:
        """A claim is asked for, or asked after."""
        key, state = event.subject.key, self._state
        claim = self._claims.get(key)
        if claim is not None and claim.phase not in _UNDECIDED:
            if claim.phase is Phase.HOLDING:
                self._tell_create(claim, event.operation)
            else:
                self._tell_join_own(claim, event.operation)
            return
        if not state.settings.claims:
            why = "this node takes no part in claims"
            state.tell(ClaimDecided(event.operation, event.subject, Decision.CREATE, why, provisional=True))
            return
        if claim is None and (
            len(self._claims) >= CLAIMANTS_MAX or not state.has_room_for_operation or not state.contact.server_name
        ):
            why = "too many claims are under way" if state.contact.server_name else "this node serves no homeserver"
            state.tell(ClaimDecided(event.operation, event.subject, Decision.CREATE, why, provisional=True))
            return
        is_new = claim is None
        if claim is None:
            claim = self._claims[key] = _Claim(event.subject, self._signed(event.subject))
        deadline_s = max(0.0, min(event.deadline_s, CLAIM_DEADLINE_S_MAX))
        operation, held = event.operation, claim
        claim.operations[operation] = state.after(deadline_s, lambda: self._operation_over(held, operation))
        if is_new:
            self._sweep(claim)

    def cancel(self, operation: int) -> None:
        """The owner no longer wants an answer; where nobody else does, the claim is given back."""
        for claim in list(self._claims.values()):
            timer = claim.operations.pop(operation, None)
            if timer is not None:
                timer.cancel()
                if not claim.operations and claim.phase in _UNDECIDED:
                    self._advance(claim, Outcome.RELEASED)

    def establish(self, event: EstablishRoom) -> None:
        """The room exists."""
        claim = self._claims.get(event.subject.key)
        if claim is not None:
            if claim.phase is not Phase.ESTABLISHING:
                self._advance(claim, Outcome.MADE)
            claim.room_id = event.room_id
            self._answer_all(claim, lambda operation: self._tell_join_own(claim, operation))

        def done(accepted: set[int]) -> None:
            # Where the room was not accepted, a vote may be left: it must not lapse as if nothing had come of it.
            if claim is not None and self._claims.get(event.subject.key) is claim:
                self._forget(claim, give_back=True, but=accepted)

        self._establishing.establish(event, done)

    def release(self, subject: Subject) -> None:
        """Nothing will be made. Without a claim here, perhaps one from before a restart is given back."""
        claim = self._claims.get(subject.key)
        if claim is None:
            if self._state.contact.server_name and self._state.has_room_for_operation:
                self._give_back(subject)
        elif claim.phase is not Phase.ESTABLISHING:
            self._advance(claim, Outcome.RELEASED)

    # --- The machine ---------------------------------------------------------------------------------------------

    def _advance(self, claim: _Claim, outcome: Outcome) -> None:
        claim.phase, action = advance(claim.phase, outcome)
        if claim.timer is not None:
            claim.timer.cancel()
            claim.timer = None
        match action:
            case Action.ASK:
                claim.record = self._signed(claim.subject)
                self._sweep(claim)
            case Action.PEEK:
                self._sweep(claim)
            case Action.RETRY_LATER:
                self._later(claim, CLAIM_RETRY_S_MIN, CLAIM_RETRY_S_MAX)
            case Action.POLL_LATER:
                self._later(claim, CLAIM_POLL_S_MIN, CLAIM_POLL_S_MAX)
            case Action.RELEASE_AND_POLL:
                self._give_back(claim.subject, claim)
                self._later(claim, CLAIM_POLL_S_MIN, CLAIM_POLL_S_MAX)
            case Action.TELL_CREATE:
                self._won(claim)
            case Action.TELL_JOIN:
                self._joins(claim)
            case Action.GIVE_UP:
                self._gives_up(claim)
            case Action.TELL_LAPSED:
                self._state.tell(ClaimLapsed(claim.subject))
                self._forget(claim, give_back=True)
            case Action.RELEASE:
                self._forget(claim, give_back=True)
            case Action.ESTABLISH | Action.NOTHING:
                self._stop_sweep(claim)
            case Action.TELL_CERTIFIED | Action.TELL_PROVISIONAL | Action.TELL_MOVED:
                raise AssertionError("what becomes of a room is told by its establishing")
            case _:
                assert_never(action)

    def _later(self, claim: _Claim, least_s: float, most_s: float) -> None:
        delay_s = least_s + (most_s - least_s) * self._state.random_share()
        claim.timer = self._state.after(delay_s, lambda: self._timer(claim))

    def _timer(self, claim: _Claim) -> None:
        claim.timer = None
        if claim.phase in (Phase.RETRYING, Phase.FOLLOWING):
            self._advance(claim, Outcome.TIMER)

    def _sweep(self, claim: _Claim) -> None:
        self._stop_sweep(claim)
        record = claim.record
        if claim.phase is Phase.PEEKING:
            record = self._signed(claim.subject, withdrawn=True)
        sweep: VoteSweep = VoteSweep(
            self._state,
            claim.subject,
            record,
            deadline_s=LOOKUP_DEADLINE_S,
            changed=lambda: self._count(claim, sweep, is_over=False),
            done=lambda: self._count(claim, sweep, is_over=True),
        )
        claim.sweep = sweep
        sweep.start()

    def _count(self, claim: _Claim, sweep: VoteSweep, *, is_over: bool) -> None:
        if claim.sweep is not sweep or claim.phase not in (Phase.ASKING, Phase.PEEKING):
            return
        now, heard = self._state.now, dict[int, Heard]()
        counted = sweep.counted()
        for node_id, said in counted.items():
            is_sound = not said.code and said.asked_s + said.lease_s / 2 > now
            heard[node_id] = Heard(
                granted=is_sound and claim.phase is Phase.ASKING,
                other=None if said.other is None else claim_rank(said.other),
                rooms=frozenset(room.held.room.digest for room in said.rooms),
                certified=any(room.certified for room in said.rooms),
            )
        # Before its end a sweep may not know all replicas yet: then only the quorum of the most there can be counts.
        replicas = sweep.replicas() if is_over else self._state.settings.k
        outcome = count(claim.phase, claim_rank(claim.record), heard, replicas, is_over=is_over)
        if outcome is None:
            return
        claim.others = sum(said.other is not None for said in counted.values())
        claim.unheard = claim.unheard + 1 if outcome is Outcome.UNHEARD else 0
        if outcome is Outcome.WON:
            asked = [(s.asked_s, s.lease_s) for n, s in counted.items() if heard[n].granted]
            claim.lease_ends_s = lease_ends_s(asked)
        waits = outcome in (Outcome.FIRST, Outcome.BEHIND, Outcome.HELD) and self._has_waited_enough(claim)
        if waits or claim.unheard >= CLAIM_SWEEPS_UNHEARD_MAX:
            outcome = Outcome.DEADLINE
        self._advance(claim, outcome)

    # --- Decisions -----------------------------------------------------------------------------------------------

    def _won(self, claim: _Claim) -> None:
        claim.provisional = is_abnormal(self._state)
        self._stop_sweep(claim)
        claim.timer = self._state.timers.set(claim.lease_ends_s, lambda: self._lease_over(claim))
        self._answer_all(claim, lambda operation: self._tell_create(claim, operation))

    def _lease_over(self, claim: _Claim) -> None:
        claim.timer = None
        if claim.phase is Phase.HOLDING:
            self._advance(claim, Outcome.LEASE_OVER)

    def _tell_create(self, claim: _Claim, operation: int) -> None:
        why = "the network seems to be cut in two" if claim.provisional else "a quorum of the replicas has voted for us"
        lease_s = max(0.0, claim.lease_ends_s - self._state.now)
        self._state.tell(
            ClaimDecided(operation, claim.subject, Decision.CREATE, why, provisional=claim.provisional, lease_s=lease_s)
        )

    def _joins(self, claim: _Claim) -> None:
        assert claim.sweep is not None
        best, servers = best_room(claim.subject.key, claim.sweep.rooms())
        providers = tuple(
            (record, payload)
            for record, payload in claim.sweep.providers.values()
            if payload.room_id in (None, best.room_id)
        )
        why = "the room is certified" if best.certified else "a room is there, not certified yet"
        self._waiting_since.pop(claim.subject.key, None)

        def tell(operation: int) -> None:
            self._state.tell(
                ClaimDecided(
                    operation,
                    claim.subject,
                    Decision.JOIN,
                    why,
                    provisional=not best.certified,
                    room_id=best.room_id,
                    providers=providers,
                    servers=servers,
                )
            )

        self._answer_all(claim, tell)
        self._forget(claim, give_back=bool(claim.sweep.granted()))

    def _tell_join_own(self, claim: _Claim, operation: int) -> None:
        assert self._state.contact.server_name is not None
        self._state.tell(
            ClaimDecided(
                operation,
                claim.subject,
                Decision.JOIN,
                "this server has just made the room",
                provisional=True,
                room_id=claim.room_id,
                servers=(self._state.contact.server_name,),
            )
        )

    def _gives_up(self, claim: _Claim) -> None:
        """Out of time, or of replicas."""
        self._answer_all(claim, lambda operation: self._tell_given_up(claim, operation))
        self._forget(claim, give_back=True)

    def _operation_over(self, claim: _Claim, operation: int) -> None:
        """One asker's deadline; the claim itself ends with the last of them."""
        if claim.operations.pop(operation, None) is None:
            return
        self._tell_given_up(claim, operation)
        if not claim.operations and claim.phase in _UNDECIDED:
            self._advance(claim, Outcome.DEADLINE)

    def _tell_given_up(self, claim: _Claim, operation: int) -> None:
        if claim.others and not self._has_waited_enough(claim):
            retry_s = CLAIM_POLL_S_MAX
            self._state.tell(
                ClaimDecided(
                    operation, claim.subject, Decision.WAIT, "another server is about to create it", retry_s=retry_s
                )
            )
            return
        why = "another server claims it and creates nothing" if claim.others else "too few replicas were heard in time"
        self._state.tell(ClaimDecided(operation, claim.subject, Decision.CREATE, why, provisional=True))

    def _has_waited_enough(self, claim: _Claim) -> bool:
        """Whether this server has waited for others at this key for as long as anybody must."""
        now, key = self._state.now, claim.subject.key
        while self._waiting_since:
            oldest, since_s = next(iter(self._waiting_since.items()))
            if now - since_s < _WAITS_REMEMBERED_S and len(self._waiting_since) <= CLAIMANTS_MAX:
                break
            del self._waiting_since[oldest]
        return now - self._waiting_since.setdefault(key, now) >= CLAIM_WAIT_S_MAX

    def _answer_all(self, claim: _Claim, tell: Callable[[int], None]) -> None:
        operations, claim.operations = claim.operations, {}
        for operation, timer in operations.items():
            timer.cancel()
            tell(operation)

    # --- Ends ----------------------------------------------------------------------------------------------------

    def _stop_sweep(self, claim: _Claim) -> None:
        if claim.sweep is not None:
            claim.sweep.cancel()

    def _forget(self, claim: _Claim, *, give_back: bool = False, but: Iterable[int] = ()) -> None:
        self._stop_sweep(claim)
        if claim.timer is not None:
            claim.timer.cancel()
        if self._claims.get(claim.subject.key) is claim:
            del self._claims[claim.subject.key]
        if give_back:
            self._give_back(claim.subject, claim, but)

    def _give_back(self, subject: Subject, claim: _Claim | None = None, but: Iterable[int] = ()) -> None:
        """Withdraw the claim everywhere it may be held: at those asked, or, where they are not known, by a sweep."""
        record = self._signed(subject, withdrawn=True)
        if claim is None or claim.sweep is None:
            VoteSweep(
                self._state, subject, record, deadline_s=LOOKUP_DEADLINE_S, changed=lambda: None, done=lambda: None
            ).start()
        else:
            claim.sweep.cancel()
            claim.sweep.give_back(record, but)

    def _signed(self, subject: Subject, *, withdrawn: bool = False) -> Record:
        assert self._state.contact.server_name is not None
        wall_s = self._state.wall_s
        self._sequence = max(self._sequence + 1, int(wall_s * 1_000))
        return sign_claim(
            self._state.keys,
            subject,
            server_name=self._state.contact.server_name,
            sequence=self._sequence,
            expires_s=int(wall_s + CLAIM_LEASE_S) + 1,
            withdrawn=withdrawn,
        )
