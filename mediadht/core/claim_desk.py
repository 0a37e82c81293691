"""Where a replica answers claims and room records: checks first, then its ballot, then the word that goes to disk.

What was promised is told to the owner (`PromiseMade`, `RoomKept`) before the answer is sent. Also what every node
derives from its own view: how many replicas a key has, whether a room is certified, whether the network seems cut.
Implements `docs/protocol.md`, sections "Claims" and "Room records", the answering side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mediadht.core.ballot import Seat
from mediadht.core.claim_rules import canonical
from mediadht.core.claim_votes import Promise
from mediadht.core.constants import (
    CLAIM_LEASE_S,
    CLOCK_TOLERANCE_S,
    LIKELY_TO_CERTIFY,
    LOST_COUNTED_S,
    PROVIDERS_PER_VOTE_MAX,
    REPLICAS_SPARE,
    ROOM_PREFIX_BYTES,
    ROOM_VALIDITY_S,
    ROOMS_PER_ANSWER_MAX,
    K,
)
from mediadht.core.errors import Code, RemoteError
from mediadht.core.events import PromiseMade, RoomDropped, RoomKept
from mediadht.core.identifiers import Subject
from mediadht.core.messages import Claim, PutRoom, RoomDone, SignedRoom, Vote
from mediadht.core.records import Record, check_times
from mediadht.core.room_records import (
    Room,
    certified_until_s,
    open_room,
    parse_claim,
    parse_room,
    sign_receipt,
    valid_receipts,
)
from mediadht.core.room_store import HeldRoom
from mediadht.core.state import NodeState

__all__ = [
    "KnownRoom",
    "answer_claim",
    "answer_room",
    "best_room",
    "is_abnormal",
    "judge",
    "keep_room",
    "known_rooms",
    "replicas_known",
    "restore_claims",
    "room_prefix",
    "rooms_shown",
    "vote_for",
]


@dataclass(frozen=True, slots=True)
class KnownRoom:
    """A room that replicas showed: checked, opened, judged."""

    held: HeldRoom
    room_id: str
    certified: bool


# --- What follows from the own view ------------------------------------------------------------------------------


def replicas_known(state: NodeState) -> int:
    """How many replicas a key has: k, or all nodes where there are fewer, the lately lost included."""
    k = min(K, state.settings.k)
    known = len(state.book.live) + state.is_replica
    if known < k:
        known += state.book.lost_since(state.now - LOST_COUNTED_S)
    return max(1, min(k, known))


def is_abnormal(state: NodeState) -> bool:
    """Whether so much of the network is gone that it may be cut in two, or that this node is cut off."""
    if state.settings.expects_peers and not len(state.book.live):
        return True
    size = state.network_size()
    state.size.seen(size, state.now)
    return state.size.is_abnormal(size, state.now)


def judge(state: NodeState, room: Room) -> HeldRoom:
    """The room with what its receipts are worth to this node."""
    if not room.receipts:
        return HeldRoom(room)
    held = state.rooms.held(room.record.key, room.record.node_id)
    if held is not None and held.room == room:
        return held

    def groups_of(node_id: int) -> tuple[str, ...]:
        peer = state.book.get(node_id)
        return () if peer is None else tuple(n for n in (peer.groups.prefix, peer.groups.domain) if n is not None)

    valid = valid_receipts(
        room, now_s=state.wall_s, distance_max=state.likely_distance(LIKELY_TO_CERTIFY), groups_of=groups_of
    )
    return HeldRoom(room, certified_until_s(valid, replicas_known(state)))


def rooms_shown(state: NodeState, key: int) -> tuple[SignedRoom, ...]:
    """What goes into an answer: the best room records of a key, withdrawn ones aside."""
    return tuple(held.room.to_signed() for held in state.rooms.of_key(key, state.wall_s)[:ROOMS_PER_ANSWER_MAX])


def room_prefix(state: NodeState, key: int) -> bytes:
    """The first bytes of the canonical room's digest; empty if this node holds no room record of the key."""
    return (state.rooms.canonical(key, state.wall_s) or b"")[:ROOM_PREFIX_BYTES]


def _is_replica_of(state: NodeState, key: int, node_id: int) -> bool:
    return node_id in state.closest_live(key, state.settings.k + REPLICAS_SPARE)


# --- Claims ------------------------------------------------------------------------------------------------------


def answer_claim(state: NodeState, asker: int, request: Claim) -> Vote:
    """What becomes of a peer's claim, or of a vote that a replica hands over."""
    replicas = replicas_known(state)
    try:
        claim = parse_claim(*request.claim)
        lease_s = CLAIM_LEASE_S
        if asker != claim.node_id:
            lease_s = _handed_over(state, asker, claim, request)
    except RemoteError as fault:
        state.votes.refusals[fault.code] += 1
        return Vote(fault.code, 0.0, replicas)
    if not state.is_replica or not _is_replica_of(state, claim.key, state.own_id):
        code: str = Code.NOT_REPLICA
        lease_left_s = 0.0
    else:
        code, lease_left_s = vote_for(state, claim, lease_s)
    holder = state.votes.held_claim(claim.key, state.now)
    is_other = holder is not None and holder.node_id != claim.node_id
    records = state.store.sample(claim.key, state.random_point(), PROVIDERS_PER_VOTE_MAX, state.wall_s)
    return Vote(
        code,
        lease_left_s,
        replicas,
        (holder.body, holder.signature) if holder is not None and is_other else None,
        rooms_shown(state, claim.key),
        tuple((record.body, record.signature) for record in records),
    )


