"""Keeping company: sessions, liveness, reconnection, the routing table's freshness, expiry.

Once in `TICK_S` the node looks around: it pings sessions on which nothing was heard, closes those that nobody needs,
dials table members that it has lost (with back-off), asks for bootstrap where nobody is left, and refreshes one stale
bucket. A peer enters the table when it has answered at its own endpoint: one that dialled us is probed first.
Implements `docs/protocol.md`, sections "Sessions" and "Routing".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from statistics import median

from mediadht.core.constants import (
    BOOTSTRAP_INTERVAL_S,
    BUCKET_REFRESH_INTERVAL_S,
    CONTACT_FAILURES_MAX,
    DIALS_PER_TICK_MAX,
    ISOLATED_DIALS,
    LOST_DIALS_PER_TICK,
    NEIGHBOURHOOD_DELAYS_S,
    NEIGHBOURHOOD_INTERVAL_S,
    NEIGHBOURHOOD_INTERVAL_S_MIN,
    PROBES_MAX,
    RECONNECT_S_MAX,
    RECONNECT_S_MIN,
    ROOMS_EXPIRE_EVERY_S,
    SESSION_IDLE_CLOSE_S,
    SESSION_IDLE_PING_S,
    SESSIONS_SOUGHT_SHARE,
    TICK_S,
)
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code
from mediadht.core.events import Bootstrap, Dial, Hangup, Probe, ProbeEnded, RecordDropped, RoomDropped, SessionOpened
from mediadht.core.handover import Handover
from mediadht.core.messages import Ping, Response
from mediadht.core.operations import FindNodes
from mediadht.core.peer_book import Peer
from mediadht.core.publisher import Publisher
from mediadht.core.requests import Pending
from mediadht.core.routing_table import Admission
from mediadht.core.session import Hello
from mediadht.core.state import NodeState, Session

__all__ = ["Maintenance"]

_PROBES_WAITING_MAX = 256
_JOIN_REFRESHES_MAX = 8
_SESSION_REST_S = min(SESSION_IDLE_PING_S, SESSION_IDLE_CLOSE_S)
_PING = Ping()


class Maintenance:
    """The node's housekeeping; reacts to sessions and ticks by itself."""

    def __init__(self, state: NodeState, publisher: Publisher, handover: Handover) -> None:
        self._state = state
        self._publisher = publisher
        self._handover = handover
        self._probes: OrderedDict[int, Contact] = OrderedDict()
        self._probing: set[int] = set()
        self._retry_s: dict[int, tuple[float, float]] = {}
        """By node ID: when to dial next, and the back-off then."""
        self._joined = False
        self._join_count = 0
        self._somebody_is_back = False
        self._neighbours_s = self._bootstrapped_s = float("-inf")
        self._unconnected: list[int] | None = None
        self._table_changes = 0
        """Members of the table without a session; None or other changes: to be looked up anew."""
        self._rooms_s = state.now

    def start(self) -> None:
        """Begin: dial whom we remember, and tick."""
        self._tick()

    # --- Sessions ------------------------------------------------------------------------------------------------

    def opened(self, event: SessionOpened) -> None:
        """A session is there: the peer's key is proved, and outbound its address too."""
        state, hello = self._state, event.hello
        contact, node_id = hello.contact, hello.contact.node_id
        address = event.address if event.outbound else None
        if not state.may_dial(contact):
            contact = Contact(node_id, contact.public_key, (), contact.server_name)
        self._somebody_is_back = self._somebody_is_back or state.book.is_lost(node_id)
        known = state.book.get(node_id)
        was_live = known is not None and known.is_live
        peer = state.book.proved(contact, state.groups(contact, address, event.endpoint if event.outbound else None))
        state.answered_any_s = state.now
        if peer is None:
            state.emit(Hangup(node_id, Code.BUSY))
            return
        state.sessions[node_id] = Session(
            peer=peer,
            outbound=event.outbound,
            heard_s=state.now,
            used_s=state.now,
            uptime_s=hello.uptime_s,
            clock_offset_s=hello.clock_s - state.wall_s,
        )
        state.sessions_due_s = min(state.sessions_due_s, state.now + _SESSION_REST_S)
        self._unconnected = None
        peer.connected = True
        self._retry_s.pop(node_id, None)
        state.book.answered(node_id, state.now)
        if event.outbound or peer.reachable:
            self._reached(node_id, peer, was_live=was_live and peer.reachable)
        elif contact.endpoints and (peer.in_table or state.table.wants(node_id, peer.groups)):
            self._want_probe(contact)
        self._limit_sessions(node_id)
        if not self._joined:
            self._joined = True
            self._publisher.somebody_is_there()
            self._join()

    def settle(self, peers: Iterable[tuple[Hello, float | None, bool | None]]) -> list[int]:
        """See `Node.settle`."""
        state, refused = self._state, []
        book, table, sessions, now = state.book, state.table, state.sessions, state.now
        offsets_s: dict[float, float] = {}  # one object for many equal numbers: there are millions of sessions
        for hello, round_trip_s, outbound in peers:
            contact = hello.contact
            node_id = contact.node_id
            groups = state.groups(contact, None)
            peer = None if node_id == state.own_id else book.settled(contact, groups, now, round_trip_s)
            if peer is None or (outbound is not None and len(sessions) >= state.settings.sessions_max):
                refused.append(node_id)
            elif outbound is not None:
                peer.connected = True
                heard_s = now - SESSION_IDLE_PING_S * state.random_share()
                offset_s = hello.clock_s - state.wall_s
                sessions[node_id] = Session(
                    peer=peer,
                    outbound=outbound,
                    heard_s=heard_s,
                    used_s=heard_s - (SESSION_IDLE_CLOSE_S - SESSION_IDLE_PING_S) * state.random_share(),
                    uptime_s=hello.uptime_s,
                    clock_offset_s=offsets_s.setdefault(offset_s, offset_s),
                )
            if peer is not None:
                if contact.endpoints:
                    peer.in_table = table.answered(node_id, groups) in (Admission.ADMITTED, Admission.KNOWN)
                book.pin_changed(node_id)
        state.sessions_due_s = now
        table.spread_refreshes(now, BUCKET_REFRESH_INTERVAL_S, state.random_share)
        self._neighbours_s = now - NEIGHBOURHOOD_INTERVAL_S * state.random_share()
        self._bootstrapped_s = now - self._bootstrap_ahead_s()
        if sessions:
            state.answered_any_s = now
            self._joined = True
            self._publisher.somebody_is_there()
        return refused

    def closed(self, node_id: int, code: str) -> None:
        """The session is gone; what is open with this peer is lost."""
        state = self._state
        state.sessions.pop(node_id, None)
        self._unconnected = None
        peer = state.book.get(node_id)
        if peer is not None:
            peer.connected = False
            state.book.pin_changed(node_id)
            if code == Code.LEAVING:
                peer.failures = CONTACT_FAILURES_MAX - 1
                state.book.failed(node_id, state.now)
                state.drop_from_table(node_id)
            elif code not in (Code.IDLE, Code.DUPLICATE, Code.BUSY):
                state.peer_failed(node_id)
            if code in (Code.IDLE, Code.BUSY):
                # Alive, and not in need of a session, or without room for one: seen to when its bucket is.
                self._retry_s[node_id] = (state.now + BUCKET_REFRESH_INTERVAL_S, RECONNECT_S_MIN / 2)
        self._lose_requests(node_id, code)
        if not state.sessions:
            self._joined = False

    def dial_failed(self, node_id: int, code: str) -> None:
        """The peer could not be reached."""
        state = self._state
        state.peer_failed(node_id)
        _, backoff_s = self._retry_s.get(node_id, (0.0, RECONNECT_S_MIN / 2))
        backoff_s = min(RECONNECT_S_MAX, 2 * backoff_s)
        self._retry_s[node_id] = (state.now + backoff_s * (0.5 + state.random_share() / 2), backoff_s)
        self._lose_requests(node_id, code)

    def _lose_requests(self, node_id: int, code: str) -> None:
        for pending in self._state.requests.close_all(node_id):
            pending.asker.on_lost(pending, code)

    def _reached(self, node_id: int, peer: Peer, *, was_live: bool) -> None:
        state = self._state
        if not peer.contact.endpoints:
            return
        state.book.reached(node_id, state.now)
        admission = state.table.answered(node_id, peer.groups)
        if admission is Admission.ADMITTED:
            peer.in_table = True
            state.book.pin_changed(node_id)
        elif admission is Admission.REFUSED and peer.in_table:
            state.drop_from_table(node_id)
        session = state.sessions.get(node_id)
        if not was_live and session is not None:
            self._handover.newcomer(node_id, session.uptime_s)

    def _limit_sessions(self, newest: int) -> None:
        """Close the session of least use where there are too many: not in the table, longest unused."""
        state = self._state
        if len(state.sessions) > state.settings.sessions_max:
            victim, least_in_table, least_used_s = None, True, float("inf")
            for node_id, session in state.sessions.items():
                in_table, used_s = session.peer.in_table, session.used_s
                if (
                    in_table <= least_in_table
                    and (used_s <= least_used_s or in_table < least_in_table)
                    and node_id != newest
                    and (victim is None or (in_table, used_s, node_id) < (least_in_table, least_used_s, victim))
                ):
                    victim, least_in_table, least_used_s = node_id, in_table, used_s
            if victim is not None:
                state.emit(Hangup(victim, Code.BUSY))

    # --- Probes --------------------------------------------------------------------------------------------------

    def probe_ended(self, event: ProbeEnded) -> None:
        """A dial-back has ended."""
        state = self._state
        self._probing.discard(event.node_id)
        peer = state.book.get(event.node_id)
        if peer is not None and event.reached:
            groups = state.groups(peer.contact, event.address, event.endpoint)
            was_live = peer.is_live
            if state.book.proved(peer.contact, groups) is not None:
                self._reached(event.node_id, peer, was_live=was_live)
        elif peer is not None and peer.in_table and not peer.reachable:
            state.drop_from_table(event.node_id)
        self._start_probes()

    def _want_probe(self, contact: Contact) -> None:
        if contact.node_id not in self._probing:
            self._probes[contact.node_id] = contact
            if len(self._probes) > _PROBES_WAITING_MAX:
                self._probes.popitem(last=False)
            self._start_probes()

    def _start_probes(self) -> None:
        while self._probes and len(self._probing) < PROBES_MAX:
            node_id, contact = self._probes.popitem(last=False)
            self._probing.add(node_id)
            self._state.emit(Probe(contact))

    # --- The tick ------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        state = self._state
        if state.sessions_due_s <= state.now:
            self._look_at_sessions()
        self._reconnect()
        if state.now - self._bootstrapped_s >= BOOTSTRAP_INTERVAL_S:
            self._bootstrap()
        for record in state.store.expire(state.wall_s):
            state.tell(RecordDropped(record))
        self._see_to_rooms()
        if state.sessions:
            self._refresh_one()
            interval_s = NEIGHBOURHOOD_INTERVAL_S_MIN if self._somebody_is_back else NEIGHBOURHOOD_INTERVAL_S
            if state.now - self._neighbours_s >= interval_s:
                self._somebody_is_back = False
                self._find_neighbours(self._join_count)
        state.after(TICK_S, self._tick)

    def _look_at_sessions(self) -> None:
        """Close those that nobody needs, ping the silent, and note when there can be more to do."""
        state = self._state
        now, pings = state.now, state.settings.pings
        due_s = float("inf")
        for node_id, session in state.sessions.items():
            if not session.peer.in_table:
                if now - session.used_s > SESSION_IDLE_CLOSE_S:
                    state.emit(Hangup(node_id, Code.IDLE))
                    due_s = now
                    continue
                due_s = min(due_s, session.used_s + SESSION_IDLE_CLOSE_S)
            # Nothing but a ping would show that a failing peer has recovered.
            if not session.pinging and (pings or session.peer.failures):
                if now - session.heard_s > SESSION_IDLE_PING_S:
                    session.pinging = True
                    state.ask(node_id, _PING, self)
                else:
                    due_s = min(due_s, session.heard_s + SESSION_IDLE_PING_S)
        state.sessions_due_s = due_s

    def _see_to_rooms(self) -> None:
        """Remember how large the network is, for claims, and drop the rooms whose time is over."""
        state = self._state
        state.size.seen(state.network_size(), state.now)
        if state.now - self._rooms_s >= ROOMS_EXPIRE_EVERY_S:
            self._rooms_s = state.now
            for room in state.rooms.expire(state.wall_s):
                state.tell(RoomDropped(room.record.key, room.record.node_id))

    def _reconnect(self) -> None:
        """Dial table members without a session, and some of the lost; where nobody is left, others, and bootstrap."""
        state = self._state
        if self._unconnected is None or self._table_changes != state.table.changes:
            self._unconnected = [n for n in state.table if n not in state.sessions]
            self._table_changes = state.table.changes
        wanted = self._unconnected
        if len(state.sessions) >= SESSIONS_SOUGHT_SHARE * state.settings.sessions_max:
            wanted = []
        if not state.sessions:
            wanted = wanted.copy()
            recent = (p.contact.node_id for p in state.book.pinned_or_recent(2 * ISOLATED_DIALS))
            hearsay = state.book.closest_ids(state.random_point(), ISOLATED_DIALS)
            wanted += [n for n in (*recent, *hearsay) if n not in wanted]
            self._bootstrap()
        lost = [p.contact.node_id for p in state.book.next_lost(LOST_DIALS_PER_TICK) if not p.in_table]
        due = [n for n in (*wanted, *lost) if self._retry_s.get(n, (0.0, 0.0))[0] <= state.now]
        for node_id in due[:DIALS_PER_TICK_MAX]:
            state.emit(Dial(state.book[node_id].contact))
        if len(self._retry_s) > state.settings.contacts_max:
            self._retry_s.clear()

    def _bootstrap(self) -> None:
        is_first = self._bootstrapped_s == float("-inf")
        self._bootstrapped_s = self._state.now - (self._bootstrap_ahead_s() if is_first else 0.0)
        self._state.emit(Bootstrap())

    def _bootstrap_ahead_s(self) -> int:
        # Each node has its own: those that were started together do not come together.
        return self._state.own_id % BOOTSTRAP_INTERVAL_S

    # --- Joining and refreshing ----------------------------------------------------------------------------------

    def _join(self) -> None:
        """Find the own neighbourhood, now and again, then a node in every bucket farther away (the paper, 2.3)."""
        self._join_count += 1
        count = self._join_count
        for delay_s in NEIGHBOURHOOD_DELAYS_S:
            self._state.after(delay_s, lambda: self._find_neighbours(count))

    def _find_neighbours(self, join_count: int) -> None:
        """Look up the own ID, unless the network was lost and joined again since that was planned."""
        if join_count != self._join_count or not self._state.sessions:
            return
        self._neighbours_s = self._state.now
        FindNodes(self._state, self._state.own_id, self._joined_neighbourhood).proceed()

    def _joined_neighbourhood(self, found: list[int]) -> None:
        self._publisher.look_around()
        for _ in range(_JOIN_REFRESHES_MAX):
            if not self._refresh_one():
                break

    def _refresh_one(self) -> bool:
        """Look up a random ID in one bucket that needs it. Returns whether there was one."""
        state = self._state
        stale = state.table.last_stale_range(state.now, BUCKET_REFRESH_INTERVAL_S)
        if stale is None or not state.has_room_for_operation:
            return False
        low, high = stale
        target = low + state.random_point() % (high - low)
        state.table.looked_up(target, state.now)
        FindNodes(state, target, lambda _: None).proceed()
        return True

    # --- Pings (as an asker) -------------------------------------------------------------------------------------

    def on_answer(self, pending: Pending, response: Response) -> None:
        self._state.sessions[pending.node_id].pinging = False
        self._state.sessions_due_s = min(self._state.sessions_due_s, self._state.now + SESSION_IDLE_PING_S)

    def on_slow(self, pending: Pending) -> None:
        """A ping may be slow."""

    def on_lost(self, pending: Pending, code: str) -> None:
        session = self._state.sessions.get(pending.node_id)
        if session is not None:
            session.pinging = False
            self._state.sessions_due_s = self._state.now
            if code == Code.TIMED_OUT:
                self._state.emit(Hangup(pending.node_id, Code.TIMED_OUT))

    def clock_offset_s(self) -> float | None:
        """Median of the peers' clocks minus ours; None without sessions."""
        offsets = [session.clock_offset_s for session in self._state.sessions.values()]
        return median(offsets) if offsets else None
