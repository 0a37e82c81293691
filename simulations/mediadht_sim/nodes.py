"""A simulated node: the real core, and what its driver knows of it.

What stands here is what the trio daemon keeps in sockets, files and tasks: sessions, dials under way, what is on disk,
the owner's wishes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mediadht.core.claim_votes import Promise
from mediadht.core.contacts import Contact
from mediadht.core.events import AnnouncementProgress, AnnounceWish, Effect, Event
from mediadht.core.identifiers import Subject
from mediadht.core.keys import KeyPair
from mediadht.core.messages import Message, SignedRoom
from mediadht.core.node import Node
from mediadht.core.records import Record
from mediadht_sim.observers import LookupResult

__all__ = ["EPOCH_S", "Handles", "SimulatedNode"]

EPOCH_S = 1_700_000_000.0
"""Unix time at virtual time 0."""


class Handles(Protocol):
    """What decides for a node: the core's `Node`, or an adversary around one."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event` at virtual time `now`, in seconds."""
        ...


@dataclass(slots=True, eq=False)
class SimulatedNode:
    """A node and its driver's state. Times are virtual seconds."""

    index: int
    keys: KeyPair
    contact: Contact
    node: Node
    mind: Handles
    """`node`, unless an adversary has taken its place."""
    instance: bytes
    started_s: float
    clock_skew_s: float = 0.0
    is_honest: bool = True
    is_up: bool = True
    is_frozen: bool = False
    wake_s: float = float("inf")
    sessions: dict[int, SimulatedNode] = field(default_factory=dict)
    """Open sessions as this end sees them, by the peer's node ID."""
    dialling: dict[int, list[Message]] = field(default_factory=dict)
    lookups: dict[int, LookupResult] = field(default_factory=dict)
    wishes: dict[int, AnnounceWish] = field(default_factory=dict)
    """On disk: what the owner wants announced or withdrawn, by key, with the last persisted sequence and time."""
    progress: dict[int, AnnouncementProgress] = field(default_factory=dict)
    disk: dict[tuple[int, int], Record] = field(default_factory=dict)
    """Records of others on disk, by key and signer."""
    promises: dict[int, Promise] = field(default_factory=dict)
    rooms: dict[tuple[int, int], SignedRoom] = field(default_factory=dict)
    own_rooms: dict[int, tuple[Subject, str, SignedRoom]] = field(default_factory=dict)
    """On disk of claims: what was promised, the rooms kept, and those that this node established."""
    messages_out: int = 0
    messages_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    requests_out: int = 0
    """Requests sent, pings not counted."""
    dials: int = 0
    bootstrap: Callable[[], Contact | None] | None = None
    """Whom this node asks first; None: nobody."""

    @property
    def node_id(self) -> int:
        """Its node ID."""
        return self.keys.node_id

    @property
    def hears(self) -> bool:
        """Whether it takes anything in."""
        return self.is_up and not self.is_frozen
