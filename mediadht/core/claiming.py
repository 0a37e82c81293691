"""Sweeps over a key's replicas: ask for votes, ask for receipts. Thin specialisations of the one lookup engine.

A sweep converges on the key and asks, on the way, every node that is near enough to be a replica; whoever of the k
closest was not asked by then is asked in a last round. Counted is what the key's replicas said: the k closest nodes
that live, those among them that did not answer included. Implements `docs/protocol.md`, section "Claims", the asking
side. Leaves to others: what follows from a sweep (`claims`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mediadht.core.claim_desk import KnownRoom, answer_claim, answer_room, known_rooms, replicas_known, vote_for
from mediadht.core.claim_rules import rank, replicas_named
from mediadht.core.constants import (
    ALPHA,
    CLAIM_LEASE_S,
    ID_BYTES,
    LIKELY_TO_CERTIFY,
    LIKELY_TO_STORE,
    RECEIPTS_MAX,
    STORE_PARALLELISM,
)
from mediadht.core.errors import RemoteError
from mediadht.core.identifiers import Subject
from mediadht.core.keys import node_id_of
from mediadht.core.lookup import State
from mediadht.core.messages import Claim, Find, Found, PutRoom, RawReceipt, Request, Response, RoomDone, Vote
from mediadht.core.operations import LookupOperation
from mediadht.core.records import Payload, Record, RecordKind, open_payload, parse_record
from mediadht.core.requests import Pending
from mediadht.core.room_records import Room, check_receipt, parse_claim
from mediadht.core.state import NodeState

__all__ = ["ReceiptSweep", "ReplicaSweep", "Said", "VoteSweep", "claim_rank"]


@dataclass(slots=True)
class Said:
    """What one replica said, checked."""

    code: str
    asked_s: float
    lease_s: float
    replicas: int
    other: Record | None = None
    rooms: list[KnownRoom] = field(default_factory=list)
    receipt: RawReceipt | None = None


class _Nobody:
    """Asks without waiting."""

    def on_answer(self, pending: Pending, response: Response) -> None:
        """Nothing follows."""

    def on_slow(self, pending: Pending) -> None:
        """Nothing follows."""

    def on_lost(self, pending: Pending, code: str) -> None:
        """The vote lapses by itself."""


def claim_rank(claim: Record) -> bytes:
    """The rank of a claim: of its server, then of its node, so that no two are equal."""
    return rank(claim.key, claim.server_name) + claim.node_id.to_bytes(ID_BYTES, "big")


class ReplicaSweep(LookupOperation):
    """Ask all replicas of a key the same. `changed` is called with every answer, `done` once at the end."""

    def __init__(
        self,
        state: NodeState,
        subject: Subject,
        *,
        deadline_s: float,
        changed: Callable[[], None],
        done: Callable[[], None],
        careful: bool = False,
    ) -> None:
        key = subject.key
        self.subject = subject
        self.said: dict[int, Said] = {}
        self.providers: dict[int, tuple[Record, Payload]] = {}
        self._changed = changed
        self._done = done
        self._asked_s: dict[int, float] = {}
        self._last_asked = False
        self._open: set[int] = set()
        near = state.book.live.closest(key, state.settings.k)
        is_warm = bool(near) and near[-1] ^ key <= state.likely_distance(LIKELY_TO_STORE)
        super().__init__(
            state,
            key,
            deadline_s=deadline_s,
            likely=LIKELY_TO_STORE,
            parallelism=STORE_PARALLELISM if is_warm and not careful else ALPHA,
        )

    @abstractmethod
    def ask(self) -> Request:
        """What every replica is asked."""

    @abstractmethod
    def read(self, node_id: int, response: Response) -> Said | None:
        """What its answer says; None if it is none."""

    @abstractmethod
    def ask_self(self) -> Response:
        """What this node answers itself, being a replica."""

    def start(self) -> None:
        """Ask; `changed` and `done` may be called from within."""
        is_asked = self.state.settings.claims
        if is_asked and self.state.own_id in self.state.closest_live(self.target, self.state.settings.k):
            self._asked_s[self.state.own_id] = self.state.now
            said = self.read(self.state.own_id, self.ask_self())
            if said is not None:
                self.said[self.state.own_id] = said
                self._changed()
        self.proceed()

    # --- Whom it counts ------------------------------------------------------------------------------------------

    def replica_ids(self) -> list[int]:
        """The key's replicas, as far as is known now: the k closest that live or have answered, this node included."""
        ids = {*self.lookup.closest_answered(), *self.state.closest_live(self.target, self.state.settings.k)}
        if not self.state.is_replica:
            ids.discard(self.state.own_id)
        return sorted(ids, key=self.target.__xor__)[: self.state.settings.k]

    def counted(self) -> dict[int, Said]:
        """What the replicas said, nearest first."""
        return {node_id: self.said[node_id] for node_id in self.replica_ids() if node_id in self.said}

    def replicas(self) -> int:
        """How many replicas the key has: what they say themselves, and at least as many as are known here."""
        own = max(replicas_known(self.state), min(self.state.settings.k, len(self.replica_ids())))
        return replicas_named(own, (said.replicas for said in self.counted().values()))

    def granted(self) -> list[int]:
        """Everybody who said yes, replica or not."""
        return [node_id for node_id, said in self.said.items() if not said.code]

    def rooms(self) -> list[KnownRoom]:
        """All rooms that were shown."""
        return [room for said in self.said.values() for room in said.rooms]

    # --- Asking --------------------------------------------------------------------------------------------------

    def request_for(self, node_id: int) -> Request:
        if node_id ^ self.target > self.likely_distance:
            return Find(self.target, self.state.settings.k, self.known_prefixes())
        self._asked_s[node_id] = self.state.now
        return self.ask()

    def take(self, pending: Pending, response: Response) -> None:
        node_id = pending.node_id
        self._open.discard(node_id)
        if isinstance(response, Found):
            self.lookup.answered(node_id, self.state.learn(response.contacts))
            return
        said = self.read(node_id, response)
        if said is None:
            self.lookup.failed(node_id)
            return
        contacts = response.contacts if isinstance(response, Vote | RoomDone) else ()
        if self.lookup.state(node_id) is not State.ANSWERED:
            self.lookup.answered(node_id, self.state.learn(contacts), useful=bool(said.rooms))
        self.said[node_id] = said
        if not said.rooms:
            self.lookup.widen(STORE_PARALLELISM)
        self._changed()

    def on_lost(self, pending: Pending, code: str) -> None:
        self._open.discard(pending.node_id)
        super().on_lost(pending, code)

    def has_ended(self) -> bool:
        if not super().has_ended():
            return False
        if not self._last_asked:
            self._last_asked = True
            for node_id in self.replica_ids():
                if node_id != self.state.own_id and node_id not in self._asked_s:
                    self._asked_s[node_id] = self.state.now
                    self._open.add(node_id)
                    self.state.ask(node_id, self.ask(), self)
        return not self._open

    def ended(self) -> None:
        self.state.table.looked_up(self.target, self.state.now)
        self._done()

    def asked_s(self, node_id: int) -> float:
        """When this node was asked."""
        return self._asked_s.get(node_id, self.state.now)