def vote_for(state: NodeState, claim: Record, lease_s: float = CLAIM_LEASE_S) -> tuple[str, float]:
    """Vote for a checked claim, or take it back; the code, and what is left of the lease of whoever has the vote."""
    code, promises = state.votes.claim(claim, state.now, state.wall_s, lease_s)
    _promised(state, promises)
    ballot = state.votes.ballot(claim.key, state.now)
    return code or "", max(0.0, ballot.until_s - state.now) if ballot.seat is Seat.VOTED else 0.0


def _handed_over(state: NodeState, asker: int, claim: Record, request: Claim) -> float:
    """The lease of a vote that another replica gave. Raises RemoteError if this cannot be one."""
    if request.lease_s is None or claim.withdrawn or not _is_replica_of(state, claim.key, asker):
        raise RemoteError(Code.WRONG_NODE, "a claim comes from its signer, or from a replica that voted for it")
    if abs(claim.sequence / 1_000 - state.wall_s) > CLAIM_LEASE_S + CLOCK_TOLERANCE_S:
        raise RemoteError(Code.EXPIRED, "the claim is older than any vote for it")
    return min(CLAIM_LEASE_S, request.lease_s)


# --- Rooms -------------------------------------------------------------------------------------------------------


def answer_room(state: NodeState, asker: int, request: PutRoom) -> RoomDone:
    """What becomes of a room record. Whoever brings it: what counts is its signer and its receipts."""
    replicas = replicas_known(state)
    try:
        room = parse_room(request.room)
        check_times(room.record, state.wall_s, ROOM_VALIDITY_S)
        if not state.is_replica or not _is_replica_of(state, room.record.key, state.own_id):
            raise RemoteError(Code.NOT_REPLICA, "this node is not near the key")
        if asker != room.record.node_id and not room.receipts:
            raise RemoteError(Code.WRONG_NODE, "a room record without receipts comes from its signer")
    except RemoteError as fault:
        state.votes.refusals[fault.code] += 1
        return RoomDone(fault.code, replicas)
    return keep_room(state, room, replicas)


def keep_room(state: NodeState, room: Room, replicas: int) -> RoomDone:
    """Accept a checked room record, with a receipt, or refuse it, with the rooms that are held instead."""
    record, key = room.record, room.record.key
    if record.withdrawn:
        code, _ = _keep(state, HeldRoom(room))
        return RoomDone(code or "", replicas)
    judged = judge(state, room)
    is_certified = judged.is_certified(state.wall_s)
    code, until_s, promises = state.votes.room(
        key,
        record.public_key,
        room.digest,
        state.now,
        state.wall_s,
        is_proved=is_certified and _ranks_first(state, judged),
    )
    if code is None or is_certified:
        kept, _ = _keep(state, judged)
        if code is None and kept is not None and kept != Code.STALE:
            return RoomDone(kept, replicas, None, rooms_shown(state, key))
    _promised(state, promises)
    if code is not None:
        return RoomDone(code, replicas, None, rooms_shown(state, key))
    expires_s = int(until_s - CLOCK_TOLERANCE_S)
    return RoomDone("", replicas, sign_receipt(state.keys, key, room.digest, expires_s=expires_s, replicas=replicas))


def _ranks_first(state: NodeState, judged: HeldRoom) -> bool:
    """Whether this room is the canonical one among it and those held."""
    now_s = state.wall_s
    held = state.rooms.of_key(judged.room.record.key, now_s)
    standings = [h.room.standing(certified=h.is_certified(now_s)) for h in (*held, judged)]
    return canonical(judged.room.record.key, standings) == judged.room.digest


def _keep(state: NodeState, judged: HeldRoom) -> tuple[Code | None, list[Room]]:
    code, dropped = state.rooms.put(judged, state.wall_s)
    for room in dropped:
        state.tell(RoomDropped(room.record.key, room.record.node_id))
    if code is None:
        state.tell(RoomKept(judged.room.to_signed()))
    return code, dropped


def _promised(state: NodeState, promises: list[Promise]) -> None:
    for promise in promises:
        state.tell(PromiseMade(promise))


def restore_claims(state: NodeState, promises: Iterable[Promise], rooms: Iterable[SignedRoom]) -> None:
    """Take back what this node promised and kept before a restart. What is damaged is passed over."""
    for raw in rooms:
        try:
            state.rooms.put(judge(state, parse_room(raw, verify=False)), state.wall_s)
        except RemoteError:
            continue
    read: list[tuple[Promise, Record | None]] = []
    for promise in promises:
        try:
            read.append((promise, parse_claim(promise.body, promise.signature) if promise.body else None))
        except RemoteError:
            continue
    state.votes.restore(read, state.now, state.wall_s)


# --- Reading what others show ------------------------------------------------------------------------------------


def known_rooms(state: NodeState, subject: Subject, rooms: Iterable[SignedRoom]) -> list[KnownRoom]:
    """Those of the rooms in an answer that are what they say, for this subject, now."""
    found: list[KnownRoom] = []
    for raw in rooms:
        try:
            room = parse_room(raw)
            if room.record.key == subject.key and not room.record.withdrawn and room.record.expires_s > state.wall_s:
                room_id = open_room(room, subject)
                held = judge(state, room)
                found.append(KnownRoom(held, room_id, held.is_certified(state.wall_s)))
        except RemoteError:
            continue
    return found


def best_room(key: int, rooms: list[KnownRoom]) -> tuple[KnownRoom, tuple[str, ...]]:
    """The canonical one of these rooms, and the servers that say so."""
    digest = canonical(key, (room.held.room.standing(certified=room.certified) for room in rooms))
    ours = [room for room in rooms if room.held.room.digest == digest]
    best = next((room for room in ours if room.certified), ours[0])
    return best, tuple(dict.fromkeys(room.held.room.record.server_name for room in (best, *ours)))
