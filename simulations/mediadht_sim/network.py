"""A simulated network of real nodes: it obeys `mediadht.core`'s effects as the trio driver does, in virtual time.

Nodes can crash (connections break), leave in order, freeze (nothing answers, nothing closes) and return, with their
state or without; links are `links.Links`, partitions among them. Messages pass through the codec, or by reference.
Sessions are `sessions.Sessions`' business. What always holds: a node's core is called with non-decreasing times, from
here only, and the same seed makes the same calls in the same order (`trace`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from mediadht.core.codec import decode, encode
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code
from mediadht.core.events import (
    AnnouncementProgress,
    AnnounceWish,
    Bootstrap,
    ClockSet,
    Dial,
    Event,
    Hangup,
    Leave,
    LookupEnded,
    Notice,
    Probe,
    PromiseMade,
    ProviderFound,
    Received,
    RecordDropped,
    RecordKept,
    RoomDropped,
    RoomKept,
    RoomRenewed,
    Send,
    Start,
    StartLookup,
    Tell,
    WakeAt,
    Woke,
)
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Message, Ping, Query
from mediadht.core.node import Node
from mediadht.core.records import Offer, Payload
from mediadht.core.room_records import parse_room
from mediadht.core.state import NodeSettings
from mediadht_sim.engine import Engine
from mediadht_sim.fakes import FakeKeyPair
from mediadht_sim.links import Links, LinkSettings
from mediadht_sim.nodes import EPOCH_S, Handles, SimulatedNode
from mediadht_sim.observers import LookupResult, Observer
from mediadht_sim.sessions import Sessions
from mediadht_sim.trace import Trace

__all__ = ["EPOCH_S", "LookupResult", "NetworkSettings", "SimulatedNetwork", "SimulatedNode"]

_PAYLOAD = Payload(None, frozenset({Offer.BYTES}))
_REMEMBERED_CONTACTS = 200
"""Contacts that a daemon has on disk: those of its table, and the latest that answered."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How faithful the simulation is, and what all its nodes are configured with."""

    by_reference: bool = False
    """Messages are handed over as objects; else they pass through the codec."""
    fake_signatures: bool = False
    """Keys are `FakeKeyPair`s; the run must be within `faking(signatures=True)`."""
    keepalive_assumed: bool = False
    """No pings are exchanged: the network itself notices dead sessions, as late as pings would have."""
    dial_round_trips: float = 4.0
    """TCP, TLS, WebSocket and handshake."""
    node: NodeSettings = NodeSettings()  # noqa: RUF009 - frozen