class VoteSweep(ReplicaSweep):
    """Ask for votes, or, with a withdrawn claim, give them back and look."""

    def __init__(self, state: NodeState, subject: Subject, claim: Record, **more: object) -> None:
        self.claim = claim
        super().__init__(state, subject, careful=not claim.withdrawn, **more)  # type: ignore[arg-type]

    def ask(self) -> Request:
        signed = (self.claim.body, self.claim.signature)
        return Claim(signed, None, self.state.settings.k, self.known_prefixes())

    def ask_self(self) -> Response:
        return answer_claim(self.state, self.state.own_id, Claim((self.claim.body, self.claim.signature)))

    def read(self, node_id: int, response: Response) -> Said | None:
        if not isinstance(response, Vote):
            return None
        lease_s = min(CLAIM_LEASE_S, response.lease_s)
        said = Said(response.code, self.asked_s(node_id), lease_s, response.replicas)
        if response.holder is not None:
            try:
                holder = parse_claim(*response.holder)
                if holder.key == self.target and not holder.withdrawn and holder.node_id != self.state.own_id:
                    said.other = holder
            except RemoteError:
                pass
        said.rooms = known_rooms(self.state, self.subject, response.rooms)
        for body, signature in response.records:
            self._take_provider(body, signature)
        return said

    def give_back(self, record: Record, but: Iterable[int] = ()) -> None:
        """Tell everybody who may have voted, except `but`, that the claim is withdrawn; nobody waits for an answer."""
        known = set(but)
        for node_id in self._asked_s:
            said = self.said.get(node_id)
            if node_id in known or (said is not None and said.code):
                continue
            if node_id == self.state.own_id:
                vote_for(self.state, record)
            else:
                self.state.ask(node_id, Claim((record.body, record.signature)), _Nobody())

    def _take_provider(self, body: bytes, signature: bytes) -> None:
        try:
            record = parse_record(body, signature)
            is_ours = record.key == self.target and record.kind == RecordKind.PROVIDER and not record.withdrawn
            if is_ours and record.expires_s > self.state.wall_s:
                self.providers[record.node_id] = (record, open_payload(record, self.subject))
        except RemoteError:
            pass


class ReceiptSweep(ReplicaSweep):
    """Ask for receipts of a room record, and hand over those it has already."""

    def __init__(self, state: NodeState, subject: Subject, room: Room, **more: object) -> None:
        self.room = room
        super().__init__(state, subject, **more)  # type: ignore[arg-type]

    def ask(self) -> Request:
        return PutRoom(self.room.to_signed(), self.state.settings.k, self.known_prefixes())

    def ask_self(self) -> Response:
        return answer_room(self.state, self.state.own_id, PutRoom(self.room.to_signed()))

    def read(self, node_id: int, response: Response) -> Said | None:
        if not isinstance(response, RoomDone):
            return None
        said = Said(response.code, self.asked_s(node_id), 0.0, response.replicas)
        receipt = response.receipt
        if receipt is not None and not response.code:
            try:
                check_receipt(self.target, self.room.digest, receipt)
                if node_id_of(receipt.public_key) == node_id and receipt.expires_s > self.state.wall_s:
                    said.receipt = receipt
            except RemoteError:
                pass
        said.rooms = known_rooms(self.state, self.subject, response.rooms)
        return said

    def receipts(self) -> tuple[RawReceipt, ...]:
        """Those that the key's replicas gave, so far as readers will count them."""
        likely = self.state.likely_distance(LIKELY_TO_CERTIFY)
        found = (
            said.receipt
            for node_id, said in self.counted().items()
            if said.receipt is not None and node_id ^ self.target <= likely
        )
        return tuple(found)[:RECEIPTS_MAX]
