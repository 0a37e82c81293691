"""Drives the core: events in, effects out, one at a time; sockets, clock and timers on its behalf.

`step` hands one event to the node and obeys every effect before it returns. Sending never waits (see `streams`), so a
step takes no longer than its computation, and a peer that does not read slows nobody. One task sleeps until the node
wants to be woken. Who has a session with whom, and which of two connections stays, is decided here: one session per
pair of nodes, however both sides dial (`docs/protocol.md`, section "Sessions").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import assert_never

import trio

from mediadht.core.codec import decode, encode
from mediadht.core.constants import REQUESTS_PER_SESSION_IN_FLIGHT_MAX
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code, RemoteError
from mediadht.core.events import (
    Bootstrap,
    ClockSet,
    Dial,
    DialFailed,
    Effect,
    Event,
    Hangup,
    Notice,
    Probe,
    ProbeEnded,
    Received,
    Send,
    SessionClosed,
    SessionOpened,
    Tell,
    WakeAt,
    Woke,
)
from mediadht.core.messages import Message
from mediadht.core.node import Node
from mediadht.daemon.connections import Connection

__all__ = ["Driver", "Traffic"]

SIMULTANEOUS_S = 5.0
"""Two connections of one pair opened within this time of one another were dialled at once from both ends."""
_CLOCK_STEP_S = 0.5


class Traffic:
    """Counts since the start."""

    __slots__ = ("dials", "messages_received", "messages_sent", "refused", "requests_sent", "sessions_opened")

    def __init__(self) -> None:
        self.messages_sent = 0
        self.messages_received = 0
        self.requests_sent = 0
        self.sessions_opened = 0
        self.dials = 0
        self.refused = 0


class Driver:
    """Runs one node. `dial`, `probe` and `bootstrap` start tasks and return at once; `told` takes notices."""

    def __init__(
        self,
        node: Node,
        *,
        dial: Callable[[Contact], None],
        probe: Callable[[Contact], None],
        bootstrap: Callable[[], None],
        told: Callable[[Notice], None],
    ) -> None:
        self.node = node
        self.connections: dict[int, Connection] = {}
        self.traffic = Traffic()
        self.is_stopping = False
        """Set to open no more sessions."""
        self._dial = dial
        self._probe = probe
        self._bootstrap = bootstrap
        self._told = told
        self._queued: dict[int, list[Message]] = {}
        self._dirty: dict[Connection, None] = {}
        self._hangups: list[tuple[Connection, str]] = []
        self._timer = trio.CancelScope()
        self._wall_offset_s = float("nan")

    @property
    def dialling(self) -> int:
        """Peers being dialled."""
        return len(self._queued)

    async def step(self, event: Event) -> None:
        """Let the node handle `event` now, and do what it says."""
        self._obey(self.node.handle(event, trio.current_time()))
        await self._flush()

    async def set_clock(self) -> None:
        """Tell the node the Unix time, if that is not what it would compute itself."""
        offset_s = time.time() - trio.current_time()
        if not abs(offset_s - self._wall_offset_s) < _CLOCK_STEP_S:
            self._wall_offset_s = offset_s
            await self.step(ClockSet(offset_s))

    async def timer_task(self) -> None:
        """Wake the node when it wants to be woken."""
        while True:
            with self._timer:
                await trio.sleep_forever()
            self._timer = trio.CancelScope()
            await self.step(Woke())

    async def read_task(self, connection: Connection, messages: list[bytes]) -> str:
        """Hand the node what the peer says, `messages` first, until the connection ends; returns the code."""
        node_id = connection.peer.contact.node_id
        try:
            while True:
                for message in messages:
                    self.traffic.messages_received += 1
                    self._obey(self.node.handle(Received(node_id, decode(message)), trio.current_time()))
                await self._flush()
                # A fault that came right behind the messages is raised by the next call, for which no byte may follow.
                data = await connection.receive() if connection.session.is_open else b""
                messages = connection.session.receive(data)
        except RemoteError as fault:
            return fault.code

    # --- Sessions ------------------------------------------------------------------------------------------------

    async def opened(self, connection: Connection) -> None:
        """Take a connection whose handshake is done into use; the lesser of two only drains."""
        node_id = connection.peer.contact.node_id
        held = self.connections.get(node_id)
        if held is not None:
            if self._is_lesser(connection, held):
                connection.supersede()
                await self._send_waiting(held)
                return
            held.supersede()
            if held.peer.instance != connection.peer.instance:
                await self.step(SessionClosed(node_id, Code.UNREACHABLE))
        self.connections[node_id] = connection
        self.traffic.sessions_opened += 1
        await self.step(SessionOpened(connection.peer, connection.outbound, connection.address, connection.endpoint))
        if self.connections.get(node_id) is connection:
            await self._send_waiting(connection)

    async def closed(self, connection: Connection, code: str) -> None:
        """The connection has ended."""
        node_id = connection.peer.contact.node_id
        self._dirty.pop(connection, None)
        if self.connections.get(node_id) is connection:
            del self.connections[node_id]
            await self.step(SessionClosed(node_id, code))

    async def dial_failed(self, node_id: int, code: str) -> None:
        """Dialling has failed; if a session exists all the same, nothing is lost."""
        if node_id in self.connections:
            await self._send_waiting(self.connections[node_id])
        else:
            self._queued.pop(node_id, None)
            await self.step(DialFailed(node_id, code))

    async def _send_waiting(self, connection: Connection) -> None:
        """Send what was queued while this peer was being dialled."""
        for message in self._queued.pop(connection.peer.contact.node_id, ()):
            self._send(connection, message)
        await self._flush()

    async def probe_ended(self, node_id: int, address: str | None, endpoint: str | None) -> None:
        """A probe has ended; `address` is None where the node was not reached."""
        await self.step(ProbeEnded(node_id, address is not None, address, endpoint))

    def _is_lesser(self, new: Connection, held: Connection) -> bool:
        """Of two connections dialled at once from both ends, the one that the lower node ID dialled stays."""
        if new.peer.instance != held.peer.instance or new.outbound == held.outbound:
            return False
        if abs(new.opened_s - held.opened_s) > SIMULTANEOUS_S:
            return False
        own_is_lower = self.node.state.own_id < new.peer.contact.node_id
        return new.outbound != own_is_lower

    # --- Effects -------------------------------------------------------------------------------------------------

    def _obey(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(contact, message):
                    connection = self.connections.get(contact.node_id)
                    if connection is not None:
                        self._send(connection, message)
                    else:
                        self._queue(contact, message)
                case WakeAt(at_s):
                    self._timer.deadline = at_s
                case Tell(notice):
                    self._told(notice)
                case Dial(contact):
                    self._queue(contact, None)
                case Probe(contact):
                    if not self.is_stopping:
                        self._probe(contact)
                case Hangup(node_id, code):
                    if node_id in self.connections:
                        self._hangups.append((self.connections[node_id], code))
                case Bootstrap():
                    if not self.is_stopping:
                        self._bootstrap()
                case _:
                    assert_never(effect)

    def _send(self, connection: Connection, message: Message) -> None:
        self.traffic.messages_sent += 1
        connection.queue(encode(message))
        self._dirty[connection] = None

    def _queue(self, contact: Contact, message: Message | None) -> None:
        """Dial, unless that is under way; keep the message until the session is open."""
        if contact.node_id in self.connections or self.is_stopping:
            return
        waiting = self._queued.get(contact.node_id)
        if waiting is None:
            waiting = self._queued[contact.node_id] = []
            self.traffic.dials += 1
            self._dial(contact)
        if message is not None and len(waiting) < REQUESTS_PER_SESSION_IN_FLIGHT_MAX:
            waiting.append(message)

    async def _flush(self) -> None:
        """Hand the kernel what the steps so far have queued. Not cancelled half-way: it does not wait for peers."""
        if not (self._dirty or self._hangups):
            return
        with trio.CancelScope(shield=True):
            while self._dirty:
                connection = next(iter(self._dirty))
                del self._dirty[connection]
                await connection.flush()
            while self._hangups:
                connection, code = self._hangups.pop()
                connection.hang_up(code)
                await self.closed(connection, code)
