"""Datagrams between simulated nodes, and which operation each belongs to.

A datagram takes the links' delay (`mediadht_sim.links`: latency, jitter, loss, bandwidth, slow nodes, partitions, as
for our own nodes) or vanishes. One that arrives at a node that is down vanishes too: with UDP the sender learns
nothing, and a killed process is like a stopped one.

Requests are attributed exactly, without a change to the package: an operation runs in a task with a context variable,
which asyncio hands on to every task and timer that it starts. What a node does to answer others, and what its hourly
refresh does, carries no operation.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from contextvars import ContextVar
from typing import Any

import msgpack

from mediadht_sim.baseline.loop import VirtualLoop
from mediadht_sim.engine import Engine
from mediadht_sim.links import Links

__all__ = ["OPERATION", "Address", "DatagramNetwork", "Operation", "address_of"]

Address = tuple[str, int]

# rpcudp's frame: a byte for the direction, 20 bytes of message ID, msgpack; a request is the array [name, arguments].
_REQUEST = 0
_BODY = 21
_FIND = slice(_BODY + 2, _BODY + 7)
_HEADERS_BYTES = 28
"""IPv4 and UDP: on the wire, but not counted in `bytes_sent`."""


def address_of(index: int) -> Address:
    """Where node `index` listens."""
    return f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}", 8468


class Operation:
    """What one `set` or `get` of `key` (its digest) has asked, and who answered."""

    __slots__ = ("_asked", "_depths", "_farthest", "_key", "_useful", "is_ended", "requests", "stored", "values")

    def __init__(self, key: bytes) -> None:
        self.requests = 0
        """Request datagrams sent: finds, stores, and the pings and hand-overs that its answers set off."""
        self.stored = 0
        """Stores of its key that were acknowledged."""
        self.values = 0
        """Answers that carried a value."""
        self.is_ended = False
        self._key = key
        self._asked: dict[bytes, tuple[str, Address]] = {}
        self._depths: dict[Address, int] = {}
        self._useful = self._farthest = 0

    @property
    def hops(self) -> int:
        """Answers that led to a value, or to the farthest node that stored, one upon the other.

        Where there is neither: to the farthest that answered.
        """
        return self._useful or self._farthest

    def sends(self, data: bytes, to: Address) -> None:
        """A request leaves."""
        self.requests += 1
        if data[_FIND] == b"find_":
            self._asked[data[1:_BODY]] = "find", to
            self._depths.setdefault(to, 1)
        elif data[_FIND] == b"store" and self._key in data:
            self._asked[data[1:_BODY]] = "store", to

    def hears(self, data: bytes) -> None:
        """An answer has arrived to something that it asked."""
        kind, address = self._asked.pop(data[1:_BODY], ("", ("", 0)))
        if self.is_ended or not kind:
            return
        if kind == "store":
            self.stored += 1
            if not self.values:
                self._useful = max(self._useful, self._depths.get(address, 0))
            return
        depth = self._depths[address]
        answer = msgpack.unpackb(data[_BODY:])
        self._farthest = max(self._farthest, depth)
        if isinstance(answer, dict):
            self.values += 1
            self._useful = min(self._useful or depth, depth)
        else:
            for _, host, port in answer:
                self._depths.setdefault((host, port), depth + 1)


OPERATION: ContextVar[Operation | None] = ContextVar("OPERATION", default=None)
"""The operation that the running code works for."""


class _Transport(asyncio.DatagramTransport):
    """A node's end of the network."""

    def __init__(
        self, network: DatagramNetwork, index: int, address: Address, protocol: asyncio.DatagramProtocol
    ) -> None:
        super().__init__({"sockname": address})
        self.index = index
        self.address = address
        self.protocol = protocol
        self.is_up = True
        self.asking: dict[bytes, Operation] = {}
        """Which operation awaits the answer with this message ID."""
        self._network = network

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self.is_up:
            self._network.send(self, bytes(data), addr)

    def receive(self, data: bytes, sender: Address) -> None:
        """A datagram has arrived here."""
        if not self.is_up:
            return
        if data[0] != _REQUEST:
            operation = self.asking.pop(data[1:_BODY], None)
            if operation is not None:
                operation.hears(data)
        self.protocol.datagram_received(data, sender)

    def is_closing(self) -> bool:
        return not self.is_up

    def close(self) -> None:
        self.is_up = False

    def abort(self) -> None:
        self.is_up = False


class DatagramNetwork:
    """All endpoints, by address. Node indices count up from 0 in the order of opening."""

    def __init__(self, engine: Engine, loop: VirtualLoop, links: Links) -> None:
        self.messages = 0
        self.bytes_sent = 0
        """UDP payloads."""
        self.bytes_largest = 0
        """The largest payload of all."""
        self._engine = engine
        self._loop = loop
        self._links = links
        self._endpoints: dict[Address, _Transport] = {}
        self._trace = hashlib.sha256()
        loop.datagrams = self

    @property
    def trace(self) -> str:
        """A digest of every datagram: when, from whom, to whom, what."""
        return self._trace.hexdigest()

    def open(self, address: Address, protocol: asyncio.DatagramProtocol) -> _Transport:
        """The next node's endpoint."""
        index = len(self._endpoints)
        assert address == address_of(index)
        self._links.added(index)
        transport = self._endpoints[address] = _Transport(self, index, address, protocol)
        return transport

    def send(self, sender: _Transport, data: bytes, to: Address) -> None:
        """Put a datagram on its way."""
        size_bytes = len(data)
        self.messages += 1
        self.bytes_sent += size_bytes
        self.bytes_largest = max(self.bytes_largest, size_bytes)
        self._trace.update(struct.pack("<di", self._engine.now, sender.index) + f"{to}".encode() + data)
        operation = OPERATION.get() if data[0] == _REQUEST else None
        if operation is not None and not operation.is_ended:
            operation.sends(data, to)
            sender.asking[data[1:_BODY]] = operation
        receiver = self._endpoints.get(to)
        if receiver is None or self._is_cut(sender, receiver):
            return
        delay_s = self._links.delay_s(sender.index, receiver.index, size_bytes + _HEADERS_BYTES)
        if delay_s is not None:
            self._engine.after(delay_s, self._arrive, sender, receiver, data)

    def _arrive(self, sender: _Transport, receiver: _Transport, data: bytes) -> None:
        if receiver.is_up and not self._is_cut(sender, receiver):
            self._loop.arrive(receiver.receive, data, sender.address)

    def _is_cut(self, a: _Transport, b: _Transport) -> bool:
        return self._links.is_cut is not None and self._links.is_cut(a.index, b.index)