class SimulatedNetwork:
    """Nodes 0 .. n-1, made by `add`, and the links between them.

    `latency_s(a, b)` is the one-way latency between two node indices.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        latency_s: Callable[[int, int], float],
        links: LinkSettings | None = None,
        settings: NetworkSettings | None = None,
    ) -> None:
        self.engine = engine
        self.settings = settings or NetworkSettings()
        self.links = Links(engine, latency_s, links or LinkSettings())
        self.nodes: list[SimulatedNode] = []
        self.by_id: dict[int, SimulatedNode] = {}
        self.observers: list[Observer] = []
        self.trace = Trace()
        self.messages = 0
        """Messages sent over open sessions."""
        self.bytes = 0
        """Of them, where sizes are known: with the codec, or with bandwidth."""
        self.sessions = Sessions(self)
        self._keys = engine.stream("keys")
        self._operations = 0
        self._watchers: list[Observer] = []
        self._knows_sizes = not self.settings.by_reference or self.links.counts_bytes
        self._handlers: dict[type, Callable[[SimulatedNode, Any], None]] = {
            Send: lambda node, effect: self.send(node, effect.contact, effect.message),
            Dial: lambda node, effect: self.sessions.dial(node, effect.contact),
            Probe: lambda node, effect: self.sessions.probe(node, effect.contact),
            Hangup: lambda node, effect: self.sessions.close(node, effect.node_id, effect.code),
            Bootstrap: lambda node, _: self._bootstrap(node),
            WakeAt: self._wake_at,
            Tell: lambda node, effect: self._told(node, effect.notice),
        }

    # --- What an experiment does ---------------------------------------------------------------------------------

    def add(
        self,
        *,
        server_name: str | None = None,
        reachable: bool = True,
        keys: KeyPair | None = None,
        endpoints: tuple[str, ...] | None = None,
        bootstrap: Callable[[], Contact | None] | None = None,
        clock_skew_s: float = 0.0,
        mind: Callable[[SimulatedNode], Handles] | None = None,
        starts: bool = True,
    ) -> SimulatedNode:
        """A new node, started and bootstrapped through node 0, or through what `bootstrap` returns.

        `mind(node)` makes what decides in the core's place. `starts=False` is for `settled`, which starts it itself.
        """
        index = len(self.nodes)
        keys = keys or self.keys_from_seed(self._keys.randbytes(32))
        if endpoints is None:
            endpoints = (f"wss://n{index}.example{index}.org/",) if reachable else ()
        contact = Contact(keys.node_id, keys.public_key, endpoints, server_name or f"s{index}.example{index}.org")
        node = self._new_node(index, keys, contact)
        made = SimulatedNode(index, keys, contact, node, node, b"", self.engine.now, clock_skew_s=clock_skew_s)
        made.bootstrap = bootstrap or (lambda: self.nodes[0].contact if index else None)
        if mind is not None:
            made.mind, made.is_honest = mind(made), False
        self.nodes.append(made)
        self.by_id[keys.node_id] = made
        self.links.added(index)
        if starts:
            self.start(made)
        self.lived(made, "added")
        return made

    def start(self, node: SimulatedNode) -> None:
        """Give a new core its clock and its start."""
        self.boot(node)
        self.handle(node.index, Start())

    def boot(self, node: SimulatedNode) -> None:
        """Give a new core its clock; `Start` is yet to come."""
        node.instance = self._keys.randbytes(8)
        node.started_s = self.engine.now
        self.handle(node.index, ClockSet(EPOCH_S + node.clock_skew_s))

    def keys_from_seed(self, seed: bytes) -> KeyPair:
        """A key pair of the kind that this network uses, of a seed of 32 bytes."""
        return (FakeKeyPair if self.settings.fake_signatures else KeyPair).from_seed(seed)

    def crash(self, index: int) -> None:
        """Stop a node at once: its peers see their connections break."""
        node = self.nodes[index]
        if node.is_up:
            node.is_up = False
            self.sessions.break_all(node)
            self._abandon(node)
            self.lived(node, "crashed")

    def shut_down(self, index: int, deadline_s: float = 5.0) -> None:
        """Stop a node in order: it hands over what it keeps, and tells its peers that it leaves."""
        node = self.nodes[index]
        if not node.is_up:
            return
        self.handle(index, Leave(deadline_s))

        def leave(started_s: float) -> None:
            if node.is_frozen and node.started_s == started_s:
                node.is_frozen = False
                self.crash(index)  # it was asked to leave and hangs: it is killed
            elif node.is_up and node.started_s == started_s:
                for node_id in sorted(node.sessions):
                    self.sessions.close(node, node_id, Code.LEAVING)
                node.is_up = False
                node.dialling.clear()
                self._abandon(node)
                self.lived(node, "left")

        self.engine.after(deadline_s, leave, node.started_s)

    def freeze(self, index: int) -> None:
        """A node neither answers nor closes anything any more."""
        node = self.nodes[index]
        if node.hears:
            node.is_frozen = True
            self.sessions.gone_quiet(node)
            self.lived(node, "frozen")

    def thaw(self, index: int) -> None:
        """A frozen node goes on where it stopped; what was sent to it meanwhile is lost."""
        node = self.nodes[index]
        if node.is_frozen:
            node.is_frozen = False
            self.lived(node, "thawed")
            self.sessions.heard_again(node)
            self.handle(index, Woke())

    def partition(self, sides: list[int]) -> None:
        """Nothing passes any more between nodes of different sides (`sides[index]`)."""
        self.links.partition(sides)
        for node in self.nodes:
            self.sessions.gone_quiet(node)

    def heal(self) -> None:
        """Everything passes again."""
        self.links.heal()

    def restart(self, index: int, *, keep_state: bool = True) -> None:
        """Start a node again that is down, with what it had on disk or without; what its owner wants is the same."""
        node = self.nodes[index]
        if node.is_up:
            self.crash(index)
        old = node.node
        node.node = self._new_node(index, node.keys, node.contact)
        if node.mind is old:
            node.mind = node.node
        if keep_state:
            contacts = [peer.contact for peer in old.state.book.pinned_or_recent(_REMEMBERED_CONTACTS)]
            node.node.restore(contacts, list(node.disk.values()))
        else:
            node.disk.clear()
            node.promises.clear()
            node.rooms.clear()
            node.own_rooms.clear()
            node.wishes = {k: replace(w, sequence=0, stored_at_s=0.0) for k, w in node.wishes.items() if w.payload}
        node.is_up, node.is_frozen, node.wake_s = True, False, float("inf")
        self.boot(node)
        if node.promises or node.rooms or node.own_rooms:
            node.node.restore_claims(
                list(node.promises.values()), list(node.rooms.values()), list(node.own_rooms.values())
            )
        self.handle(index, Start())
        for wish in list(node.wishes.values()):
            self.handle(index, wish)
        self.lived(node, "restarted")

    def handle(self, index: int, event: Event) -> None:
        """Give a node an event now."""
        node = self.nodes[index]
        if node.hears:
            self.give(node, event)

    def announce(self, index: int, subject: Subject, payload: Payload = _PAYLOAD) -> None:
        """Have a node announce `subject` from now on."""
        self._wish(index, AnnounceWish(subject, payload))

    def withdraw(self, index: int, subject: Subject) -> None:
        """Have a node withdraw `subject`."""
        self._wish(index, AnnounceWish(subject, None))

    def look_up(
        self, index: int, subject: Subject, *, providers_max: int = 16, deadline_s: float = 15.0
    ) -> LookupResult:
        """Start a lookup at a node; the result fills while the engine runs."""
        self._operations += 1
        result = LookupResult(index, subject, self.engine.now)
        self.nodes[index].lookups[self._operations] = result
        self.handle(index, StartLookup(self._operations, subject, providers_max, deadline_s))
        return result

    def finish(self, results: Iterable[LookupResult], limit_s: float = 60.0) -> bool:
        """Run until all these lookups have ended. Returns whether they did."""
        waiting = list(results)
        return self.engine.run_while(lambda: any(r.ended is None for r in waiting), limit_s)

    def true_closest(self, target: int, count: int) -> list[int]:
        """The IDs of the `count` nodes that are up and nearest to `target`."""
        ids = (s.keys.node_id for s in self.nodes if s.hears and s.contact.endpoints)
        return sorted(ids, key=target.__xor__)[:count]

    # --- The driver ----------------------------------------------------------------------------------------------

    def give(self, node: SimulatedNode, event: Event) -> None:
        """Let a node that is up handle an event, and obey."""
        effects = node.mind.handle(event, self.engine.now)
        if effects:
            handlers = self._handlers
            for effect in effects:
                handlers[type(effect)](node, effect)

    def send(self, sender: SimulatedNode, contact: Contact, message: Message) -> None:
        """Send a message over the open session, or dial first."""
        receiver = sender.sessions.get(contact.node_id)
        if receiver is None:
            self.sessions.dial(sender, contact, message)
            return
        self.messages += 1
        sender.messages_out += 1
        if type(message) is Query and type(message.request) is not Ping:
            sender.requests_out += 1
        size_bytes = 0
        if self._knows_sizes:
            data = encode(message)
            size_bytes = len(data)
            self.bytes += size_bytes
            sender.bytes_out += size_bytes
            if not self.settings.by_reference:
                message = decode(data)
        if self._watchers:
            for watcher in self._watchers:
                watcher.sent(sender, receiver, message)
        self.trace.sent(self.engine.now, sender.index, receiver.index, message)
        delay_s = self.links.delay_s(sender.index, receiver.index, size_bytes)
        if delay_s is not None:
            self.engine.after(delay_s, self._arrive, sender, receiver, message, size_bytes)

    def hears(self, a: SimulatedNode, b: SimulatedNode) -> bool:
        """Whether what `a` sends now would be taken in by `b`."""
        if not b.hears:
            return False
        is_cut = self.links.is_cut
        return is_cut is None or not is_cut(a.index, b.index)

    def watch(self, observer: Observer) -> None:
        """Let somebody watch from now on."""
        self.observers.append(observer)
        if observer.watches_messages:
            self._watchers.append(observer)

    def lived(self, node: SimulatedNode, what: str) -> None:
        """Something happened to a node: `added`, `crashed`, and so on."""
        for observer in self.observers:
            observer.life(node, what)

    def _arrive(self, sender: SimulatedNode, receiver: SimulatedNode, message: Message, size_bytes: int) -> None:
        # `hears`, written out: this is where a simulation spends its time.
        if receiver.is_up and not receiver.is_frozen and sender.keys.node_id in receiver.sessions:
            is_cut = self.links.is_cut
            if is_cut is None or not is_cut(sender.index, receiver.index):
                receiver.messages_in += 1
                receiver.bytes_in += size_bytes
                self.give(receiver, Received(sender.keys.node_id, message))

    def _new_node(self, index: int, keys: KeyPair, contact: Contact) -> Node:
        settings = self.settings.node
        if self.settings.keepalive_assumed:
            settings = replace(settings, pings=False)
        return Node(
            keys,
            contact,
            settings,
            entropy=self.engine.stream(f"node/{index}/{self.engine.now}").randbytes,
            registrable_domain=_registrable_domain,
            now=self.engine.now,
        )

    def _bootstrap(self, node: SimulatedNode) -> None:
        contact = None if node.bootstrap is None else node.bootstrap()
        if contact is not None and contact.node_id != node.keys.node_id:
            self.sessions.dial(node, contact)

    def _wake_at(self, node: SimulatedNode, effect: WakeAt) -> None:
        node.wake_s = effect.at_s
        self.engine.at(effect.at_s, self._wake, node, effect.at_s, node.node)

    def _wake(self, node: SimulatedNode, at_s: float, core: Node) -> None:
        if node.wake_s == at_s and node.node is core and node.hears:
            self.give(node, Woke())

    def _wish(self, index: int, wish: AnnounceWish) -> None:
        node, key = self.nodes[index], wish.subject.key
        held = node.wishes.get(key)
        if held is not None:
            wish = replace(wish, sequence=held.sequence)
        node.wishes[key] = wish
        self.handle(index, wish)
        for observer in self.observers:
            observer.wished(node, wish.subject, wish.payload is not None)

    def _told(self, node: SimulatedNode, notice: Notice) -> None:
        for observer in self.observers:
            observer.told(node, notice)
        match notice:
            case ProviderFound(operation):
                result = node.lookups.get(operation)
                if result is not None:
                    result.providers.append(notice)
                    result.first_s = self.engine.now if result.first_s is None else result.first_s
            case LookupEnded(operation):
                result = node.lookups.pop(operation, None)
                if result is not None:
                    result.ended, result.ended_s = notice, self.engine.now
                    self._looked_up(node, result)
                    if result.then is not None:
                        # After the core has returned: it must not be called from within its own call.
                        self.engine.after(0.0, result.then)
            case AnnouncementProgress():
                self._progressed(node, notice)
            case RecordKept(record):
                node.disk[record.key, record.node_id] = record
            case PromiseMade(promise):
                node.promises[promise.key] = promise
            case RoomKept(room):
                record = parse_room(room, verify=False).record
                node.rooms[record.key, record.node_id] = room
            case RoomDropped(key, signer):
                node.rooms.pop((key, signer), None)
            case RoomRenewed(subject, room_id, room):
                node.own_rooms[subject.key] = (subject, room_id, room)
            case RecordDropped(record):
                node.disk.pop((record.key, record.node_id), None)

    def _progressed(self, node: SimulatedNode, notice: AnnouncementProgress) -> None:
        key = notice.subject.key
        node.progress[key] = notice
        held = node.wishes.get(key)
        if notice.ended:
            node.wishes.pop(key, None)
        elif held is not None and (held.payload is None) == notice.withdrawn:
            stored_at_s = EPOCH_S + node.clock_skew_s + self.engine.now if notice.trouble is None else held.stored_at_s
            node.wishes[key] = replace(held, sequence=notice.sequence, stored_at_s=stored_at_s)

    def _abandon(self, node: SimulatedNode) -> None:
        for result in node.lookups.values():
            result.is_abandoned = True
            self._looked_up(node, result)
        node.lookups.clear()

    def _looked_up(self, node: SimulatedNode, result: LookupResult) -> None:
        for observer in self.observers:
            observer.looked_up(node, result)


def _registrable_domain(host: str) -> str:
    """The last two labels: simulated hosts have no longer public suffixes."""
    return ".".join(host.rsplit(".", 2)[-2:])
