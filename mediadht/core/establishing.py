"""From a room that exists to a room that is certified: receipts of a quorum, then the certificate to all replicas.

Three rounds. The first asks for receipts, which are short-lived; with a quorum of them the owner is told. The second
hands the certificate to the replicas, which now sign for as long as a room is valid. The third stores these long-lived
receipts, for readers. A renewal brings the receipts it has and needs the last two only. Implements
`docs/protocol.md`, section "Room records".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mediadht.core.claim_desk import KnownRoom, is_abnormal, judge
from mediadht.core.claim_rules import canonical, quorum
from mediadht.core.claimant import Action, Phase, advance, count_receipts
from mediadht.core.claiming import ReceiptSweep
from mediadht.core.constants import LOOKUP_DEADLINE_S, ROOM_VALIDITY_S
from mediadht.core.events import EstablishRoom, RoomEstablished, RoomRenewed
from mediadht.core.identifiers import Subject
from mediadht.core.keys import node_id_of
from mediadht.core.messages import RawReceipt
from mediadht.core.room_records import Room, sign_room
from mediadht.core.state import NodeState
from mediadht.core.timers import Timer

__all__ = ["Established", "Establishing"]


@dataclass(frozen=True, slots=True)
class Established:
    """How it ended."""

    room: Room
    certified: bool
    canonical_room_id: str
    accepted: tuple[int, ...]
    replicas: int


@dataclass(slots=True)
class _Task:
    """One room under way."""

    subject: Subject
    room_id: str
    done: Callable[[Established, list[KnownRoom]], None]
    sweep: ReceiptSweep | None = None
    timer: Timer | None = None
    others: dict[bytes, KnownRoom] = field(default_factory=dict)
    is_told: bool = False


class Establishing:
    """Rooms of ours on their way to a certificate, by key."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._sequence = 0
        self.rooms: dict[int, tuple[Subject, str, Room]] = {}
        """Own rooms as they were last established: what is renewed."""

    def establish(self, event: EstablishRoom, done: Callable[[set[int]], None]) -> None:
        """Have a room established for the owner, who is told within the deadline; `done` gets who accepted it."""

        def ended(result: Established, others: list[KnownRoom]) -> None:
            is_other = result.canonical_room_id != event.room_id
            why = "a quorum of the replicas has accepted it"
            if is_other:
                why = "another room is canonical"
            elif not result.certified:
                why = "too few replicas have accepted it yet; it is tried again"
            self._state.tell(
                RoomEstablished(
                    event.operation,
                    event.subject,
                    event.room_id,
                    result.certified,
                    result.canonical_room_id,
                    len(result.accepted),
                    result.replicas,
                    why,
                )
            )
            done(set(result.accepted))

        self.run(event.subject, event.room_id, ended, deadline_s=event.deadline_s)

    def run(
        self,
        subject: Subject,
        room_id: str,
        done: Callable[[Established, list[KnownRoom]], None],
        *,
        deadline_s: float,
    ) -> None:
        """Establish `room_id`, or renew it; `done` is called once, with all rooms that were seen, the own included."""
        held = self.rooms.get(subject.key)
        receipts = held[2].receipts if held is not None and held[1] == room_id else ()
        task = _Task(subject, room_id, done)
        task.timer = self._state.after(min(deadline_s, LOOKUP_DEADLINE_S), lambda: self._out_of_time(task))
        self._round(task, receipts, self._first_over)

    def restore(self, subject: Subject, room_id: str, room: Room) -> None:
        """Take back an own room from before a restart."""
        self.rooms[subject.key] = (subject, room_id, room)
        self._sequence = max(self._sequence, room.record.sequence)

    # --- Rounds --------------------------------------------------------------------------------------------------

    def _round(
        self, task: _Task, receipts: tuple[RawReceipt, ...], over: Callable[[_Task, ReceiptSweep], None]
    ) -> None:
        state = self._state
        assert state.contact.server_name is not None
        self._sequence = max(self._sequence + 1, int(state.wall_s * 1_000))
        room = sign_room(
            state.keys,
            task.subject,
            task.room_id,
            server_name=state.contact.server_name,
            sequence=self._sequence,
            expires_s=int(state.wall_s) + ROOM_VALIDITY_S,
            receipts=receipts,
        )
        sweep: ReceiptSweep = ReceiptSweep(
            state,
            task.subject,
            room,
            deadline_s=LOOKUP_DEADLINE_S,
            changed=lambda: self._changed(task, sweep),
            done=lambda: over(task, sweep),
        )
        task.sweep = sweep
        sweep.start()

    def _changed(self, task: _Task, sweep: ReceiptSweep) -> None:
        """Tell as soon as there are as many receipts as any set of replicas needs; the rest still come."""
        for known in sweep.rooms():
            held = task.others.get(known.held.room.digest)
            if held is None or (known.certified and not held.certified):
                task.others[known.held.room.digest] = known
        if len(sweep.receipts()) >= quorum(self._state.settings.k) and not is_abnormal(self._state):
            self._tell(task, sweep, certified=True)

    def _first_over(self, task: _Task, sweep: ReceiptSweep) -> None:
        receipts, replicas = sweep.receipts(), sweep.replicas()
        best = self._canonical(task, sweep)
        outcome = count_receipts(len(receipts), best, sweep.room.digest, replicas)
        _, action = advance(Phase.ESTABLISHING, outcome)
        certified = action is Action.TELL_CERTIFIED and not is_abnormal(self._state)
        self._tell(task, sweep, certified=certified)
        self._keep(task, sweep.room)
        if certified:
            self._round(task, receipts, self._second_over)

    def _second_over(self, task: _Task, sweep: ReceiptSweep) -> None:
        receipts = sweep.receipts()
        if len(receipts) < quorum(sweep.replicas()):
            receipts = (*receipts, *(r for r in sweep.room.receipts if r.public_key not in _signers(receipts)))
        self._keep(task, replace(sweep.room, receipts=receipts))
        self._round(task, receipts, lambda task, sweep: self._keep(task, replace(sweep.room, receipts=receipts)))

    # --- Ends ----------------------------------------------------------------------------------------------------

    def _out_of_time(self, task: _Task) -> None:
        if task.sweep is not None and not task.is_told:
            self._tell(task, task.sweep, certified=False)

    def _tell(self, task: _Task, sweep: ReceiptSweep, *, certified: bool) -> None:
        if task.is_told:
            return
        task.is_told = True
        if task.timer is not None:
            task.timer.cancel()
        best = self._canonical(task, sweep)
        room_id = task.room_id
        if not certified and best is not None and best != sweep.room.digest:
            room_id = task.others[best].room_id
        accepted = tuple(node_id_of(receipt.public_key) for receipt in sweep.receipts())
        own = KnownRoom(judge(self._state, sweep.room), task.room_id, certified)
        seen = [own, *task.others.values()]
        task.done(Established(sweep.room, certified, room_id, accepted, sweep.replicas()), seen)

    def _canonical(self, task: _Task, sweep: ReceiptSweep) -> bytes | None:
        standings = [known.held.room.standing(certified=known.certified) for known in task.others.values()]
        own_certified = judge(self._state, sweep.room).is_certified(self._state.wall_s)
        return canonical(task.subject.key, [*standings, sweep.room.standing(certified=own_certified)])

    def _keep(self, task: _Task, room: Room) -> None:
        self.rooms[task.subject.key] = (task.subject, task.room_id, room)
        self._state.tell(RoomRenewed(task.subject, task.room_id, room.to_signed()))


def _signers(receipts: tuple[RawReceipt, ...]) -> set[bytes]:
    return {receipt.public_key for receipt in receipts}
