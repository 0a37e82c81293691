"""What a node's parts share: its knowledge, its open requests, its timers, and the effects they emit.

No part holds a reference to another part; all hold this. `now` is the monotonic time of the event in hand, `wall_s`
the Unix time that records are checked against. Randomness is drawn from the `entropy` that the driver gave.
"""

from __future__ import annotations

import struct
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mediadht.core.claim_rules import SizeMemory
from mediadht.core.claim_votes import ClaimVotes
from mediadht.core.constants import (
    CONTACT_CACHE_MAX,
    ID_BITS,
    ID_BYTES,
    KNOWN_PREFIX_BYTES,
    LOOKUPS_MAX,
    NETWORK_DEFAULT,
    REQUEST_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_MAX,
    REQUESTS_PER_SESSION_IN_FLIGHT_MAX,
    SESSIONS_MAX,
    STORE_RECORDS_MAX,
    K,
)
from mediadht.core.contacts import Contact, Groups, groups_of, ip_prefix, is_anywhere_private, is_private_host
from mediadht.core.errors import Code
from mediadht.core.events import Effect, Notice, Send, Tell
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Query, Request
from mediadht.core.peer_book import Peer, PeerBook
from mediadht.core.record_store import RecordStore
from mediadht.core.requests import Asker, Pending, RequestTable
from mediadht.core.room_store import RoomStore
from mediadht.core.routing_table import RoutingTable
from mediadht.core.timers import Timer, Timers

__all__ = ["PREFIX_SHIFT", "NodeSettings", "NodeState", "Session", "named", "prefixes"]

_SPACE = 1 << ID_BITS
PREFIX_SHIFT = 8 * (ID_BYTES - KNOWN_PREFIX_BYTES)
assert struct.calcsize(">Q") == KNOWN_PREFIX_BYTES


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the driver decides for its node."""

    network: str = NETWORK_DEFAULT
    private_allowed: bool = False
    """Whether contacts at loopback and private addresses are believed and dialled."""
    sessions_max: int = SESSIONS_MAX
    contacts_max: int = CONTACT_CACHE_MAX
    records_max: int = STORE_RECORDS_MAX
    k: int = K
    expects_peers: bool = False
    """Whether there are other nodes that this one should find: without any it is then cut off, not alone."""
    pings: bool = True
    """Whether to ping sessions on which nothing is heard. False where the driver watches its sessions itself and
    reports a dead one as `SessionClosed` with the code `timed_out`: a simulated network saves most of its messages."""
    claims: bool = True
    """Whether this node votes, accepts rooms and heals its own. False where the driver does not keep promises
    (`PromiseMade`, `RoomKept`) on disk: peers' claims and rooms are then answered `unknown_method`."""


@dataclass(slots=True)
class Session:
    """An open session, as the core sees it. Times are monotonic seconds."""

    peer: Peer
    outbound: bool
    heard_s: float
    used_s: float
    """When a request of either side last went over it; pings do not count."""
    uptime_s: int
    clock_offset_s: float
    """The peer's clock minus ours."""
    pinging: bool = False


