"""Sessions between simulated nodes: dialling, opening, closing, breaking, and noticing that nobody is there any more.

A dial costs round trips (TCP, TLS, WebSocket, handshake) before the first message travels. Who is not listening refuses
after one round trip; who is frozen, or cut off, makes the dialler wait for its timeout. A node that crashes breaks its
connections, and the other ends notice after one latency. With `keepalive_assumed` nobody pings: a session whose other
end has gone quiet is closed as late as pings would have closed it: `SESSION_IDLE_PING_S` and the ping's timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mediadht.core.constants import REQUEST_TIMEOUT_S, SESSION_IDLE_PING_S, TICK_S
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code
from mediadht.core.events import DialFailed, ProbeEnded, SessionClosed, SessionOpened
from mediadht.core.messages import Message
from mediadht.core.session import Hello
from mediadht_sim.nodes import EPOCH_S, SimulatedNode

if TYPE_CHECKING:
    from mediadht_sim.network import SimulatedNetwork

__all__ = ["Sessions"]

_DIAL_TIMEOUT_S = 10.0
_UNKNOWN_HOST_S = 0.1
"""How long it takes to learn that a name leads nowhere."""


class Sessions:
    """The sessions of one network."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self._network = network
        self._quiet = network.engine.stream("sessions/quiet")
        self.dials = 0

    def dial(self, dialler: SimulatedNode, contact: Contact, message: Message | None = None) -> None:
        """Open a session if there is none and none is under way, and send `message` over it once it is open."""
        node_id = contact.node_id
        if node_id in dialler.sessions:
            return
        queue = dialler.dialling.get(node_id)
        if queue is not None:
            if message is not None:
                queue.append(message)
            return
        dialler.dialling[node_id] = [] if message is None else [message]
        core = dialler.node
        self._connect(dialler, contact, lambda reached: self._dialled(dialler, core, contact, reached))

    def probe(self, dialler: SimulatedNode, contact: Contact) -> None:
        """Dial anew, see whether this node answers, and hang up."""
        core = dialler.node

        def ended(reached: bool) -> None:
            if dialler.node is core:
                self._network.handle(dialler.index, ProbeEnded(contact.node_id, reached))

        self._connect(dialler, contact, ended)

    def close(self, closer: SimulatedNode, node_id: int, code: str) -> None:
        """Close a session: at once here, one latency later there."""
        other = closer.sessions.get(node_id)
        if other is not None:
            self._drop(closer, node_id, code)
            delay_s = self._network.links.latency_s(closer.index, other.index)
            if self._network.hears(closer, other):
                self._network.engine.after(delay_s, self._drop, other, closer.keys.node_id, code, closer)

    def break_all(self, node: SimulatedNode) -> None:
        """This node's connections break: the other ends notice."""
        for node_id in sorted(node.sessions):
            other = node.sessions[node_id]
            delay_s = self._network.links.latency_s(node.index, other.index)
            self._network.engine.after(delay_s, self._drop, other, node.keys.node_id, Code.UNREACHABLE, node)
        node.sessions.clear()
        node.dialling.clear()

    def gone_quiet(self, node: SimulatedNode) -> None:
        """This node may not be heard any more by those it has sessions with: each notices in its own time."""
        if not self._network.settings.keepalive_assumed:
            return
        for node_id in sorted(node.sessions):
            other = node.sessions[node_id]
            if not self._network.hears(node, other) or not self._network.hears(other, node):
                late_s = self._quiet.uniform(0, SESSION_IDLE_PING_S + TICK_S) + REQUEST_TIMEOUT_S
                self._network.engine.after(late_s, self._missed, other, node)

    def heard_again(self, node: SimulatedNode) -> None:
        """This node was frozen: sessions whose other ends have given it up break for it now."""
        for node_id in sorted(node.sessions):
            other = node.sessions.get(node_id)  # an earlier one's end may have made the core hang this one up
            if other is not None and node.keys.node_id not in other.sessions:
                self._drop(node, node_id, Code.UNREACHABLE)

    def hello(self, node: SimulatedNode) -> Hello:
        """What a node says of itself in a handshake now."""
        now = self._network.engine.now
        uptime_s, clock_s = int(now - node.started_s), int(EPOCH_S + now + node.clock_skew_s)
        return Hello(node.contact, node.instance, uptime_s, clock_s, "sim")

    def link(self, a: SimulatedNode, b: SimulatedNode) -> None:
        """Both ends have a session, without a word: for a network that starts settled."""
        a.sessions[b.keys.node_id] = b
        b.sessions[a.keys.node_id] = a

    def _missed(self, watcher: SimulatedNode, node: SimulatedNode) -> None:
        still_quiet = not self._network.hears(node, watcher) or not self._network.hears(watcher, node)
        if still_quiet and watcher.sessions.get(node.keys.node_id) is node:
            self._drop(watcher, node.keys.node_id, Code.TIMED_OUT)
            if self._network.hears(watcher, node):
                self._drop(node, watcher.keys.node_id, Code.UNREACHABLE)

    def _connect(self, dialler: SimulatedNode, contact: Contact, then: Callable[[bool], None]) -> None:
        """Call `then` once it is known whether that node answers at its endpoint."""
        network = self._network
        self.dials += 1
        dialler.dials += 1
        target = network.by_id.get(contact.node_id)
        if target is None or not contact.endpoints:
            network.engine.after(_UNKNOWN_HOST_S, then, False)
            return
        round_trip_s = 2 * network.links.latency_s(dialler.index, target.index)
        if not target.is_up:
            network.engine.after(round_trip_s, then, False)
        elif not network.hears(dialler, target):
            network.engine.after(_DIAL_TIMEOUT_S, then, False)
        else:

            def arrived() -> None:
                then(network.hears(dialler, target) and network.hears(target, dialler))

            network.engine.after(min(_DIAL_TIMEOUT_S, network.settings.dial_round_trips * round_trip_s), arrived)

    def _dialled(self, dialler: SimulatedNode, core: object, contact: Contact, reached: bool) -> None:
        if dialler.node is not core or not dialler.is_up:
            return
        network, node_id = self._network, contact.node_id
        queue = dialler.dialling.pop(node_id, [])
        if not reached:
            network.handle(dialler.index, DialFailed(node_id, Code.UNREACHABLE))
            return
        target = network.by_id[node_id]
        if node_id not in dialler.sessions and not dialler.is_frozen:
            if dialler.keys.node_id in target.sessions:  # its end never noticed that ours is gone
                self._drop(target, dialler.keys.node_id, Code.UNREACHABLE)
            self.link(dialler, target)
            network.handle(target.index, SessionOpened(self.hello(dialler), outbound=False))
            if node_id in dialler.sessions:
                network.handle(dialler.index, SessionOpened(self.hello(target), outbound=True))
        for message in queue:
            network.send(dialler, contact, message)

    def _drop(self, node: SimulatedNode, node_id: int, code: str, of: SimulatedNode | None = None) -> None:
        """This end's session is gone. With `of`, unless that node has opened another one since."""
        if node_id not in node.sessions or node.is_frozen:
            return  # a frozen node notices when it thaws
        if of is not None and of.is_up and node.keys.node_id in of.sessions:
            return
        del node.sessions[node_id]
        self._network.handle(node.index, SessionClosed(node_id, code))
