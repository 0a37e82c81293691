"""A simulated network of real nodes: it obeys `mediadht.core`'s effects as the trio driver does, in virtual time.

Links have a latency, may lose messages, and can be cut; nodes can crash (connections break), freeze (nothing answers,
nothing closes) and return. Messages pass through the codec unless told otherwise. It leaves out
bandwidth and the bytes of handshakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mediadht.core.claim_votes import Promise
from mediadht.core.codec import decode, encode
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code
from mediadht.core.events import (
    AnnouncementProgress,
    Bootstrap,
    ClockSet,
    Dial,
    DialFailed,
    Effect,
    Event,
    Hangup,
    Leave,
    LookupEnded,
    Notice,
    Probe,
    ProbeEnded,
    PromiseMade,
    ProviderFound,
    Received,
    RecordDropped,
    RecordKept,
    RoomDropped,
    RoomKept,
    RoomRenewed,
    Send,
    SessionClosed,
    SessionOpened,
    Start,
    StartLookup,
    Tell,
    WakeAt,
    Woke,
)
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Message, Ping, Query, SignedRoom
from mediadht.core.node import Node
from mediadht.core.room_records import parse_room
from mediadht.core.session import Hello
from mediadht.core.state import NodeSettings
from mediadht_sim.engine import Engine

__all__ = ["EPOCH_S", "LookupResult", "SimulatedNetwork", "SimulatedNode"]

_DIAL_ROUND_TRIPS = 4
_DIAL_TIMEOUT_S = 10.0
EPOCH_S = 1_700_000_000.0
"""Unix time at virtual time 0."""


@dataclass(slots=True)
class LookupResult:
    """What one lookup gave."""

    started_s: float
    providers: list[ProviderFound] = field(default_factory=list)
    first_s: float | None = None
    ended: LookupEnded | None = None
    ended_s: float = 0.0


@dataclass(slots=True)
class SimulatedNode:
    """A node and its driver's state."""

    index: int
    keys: KeyPair
    contact: Contact
    node: Node
    instance: bytes
    started_s: float
    is_up: bool = True
    is_frozen: bool = False
    wake_s: float = float("inf")
    sessions: set[int] = field(default_factory=set)
    dialling: dict[int, list[Message]] = field(default_factory=dict)
    lookups: dict[int, LookupResult] = field(default_factory=dict)
    progress: dict[int, AnnouncementProgress] = field(default_factory=dict)
    records: dict[tuple[int, int], bytes] = field(default_factory=dict)
    promises: dict[int, Promise] = field(default_factory=dict)
    rooms: dict[tuple[int, int], SignedRoom] = field(default_factory=dict)
    own_rooms: dict[int, tuple[Subject, str, SignedRoom]] = field(default_factory=dict)
    """What a driver has on disk of claims."""
    requests_sent: int = 0