@dataclass(slots=True)
class NodeState:
    """See the module's header. `registrable_domain` maps a DNS name to its registrable domain."""

    keys: KeyPair
    contact: Contact
    settings: NodeSettings
    entropy: Callable[[int], bytes]
    registrable_domain: Callable[[str], str | None]
    now: float = 0.0
    wall_offset_s: float = 0.0
    effects: list[Effect] = field(default_factory=list)
    timers: Timers = field(default_factory=Timers)
    requests: RequestTable = field(default_factory=RequestTable)
    sessions: dict[int, Session] = field(default_factory=dict)
    answered_any_s: float = float("-inf")
    """When any peer last answered: without that, lost answers say nothing about the peers."""
    book: PeerBook = field(init=False)
    table: RoutingTable = field(init=False)
    store: RecordStore = field(init=False)
    sessions_due_s: float = float("-inf")
    """Before this no session needs anything that maintenance does."""
    rooms: RoomStore = field(init=False)
    votes: ClaimVotes = field(init=False)
    size: SizeMemory = field(default_factory=SizeMemory)
    rooms_seen: Callable[[Subject, Sequence[Any]], None] = lambda *_: None
    """Called with the rooms (`claim_desk.KnownRoom`) that a lookup came by."""
    operations: int = 0
    """Lookups under way, the node's own included."""
    own_id: int = field(init=False)
    is_replica: bool = field(init=False)
    """Whether this node can be reached, and so keeps records for others."""
    _size: tuple[int, int] = (0, -1)
    """The network's size, and the book's changes up to which it was reckoned."""

    def __post_init__(self) -> None:
        self.own_id = self.keys.node_id
        self.is_replica = bool(self.contact.endpoints)
        self.book = PeerBook(self.own_id, self.settings.contacts_max)
        self.table = RoutingTable(self.own_id, self.settings.k)
        self.store = RecordStore(self.own_id, self._domain_of_server, records_max=self.settings.records_max)
        self.rooms = RoomStore(self.own_id, self._domain_of_server)
        self.votes = ClaimVotes(self._domain_of_server)

    @property
    def wall_s(self) -> float:
        """Unix time."""
        return self.now + self.wall_offset_s

    @property
    def has_room_for_operation(self) -> bool:
        """Whether another lookup may start now."""
        return self.operations < LOOKUPS_MAX

    def emit(self, effect: Effect) -> None:
        """Have the driver do this."""
        self.effects.append(effect)

    def tell(self, notice: Notice) -> None:
        """Have the owner know this."""
        self.effects.append(Tell(notice))

    def random_point(self) -> int:
        """A random 256-bit integer."""
        return int.from_bytes(self.entropy(ID_BYTES), "big")

    def random_share(self) -> float:
        """A random number in [0, 1)."""
        return int.from_bytes(self.entropy(4), "big") / (1 << 32)

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Have `call` made in `delay_s` seconds."""
        return self.timers.set(self.now + delay_s, call)

    # --- Asking --------------------------------------------------------------------------------------------------

    def ask(self, node_id: int, request: Request, asker: Asker) -> None:
        """Send a request to a known peer, for `asker`.

        A peer that cannot be asked is reported lost like any other, at the next wake, never from within this call.
        """
        now, requests = self.now, self.requests
        peer, session = self.book.get(node_id), self.sessions.get(node_id)
        pending = requests.open(node_id, request, asker, now, warm=session is not None)
        if (
            peer is None
            or not (session is not None or peer.contact.endpoints)
            or len(requests) > REQUESTS_IN_FLIGHT_MAX
            or requests.in_flight(node_id) > REQUESTS_PER_SESSION_IN_FLIGHT_MAX
        ):
            pending.timer = self.timers.set(now, partial(self._lose, pending, Code.BUSY))
            return
        if session is not None:
            session.used_s = now
        self.effects.append(Send(peer.contact, Query(pending.transaction, request)))
        pending.timer = self.timers.set(now + peer.slow_after_s(), partial(self._slow, pending))

    def _slow(self, pending: Pending) -> None:
        if self.requests.is_open(pending):
            lost_s = pending.sent_s + REQUEST_TIMEOUT_S
            pending.timer = self.timers.set(lost_s, partial(self._lose, pending, Code.TIMED_OUT))
            self.book.suspect(pending.node_id, self.now)
            pending.asker.on_slow(pending)

    def _lose(self, pending: Pending, code: str) -> None:
        if self.requests.is_open(pending):
            self.requests.close(pending.node_id, pending.transaction)
            if code == Code.TIMED_OUT:
                self.peer_failed(pending.node_id)
            pending.asker.on_lost(pending, code)

    # --- Peers ---------------------------------------------------------------------------------------------------

    def groups(self, contact: Contact, address: str | None, endpoint: str | None = None) -> Groups:
        """The diversity groups of a contact reached at `address` by way of `endpoint`, where it was reached."""
        return groups_of((endpoint,) if endpoint else contact.endpoints, address, self.registrable_domain)

    def may_dial(self, contact: Contact) -> bool:
        """Whether the settings allow connecting to where this contact says it is."""
        return bool(contact.endpoints) and (self.settings.private_allowed or not is_anywhere_private(contact.endpoints))

    def learn(self, contacts: Iterable[Contact]) -> list[int]:
        """Take note of hearsay; returns the IDs of those that may be asked."""
        known: list[int] = []
        book = self.book
        for contact in contacts:
            node_id = contact.node_id
            peer = book.get(node_id)
            if (peer is not None and (peer.reachable or peer.contact is contact or peer.contact == contact)) or (
                self.may_dial(contact) and book.heard_of(contact, self.groups(contact, None))
            ):
                known.append(node_id)
        return known

    def peer_failed(self, node_id: int) -> None:
        """An answer of this peer was lost. It leaves the table after several, if others do answer."""
        peer = self.book.get(node_id)
        if peer is None:
            return
        self.book.failed(node_id, self.now)
        if peer.connected:
            self.sessions_due_s = self.now
        if (
            peer.in_table
            and not peer.is_live
            and (self.table.has_replacement(node_id) or self.answered_any_s > peer.failing_since_s)
        ):
            self.drop_from_table(node_id)
        elif not peer.in_table and not peer.is_live:
            self.table.remove(node_id)

    def drop_from_table(self, node_id: int) -> None:
        """Take the peer out of the table; whoever waited, and lives as far as we know, moves up."""
        promoted = self.table.remove(node_id, lambda waiting: (p := self.book.get(waiting)) is not None and p.is_live)
        for changed, in_table in ((node_id, False), (promoted, True)):
            peer = None if changed is None else self.book.get(changed)
            if changed is not None and peer is not None:
                peer.in_table = in_table
                self.sessions_due_s = self.now
                self.book.pin_changed(changed)

    # --- Distances -----------------------------------------------------------------------------------------------

    def closest_live(self, target: int, count: int, exclude: int | None = None) -> list[int]:
        """The live peers nearest to `target`, this node itself included where it is a replica."""
        ids = self.book.live.closest(target, count + (exclude is not None))
        if exclude is not None and exclude in ids:
            ids.remove(exclude)
        if self.is_replica:
            insort(ids, self.own_id, key=target.__xor__)
        return ids[:count]

    def network_size(self) -> int:
        """Nodes in the network, this one included: counted where all are known, else estimated from distances.

        The estimate errs by a fifth; a quarter above the count, it says that not all are known (simulated with 60 to
        200 nodes: fewer copies too many, and fewer requests, than with a bound of two times the count).
        With the k-th closest node at distance d, about k * 2**256 / d nodes share the space.
        """
        live, k = self.book.live, self.settings.k
        size, changes = self._size
        if changes != live.changes:
            size = known = len(live) + 1
            closest = live.closest(self.own_id, k)
            if len(closest) >= k:
                estimate = k * _SPACE // max(1, closest[-1] ^ self.own_id)
                size = known if 4 * estimate < 5 * known else estimate
            self._size = size, live.changes
        return size

    def likely_distance(self, factor: float) -> int:
        """`factor` times the distance from a key at which its k-th closest node is to be expected."""
        return min(_SPACE, int(factor * 1024) * self.settings.k * (_SPACE >> 10) // self.network_size())

    def _domain_of_server(self, server_name: str) -> str | None:
        host = server_name if server_name.endswith("]") else server_name.rpartition(":")[0] or server_name
        host = host.strip("[]")
        return None if is_private_host(host) else ip_prefix(host) or self.registrable_domain(host)


def prefixes(node_ids: Iterable[int]) -> bytes:
    """The `known` field of a request: the leading bytes of each ID."""
    leading = [node_id >> PREFIX_SHIFT for node_id in node_ids]
    return struct.pack(f">{len(leading)}Q", *leading)


def named(known: bytes) -> frozenset[int]:
    """The prefixes in a `known` field: of a node ID, what `PREFIX_SHIFT` leaves of it."""
    return frozenset(struct.unpack_from(f">{len(known) // KNOWN_PREFIX_BYTES}Q", known))
