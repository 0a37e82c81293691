"""What a node's parts share: its knowledge, its open requests, its timers, and the effects they emit.

No part holds a reference to another part; all hold this. `now` is the monotonic time of the event in hand, `wall_s`
the Unix time that records are checked against. Randomness is drawn from the `entropy` that the driver gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
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
from mediadht.core.contacts import Contact, Groups, endpoint_host, groups_of, ip_prefix, is_private_host
from mediadht.core.errors import Code
from mediadht.core.events import Effect, Notice, Send, Tell
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Query, Request
from mediadht.core.peer_book import PeerBook
from mediadht.core.record_store import RecordStore
from mediadht.core.requests import Asker, Pending, RequestTable
from mediadht.core.room_store import RoomStore
from mediadht.core.routing_table import RoutingTable
from mediadht.core.timers import Timer, Timers

__all__ = ["NodeSettings", "NodeState", "Session"]

_SPACE = 1 << ID_BITS


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


@dataclass(slots=True)
class Session:
    """An open session, as the core sees it. Times are monotonic seconds."""

    outbound: bool
    opened_s: float
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
    rooms: RoomStore = field(init=False)
    votes: ClaimVotes = field(init=False)
    size: SizeMemory = field(default_factory=SizeMemory)
    rooms_seen: Callable[[Subject, Sequence[Any]], None] = lambda *_: None
    """Called with the rooms (`claim_desk.KnownRoom`) that a lookup came by."""
    operations: int = 0
    """Lookups under way, the node's own included."""

    def __post_init__(self) -> None:
        self.book = PeerBook(self.own_id, self.settings.contacts_max)
        self.table = RoutingTable(self.own_id, self.settings.k)
        self.store = RecordStore(self.own_id, self._domain_of_server, records_max=self.settings.records_max)
        self.rooms = RoomStore(self.own_id, self._domain_of_server)
        self.votes = ClaimVotes(self._domain_of_server)

    @property
    def own_id(self) -> int:
        """This node's ID."""
        return self.keys.node_id

    @property
    def wall_s(self) -> float:
        """Unix time."""
        return self.now + self.wall_offset_s

    @property
    def is_replica(self) -> bool:
        """Whether this node can be reached, and so keeps records for others."""
        return bool(self.contact.endpoints)

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
        peer = self.book.get(node_id)
        warm = node_id in self.sessions
        pending = self.requests.open(node_id, request, asker, self.now, warm=warm)
        if (
            peer is None
            or not (warm or peer.contact.endpoints)
            or len(self.requests) > REQUESTS_IN_FLIGHT_MAX
            or self.requests.in_flight(node_id) > REQUESTS_PER_SESSION_IN_FLIGHT_MAX
        ):
            pending.timer = self.timers.set(self.now, lambda: self._lose(pending, Code.BUSY))
            return
        if warm:
            self.sessions[node_id].used_s = self.now
        self.effects.append(Send(peer.contact, Query(pending.transaction, request)))
        pending.timer = self.timers.set(self.now + peer.slow_after_s(), lambda: self._slow(pending))

    def _slow(self, pending: Pending) -> None:
        if self.requests.is_open(pending):
            lost_s = pending.sent_s + REQUEST_TIMEOUT_S
            pending.timer = self.timers.set(lost_s, lambda: self._lose(pending, Code.TIMED_OUT))
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
        return bool(contact.endpoints) and (
            self.settings.private_allowed
            or not any(is_private_host(endpoint_host(endpoint)) for endpoint in contact.endpoints)
        )

    def learn(self, contacts: Iterable[Contact]) -> list[int]:
        """Take note of hearsay; returns the IDs of those that may be asked."""
        known: list[int] = []
        for contact in contacts:
            peer = self.book.get(contact.node_id)
            is_settled = peer is not None and (peer.reachable or peer.contact == contact)
            if is_settled or (self.may_dial(contact) and self.book.heard_of(contact, self.groups(contact, None))):
                known.append(contact.node_id)
        return known

    def peer_failed(self, node_id: int) -> None:
        """An answer of this peer was lost. It leaves the table after several, if others do answer."""
        peer = self.book.get(node_id)
        if peer is None:
            return
        self.book.failed(node_id, self.now)
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
                self.book.pin_changed(changed)

    # --- Distances -----------------------------------------------------------------------------------------------

    def closest_live(self, target: int, count: int, exclude: int | None = None) -> list[int]:
        """The live peers nearest to `target`, this node itself included where it is a replica."""
        found = self.book.live.closest(target, count + (exclude is not None))
        ids = [node_id for node_id in found if node_id != exclude]
        if self.is_replica:
            ids.append(self.own_id)
            ids.sort(key=target.__xor__)
        return ids[:count]

    def network_size(self) -> int:
        """Nodes in the network, this one included: counted where all are known, else estimated from distances.

        The estimate errs by a fifth; a quarter above the count, it says that not all are known (simulated with 60 to
        200 nodes: fewer copies too many, and fewer requests, than with a bound of two times the count).
        With the k-th closest node at distance d, about k * 2**256 / d nodes share the space.
        """
        known = len(self.book.live) + 1
        closest = self.book.live.closest(self.own_id, self.settings.k)
        if len(closest) < self.settings.k:
            return known
        estimate = self.settings.k * _SPACE // max(1, closest[-1] ^ self.own_id)
        return known if 4 * estimate < 5 * known else estimate

    def likely_distance(self, factor: float) -> int:
        """`factor` times the distance from a key at which its k-th closest node is to be expected."""
        return min(_SPACE, int(factor * 1024) * self.settings.k * (_SPACE >> 10) // self.network_size())

    def _domain_of_server(self, server_name: str) -> str | None:
        host = server_name if server_name.endswith("]") else server_name.rpartition(":")[0] or server_name
        host = host.strip("[]")
        return None if is_private_host(host) else ip_prefix(host) or self.registrable_domain(host)


def prefixes(node_ids: Iterable[int]) -> bytes:
    """The `known` field of a request: the leading bytes of each ID."""
    shift = 8 * (ID_BYTES - KNOWN_PREFIX_BYTES)
    return b"".join((node_id >> shift).to_bytes(KNOWN_PREFIX_BYTES, "big") for node_id in node_ids)