class SimulatedNetwork:
    """Nodes 0 .. n-1, made by `add`, and the links between them.

    `latency_s(a, b)` is the one-way latency between two node indices; `loss` the share of messages that vanish.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        latency_s: Callable[[int, int], float],
        loss: float = 0.0,
        by_reference: bool = False,
        k: int | None = None,
    ) -> None:
        self.engine = engine
        self.nodes: list[SimulatedNode] = []
        self.loss = loss
        self._latency_s = latency_s
        self._by_reference = by_reference
        self._k = k
        self._by_id: dict[int, SimulatedNode] = {}
        self._losses = engine.stream("loss")
        self._keys = engine.stream("keys")
        self._operations = 0
        self.listeners: list[Callable[[int, Notice], None]] = []
        """Called with every notice, and the index of the node that gave it."""
        self.is_cut: Callable[[int, int], bool] = lambda a, b: False

    # --- What an experiment does ---------------------------------------------------------------------------------

    def add(self, *, server_name: str | None = None, reachable: bool = True) -> SimulatedNode:
        """A new node, started and bootstrapped through node 0."""
        index = len(self.nodes)
        keys = KeyPair.from_seed(self._keys.randbytes(32))
        endpoints = (f"wss://n{index}.example{index}.org/",) if reachable else ()
        contact = Contact(keys.node_id, keys.public_key, endpoints, server_name or f"s{index}.example{index}.org")
        simulated = SimulatedNode(index, keys, contact, self._new_node(index, keys, contact), b"", self.engine.now)
        self.nodes.append(simulated)
        self._by_id[keys.node_id] = simulated
        self._start(simulated)
        return simulated

    def crash(self, index: int) -> None:
        """Stop a node at once: its peers see their connections break."""
        simulated = self.nodes[index]
        simulated.is_up = False
        self._break_sessions(simulated)

    def shut_down(self, index: int, deadline_s: float = 5.0) -> None:
        """Stop a node in order: it hands over what it keeps, and tells its peers that it leaves."""
        simulated = self.nodes[index]
        self.handle(index, Leave(deadline_s))

        def leave() -> None:
            for node_id in sorted(simulated.sessions):
                self._close(simulated, node_id, Code.LEAVING)
            simulated.is_up = False

        self.engine.after(deadline_s, leave)

    def freeze(self, index: int) -> None:
        """A node neither answers nor closes anything any more."""
        self.nodes[index].is_frozen = True

    def restart(self, index: int, *, keep_state: bool = True) -> None:
        """Start a crashed node again, with what it had on disk or without."""
        simulated = self.nodes[index]
        old = simulated.node
        simulated.node = self._new_node(index, simulated.keys, simulated.contact)
        if keep_state:
            contacts = [peer.contact for peer in old.state.book.pinned_or_recent(200)]
            simulated.node.restore(contacts, list(old.state.store))
            simulated.node.state.wall_offset_s = EPOCH_S
            simulated.node.restore_claims(
                list(simulated.promises.values()), list(simulated.rooms.values()), list(simulated.own_rooms.values())
            )
        simulated.is_up, simulated.is_frozen = True, False
        simulated.wake_s = float("inf")
        self._start(simulated)

    def handle(self, index: int, event: Event) -> None:
        """Give a node an event now."""
        simulated = self.nodes[index]
        if simulated.is_up and not simulated.is_frozen:
            self._obey(simulated, simulated.node.handle(event, self.engine.now))

    def look_up(
        self, index: int, subject: Subject, *, providers_max: int = 16, deadline_s: float = 15.0
    ) -> LookupResult:
        """Start a lookup at a node; the result fills while the engine runs."""
        self._operations += 1
        result = LookupResult(self.engine.now)
        self.nodes[index].lookups[self._operations] = result
        self.handle(index, StartLookup(self._operations, subject, providers_max, deadline_s))
        return result

    def finish(self, results: Iterable[LookupResult], limit_s: float = 60.0) -> bool:
        """Run until all these lookups have ended. Returns whether they did."""
        waiting = list(results)
        return self.engine.run_while(lambda: any(r.ended is None for r in waiting), limit_s)

    def true_closest(self, target: int, count: int) -> list[int]:
        """The IDs of the `count` nodes that are up and nearest to `target`."""
        ids = (s.keys.node_id for s in self.nodes if s.is_up and not s.is_frozen and s.contact.endpoints)
        return sorted(ids, key=target.__xor__)[:count]

    # --- The driver ----------------------------------------------------------------------------------------------

    def _new_node(self, index: int, keys: KeyPair, contact: Contact) -> Node:
        settings = NodeSettings() if self._k is None else NodeSettings(k=self._k)
        entropy = self.engine.stream(f"node/{index}/{self.engine.now}").randbytes
        return Node(
            keys,
            contact,
            settings,
            entropy=entropy,
            registrable_domain=lambda host: ".".join(host.split(".")[-2:]),
            now=self.engine.now,
        )

    def _start(self, simulated: SimulatedNode) -> None:
        simulated.instance = self._keys.randbytes(8)
        simulated.started_s = self.engine.now
        self.handle(simulated.index, ClockSet(EPOCH_S))
        self.handle(simulated.index, Start())

    def _obey(self, simulated: SimulatedNode, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(contact, message):
                    self._send(simulated, contact, message)
                case Dial(contact):
                    self._dial(simulated, contact, None)
                case Probe(contact):
                    self._probe(simulated, contact)
                case Hangup(node_id, code):
                    self._close(simulated, node_id, code)
                case Bootstrap():
                    if simulated.index:
                        self._dial(simulated, self.nodes[0].contact, None)
                case WakeAt(at_s):
                    simulated.wake_s = at_s
                    self.engine.at(at_s, lambda s=simulated, t=at_s: self._wake(s, t))  # type: ignore[misc]
                case Tell(notice):
                    self._told(simulated, notice)

    def _wake(self, simulated: SimulatedNode, at_s: float) -> None:
        if simulated.wake_s == at_s:
            self.handle(simulated.index, Woke())

    def _told(self, simulated: SimulatedNode, notice: Notice) -> None:
        for listener in self.listeners:
            listener(simulated.index, notice)
        match notice:
            case ProviderFound(operation):
                result = simulated.lookups[operation]
                result.providers.append(notice)
                result.first_s = self.engine.now if result.first_s is None else result.first_s
            case LookupEnded(operation):
                result = simulated.lookups.pop(operation)
                result.ended, result.ended_s = notice, self.engine.now
            case AnnouncementProgress(subject):
                simulated.progress[subject.key] = notice
            case RecordKept(record):
                simulated.records[record.key, record.node_id] = record.body
            case PromiseMade(promise):
                simulated.promises[promise.key] = promise
            case RoomKept(room):
                record = parse_room(room, verify=False).record
                simulated.rooms[record.key, record.node_id] = room
            case RoomDropped(key, signer):
                simulated.rooms.pop((key, signer), None)
            case RoomRenewed(subject, room_id, room):
                simulated.own_rooms[subject.key] = (subject, room_id, room)
            case RecordDropped(record):
                simulated.records.pop((record.key, record.node_id), None)

    def _hears(self, a: SimulatedNode, b: SimulatedNode) -> bool:
        return b.is_up and not b.is_frozen and not self.is_cut(a.index, b.index)

    def _send(self, sender: SimulatedNode, contact: Contact, message: Message) -> None:
        if contact.node_id not in sender.sessions:
            self._dial(sender, contact, message)
            return
        sender.requests_sent += isinstance(message, Query) and not isinstance(message.request, Ping)
        receiver = self._by_id[contact.node_id]
        if self.loss and self._losses.random() < self.loss:
            return
        delivered = message if self._by_reference else decode(encode(message))
        delay_s = self._latency_s(sender.index, receiver.index)

        def arrive() -> None:
            if self._hears(sender, receiver) and sender.keys.node_id in receiver.sessions:
                self.handle(receiver.index, Received(sender.keys.node_id, delivered))

        self.engine.after(delay_s, arrive)

    def _dial(self, dialer: SimulatedNode, contact: Contact, message: Message | None) -> None:
        node_id = contact.node_id
        if node_id in dialer.sessions:
            return
        first = node_id not in dialer.dialling
        queue = dialer.dialling.setdefault(node_id, [])
        if message is not None:
            queue.append(message)
        if first:
            self._connect(dialer, contact, lambda reached: self._dialled(dialer, contact, reached))

    def _connect(self, dialer: SimulatedNode, contact: Contact, then: Callable[[bool], None]) -> None:
        """Call `then` once it is known whether that node answers at its endpoint."""
        target = self._by_id.get(contact.node_id)
        if target is None or not contact.endpoints or not target.is_up:
            # Nobody listens there: refused after one round trip.
            delay_s = 0.1 if target is None else 2 * self._latency_s(dialer.index, target.index)
            self.engine.after(delay_s, lambda: then(False))
        elif not self._hears(dialer, target):
            self.engine.after(_DIAL_TIMEOUT_S, lambda: then(False))
        else:
            delay_s = 2 * _DIAL_ROUND_TRIPS * self._latency_s(dialer.index, target.index)
            self.engine.after(delay_s, lambda: then(self._hears(dialer, target)))

    def _dialled(self, dialer: SimulatedNode, contact: Contact, reached: bool) -> None:
        queue = dialer.dialling.pop(contact.node_id, [])
        if not dialer.is_up:
            return
        if not reached:
            self.handle(dialer.index, DialFailed(contact.node_id, Code.UNREACHABLE))
            return
        target = self._by_id[contact.node_id]
        if contact.node_id not in dialer.sessions:
            if dialer.keys.node_id in target.sessions:  # its end never noticed that ours is gone
                self._drop(target, dialer.keys.node_id, Code.UNREACHABLE)
            dialer.sessions.add(contact.node_id)
            target.sessions.add(dialer.keys.node_id)
            self.handle(target.index, SessionOpened(self._hello(dialer), outbound=False))
            self.handle(dialer.index, SessionOpened(self._hello(target), outbound=True))
        for message in queue:
            self._send(dialer, contact, message)

    def _hello(self, simulated: SimulatedNode) -> Hello:
        now = self.engine.now
        return Hello(simulated.contact, simulated.instance, int(now - simulated.started_s), int(EPOCH_S + now), "sim")

    def _probe(self, dialer: SimulatedNode, contact: Contact) -> None:
        self._connect(dialer, contact, lambda reached: self.handle(dialer.index, ProbeEnded(contact.node_id, reached)))

    def _close(self, closer: SimulatedNode, node_id: int, code: str) -> None:
        other = self._by_id[node_id]
        if node_id in closer.sessions:
            self._drop(closer, node_id, code)
            delay_s = self._latency_s(closer.index, other.index)
            if self._hears(closer, other):
                self.engine.after(delay_s, lambda: self._drop(other, closer.keys.node_id, code))

    def _drop(self, simulated: SimulatedNode, node_id: int, code: str) -> None:
        if node_id in simulated.sessions:
            simulated.sessions.discard(node_id)
            self.handle(simulated.index, SessionClosed(node_id, code))

    def _break_sessions(self, simulated: SimulatedNode) -> None:
        for node_id in sorted(simulated.sessions):
            other = self._by_id[node_id]
            delay_s = self._latency_s(simulated.index, other.index)
            self.engine.after(
                delay_s,
                lambda o=other: self._drop(o, simulated.keys.node_id, Code.UNREACHABLE),  # type: ignore[misc]
            )
        simulated.sessions.clear()
        simulated.dialling.clear()
