"""How a node answers its peers: contacts, records, and what it takes in.

Every answer is computed at once from what the node knows; none causes a request of its own. A record is checked in the
order of cost: is it held already, may it be kept, are its times right, and only then its signature.
Implements `docs/protocol.md`, section "Messages", the answering side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from mediadht.core.claim_desk import answer_claim, answer_room, room_prefix, rooms_shown
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code, RemoteError
from mediadht.core.events import RecordDropped, RecordKept
from mediadht.core.messages import (
    Claim,
    Failure,
    Find,
    Found,
    Get,
    Got,
    Ping,
    Pong,
    Put,
    PutDone,
    PutOutcome,
    PutRoom,
    Request,
    Response,
    SignedBytes,
    UnknownRequest,
)
from mediadht.core.record_store import PutResult
from mediadht.core.records import Record, RecordKind, check_times, parse_record, verify_record
from mediadht.core.state import PREFIX_SHIFT, NodeState, named

__all__ = ["answer", "keep", "take_in"]


def answer(state: NodeState, asker: int, request: Request) -> Response:
    """The response to a peer's request."""
    match request:
        case Ping():
            return Pong()
        case Find(target, contacts_max, known):
            return Found(_contacts(state, asker, target, contacts_max, known))
        case Get():
            return _get(state, asker, request)
        case Put(records, contacts_max, known):
            if not state.is_replica:
                return Failure(Code.UNREACHABLE, "this node has no public address and keeps no records")
            taken = [take_in(state, raw) for raw in records]
            first = taken[0][1] if taken else None
            contacts = () if first is None else _contacts(state, asker, first.key, contacts_max, known)
            rooms = tuple(b"" if record is None else room_prefix(state, record.key) for _, record in taken)
            return PutDone(tuple(outcome for outcome, _ in taken), contacts, rooms if any(rooms) else ())
        case Claim() | PutRoom() if not state.settings.claims:
            return Failure(Code.UNKNOWN_METHOD, "this node takes no part in claims")
        case Claim((body, signature), _, contacts_max, known):
            vote = answer_claim(state, asker, request)
            contacts = _contacts(state, asker, _key_of(body, signature), contacts_max, known)
            return replace(vote, contacts=contacts)
        case PutRoom(room, contacts_max, known):
            done = answer_room(state, asker, request)
            contacts = _contacts(state, asker, _key_of(room.body, room.signature), contacts_max, known)
            return replace(done, contacts=contacts)
        case UnknownRequest(method):
            return Failure(Code.UNKNOWN_METHOD, f"this node does not know the method {method!r}")
        case _:
            assert_never(request)


def _key_of(body: bytes, signature: bytes) -> int:
    """The key of a record, to name contacts near it; that of nobody in particular if it is none."""
    try:
        return parse_record(body, signature, verify=False).key
    except RemoteError:
        return 0


def take_in(state: NodeState, raw: SignedBytes) -> tuple[PutOutcome, Record | None]:
    """Keep a record that a peer sent, or say why not; and the record, if it is one in form."""
    body, signature = raw
    record: Record | None = None
    try:
        record = parse_record(body, signature, verify=False)
        if record.kind != RecordKind.PROVIDER:
            return PutOutcome(Code.UNKNOWN_KIND), record
        held = state.store.held(record.key, record.node_id)
        if held is not None and held.body == body:
            return PutOutcome(), record
        check_times(record, state.wall_s)
        if held is not None and not record.supersedes(held):
            return PutOutcome(Code.STALE, held.sequence), record
        verify_record(record)
    except RemoteError as fault:
        return PutOutcome(fault.code), record
    code = keep(state, record).code
    return (PutOutcome() if code is None else PutOutcome(code)), record


def keep(state: NodeState, record: Record) -> PutResult:
    """Put a checked record into the store, and tell the owner what to write and what to delete."""
    result = state.store.put(record)
    for dropped in result.dropped:
        if (dropped.key, dropped.node_id) != (record.key, record.node_id):
            state.tell(RecordDropped(dropped))
    if result.is_new:
        state.tell(RecordKept(record))
    return result


def _get(state: NodeState, asker: int, request: Get) -> Got:
    now_s = state.wall_s
    live = state.store.sample(request.key, request.sample, request.providers_max, now_s, request.after)
    gone = [] if request.after is not None else state.store.withdrawals(request.key, now_s)
    contacts: tuple[Contact, ...] = ()
    if not live and request.after is None:
        contacts = _contacts(state, asker, request.key, request.contacts_max, request.known)
    return Got(
        tuple((record.body, record.signature) for record in (*live, *gone)),
        state.store.live_count(request.key, now_s) if live else 0,
        contacts,
        rooms_shown(state, request.key) if request.after is None else (),
    )


def _contacts(state: NodeState, asker: int, target: int, count: int, known: bytes) -> tuple[Contact, ...]:
    """The live contacts nearest to `target`, without the asker and those it knows."""
    book, prefixes = state.book, named(known)
    return tuple(
        [
            book[node_id].contact
            for node_id in book.live.closest(target, count)
            if node_id >> PREFIX_SHIFT not in prefixes and node_id != asker
        ]
    )
