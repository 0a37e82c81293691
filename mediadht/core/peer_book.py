"""All that a node knows about other nodes: contacts, round trips, failures, who answered and when.

The book is wide (20,000 contacts) and bounded. A contact is *hearsay* until the node itself has answered; only those
that answered and do not fail now are *live*, are named to others, and shape replica sets. A node that was reachable
and does not answer any more is *lost*: no lookup starts from it, but it is tried now and then, so that the two sides
of a partition find each other again. Hearsay is forgotten first, then the lost, then whoever answered longest ago;
contacts of the routing table and those with a session are pinned. Round-trip times follow RFC 6298. Implements
`docs/protocol.md`, section "Contacts". Leaves to others: the table's structure (`routing_table`), and what to ask whom
(`lookup`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mediadht.core.constants import (
    CONTACT_CACHE_MAX,
    CONTACT_CACHE_PER_GROUP_MAX,
    CONTACT_FAILURES_MAX,
    LOST_CONTACTS_MAX,
    SLOW_FACTOR,
    SLOW_S_MAX,
    SLOW_S_MIN,
    SLOW_UNKNOWN_S,
    SUSPECT_S,
)
from mediadht.core.contacts import Contact, Groups
from mediadht.core.xor_index import XorIndex

__all__ = ["Peer", "PeerBook"]

_NEVER = float("-inf")
_HEARSAY, _ANSWERED, _LOST, _PINNED, _PINNED_FAILING = range(5)
"""Where the book has filed a peer. Pinned ones are in no queue."""


@dataclass(slots=True)
class Peer:
    """One known node. Times are the node's own monotonic seconds; `-inf` means never."""

    contact: Contact
    groups: Groups
    round_trip_s: float | None = None
    deviation_s: float = 0.0
    answered_s: float = _NEVER
    failures: int = 0
    """Answers lost in a row."""
    failing_since_s: float = _NEVER
    suspect_until_s: float = _NEVER
    connected: bool = False
    reachable: bool = False
    """It has answered at one of its endpoints, rather than only dialled us."""
    in_table: bool = False
    place: int = _HEARSAY
    listed_live: bool = False
    """Where the book has filed it, and whether among the live: the book's own notes."""

    @property
    def is_live(self) -> bool:
        """Whether it may be named to others: reachable, and not failing."""
        return self.reachable and self.failures < CONTACT_FAILURES_MAX

    def measured(self, sample_s: float) -> None:
        """Take a round-trip time into the estimate (RFC 6298, section 2)."""
        if self.round_trip_s is None:
            self.round_trip_s, self.deviation_s = sample_s, sample_s / 2
        else:
            self.deviation_s += (abs(sample_s - self.round_trip_s) - self.deviation_s) / 4
            self.round_trip_s += (sample_s - self.round_trip_s) / 8

    def slow_after_s(self) -> float:
        """How long to wait for an answer before somebody else is asked as well, in seconds."""
        if self.round_trip_s is None or not self.connected:
            return SLOW_UNKNOWN_S
        return min(SLOW_S_MAX, max(SLOW_S_MIN, SLOW_FACTOR * self.round_trip_s + 4 * self.deviation_s))


class PeerBook:
    """Peers by node ID, with exact XOR-closest queries over all of them and over the live ones."""

    def __init__(self, own_id: int, peers_max: int = CONTACT_CACHE_MAX) -> None:
        self._own_id = own_id
        self._peers_max = peers_max
        self._peers: dict[int, Peer] = {}
        self._hearsay: OrderedDict[int, None] = OrderedDict()
        self._answered: OrderedDict[int, None] = OrderedDict()
        self._per_group: dict[str, int] = {}
        self._lost: OrderedDict[int, None] = OrderedDict()
        self.everybody = XorIndex()
        self.live = XorIndex()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._peers

    def __getitem__(self, node_id: int) -> Peer:
        return self._peers[node_id]

    def get(self, node_id: int) -> Peer | None:
        """The peer, if known."""
        return self._peers.get(node_id)

    def values(self) -> Iterator[Peer]:
        """All peers, in the order in which they were learned of."""
        return iter(self._peers.values())

    def heard_of(self, contact: Contact, groups: Groups) -> bool:
        """Take note of hearsay. Returns whether the contact is (now) known.

        Later hearsay replaces earlier, but never what a node that answered has said of itself. It finds no room if the
        book is full of pinned contacts or its groups have their share.
        """
        peer = self._peers.get(contact.node_id)
        if peer is None:
            if contact.node_id == self._own_id or not contact.endpoints or self._full_groups(groups, None):
                return False
            return self._admit(contact, groups) is not None
        is_news = peer.answered_s == _NEVER and contact.endpoints and peer.contact != contact
        if is_news and not self._full_groups(groups, peer.groups):
            self._count_groups(peer.groups, -1)
            self._count_groups(groups, 1)
            peer.contact, peer.groups = contact, groups
        return True

    def proved(self, contact: Contact, groups: Groups) -> Peer | None:
        """A node has proved its key in a handshake and told its contact: this replaces what was known of it.

        It takes the place of hearsay, of its own groups too: names that nobody has proved keep nobody out. None, and
        nothing has changed, where there is no such place.
        """
        peer = self._peers.get(contact.node_id)
        for name in self._full_groups(groups, None if peer is None else peer.groups):
            rumour = next((n for n in self._hearsay if name in _names(self._peers[n].groups)), None)
            if rumour is None or rumour == contact.node_id:
                return None
            self._forget(rumour)
        if peer is None:
            return self._admit(contact, groups)
        if groups != peer.groups:
            self._count_groups(peer.groups, -1)
            self._count_groups(groups, 1)
        if peer.contact.endpoints != contact.endpoints:
            peer.reachable = False
        peer.contact, peer.groups = contact, groups
        self._file(contact.node_id, peer)
        return peer

    def settled(self, contact: Contact, groups: Groups, now: float, round_trip_s: float | None) -> Peer | None:
        """A node is taken for proved, and for reached if it has endpoints, without a handshake. None: as `proved`."""
        peer = self.proved(contact, groups)
        if peer is not None:
            peer.reachable = bool(contact.endpoints)
            self.answered(contact.node_id, now, round_trip_s)
        return peer

    def answered(self, node_id: int, now: float, round_trip_s: float | None = None) -> None:
        """The node answered, after `round_trip_s` seconds where that was measured on a warm session."""
        peer = self._peers.get(node_id)
        if peer is None:
            return
        peer.answered_s = now
        peer.suspect_until_s = _NEVER
        if round_trip_s is not None:
            peer.measured(round_trip_s)
        peer.failures = 0
        if peer.place != _PINNED or not peer.listed_live:
            self._file(node_id, peer)

    def reached(self, node_id: int, now: float) -> None:
        """The node answered at one of its own endpoints."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.reachable = True
            self.answered(node_id, now)

    def suspect(self, node_id: int, now: float) -> None:
        """The node is slow: for a while it is asked last."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.suspect_until_s = now + SUSPECT_S

    def failed(self, node_id: int, now: float) -> None:
        """An answer was lost, or a dial failed."""
        peer = self._peers.get(node_id)
        if peer is None:
            return
        if peer.failures == 0:
            peer.failing_since_s = now
        peer.failures += 1
        peer.suspect_until_s = now + SUSPECT_S
        if peer.failures >= CONTACT_FAILURES_MAX:
            if peer.in_table or peer.connected or peer.reachable:
                self._file(node_id, peer)
            else:
                self._forget(node_id)

    def is_lost(self, node_id: int) -> bool:
        """Whether this node was reachable once and does not answer now."""
        return node_id in self._lost

    def lost_since(self, time_s: float) -> int:
        """How many nodes were lost after `time_s`, and may be alive where we cannot hear them."""
        return sum(self._peers[node_id].failing_since_s >= time_s for node_id in self._lost)

    def next_lost(self, count: int) -> list[Peer]:
        """Lost nodes that may have come back, another `count` of them at each call."""
        if not self._lost:
            return []
        chosen = list(islice(self._lost, count))
        for node_id in chosen:
            self._lost.move_to_end(node_id)
        return [self._peers[node_id] for node_id in chosen]

    def pin_changed(self, node_id: int) -> None:
        """`connected` or `in_table` of a peer was changed by its owner."""
        peer = self._peers.get(node_id)
        if peer is not None:
            if peer.failures >= CONTACT_FAILURES_MAX and not (peer.in_table or peer.connected or peer.reachable):
                self._forget(node_id)
            else:
                self._file(node_id, peer)

    def pinned_or_recent(self, count: int) -> list[Peer]:
        """At most `count` peers worth remembering over a restart: who answered latest first."""
        recent = (self._peers[node_id] for node_id in reversed(self._answered))
        pinned = (p for p in self._peers.values() if (p.in_table or p.connected) and p.reachable)
        ordered = {p.contact.node_id: p for group in (pinned, recent) for p in group if p.contact.endpoints}
        return list(ordered.values())[:count]

    def closest_ids(self, target: int, count: int) -> list[int]:
        """Where a lookup starts: the closest live peers and the closest of all, nearest first."""
        closest = self.everybody.closest(target, count)
        if len(self.live) == len(self.everybody):
            # The live are among all that do not fail: here, everybody is live.
            return closest
        return sorted({*closest, *self.live.closest(target, count)}, key=target.__xor__)

    def _full_groups(self, groups: Groups, present: Groups | None) -> list[str]:
        """Those of `groups` that have their share already, but for those in which the peer is `present`."""
        if groups == present:
            return []
        own = () if present is None else _names(present)
        count = self._per_group.get
        return [n for n in _names(groups) if count(n, 0) >= CONTACT_CACHE_PER_GROUP_MAX and n not in own]

    def _admit(self, contact: Contact, groups: Groups) -> Peer | None:
        if len(self._peers) >= self._peers_max and not self._make_room():
            return None
        peer = Peer(contact, groups)
        self._peers[contact.node_id] = peer
        self._count_groups(groups, 1)
        self.everybody.add(contact.node_id)
        self._hearsay[contact.node_id] = None
        return peer

    def _make_room(self) -> bool:
        for queue in (self._hearsay, self._lost, self._answered):
            victim = next((node_id for node_id in queue if not self._peers[node_id].in_table), None)
            if victim is not None:
                self._forget(victim)
                return True
        return False

    def _forget(self, node_id: int) -> None:
        peer = self._peers.pop(node_id)
        self._count_groups(peer.groups, -1)
        self.everybody.discard(node_id)
        self.live.discard(node_id)
        self._leave_queue(node_id, peer.place)

    def _file(self, node_id: int, peer: Peer) -> None:
        """Put the peer into the queue and the indices it belongs to; pinned ones are in no queue."""
        is_failing = peer.failures >= CONTACT_FAILURES_MAX
        if is_failing and not peer.connected:
            place = _LOST
        elif peer.in_table or peer.connected:
            place = _PINNED if not is_failing else _PINNED_FAILING
        else:
            place = _ANSWERED if peer.reachable else _HEARSAY
        is_live = peer.reachable and not is_failing
        before = peer.place
        if place == before and is_live == peer.listed_live:
            if place == _ANSWERED:
                self._answered.move_to_end(node_id)
            elif place == _HEARSAY:
                self._hearsay.move_to_end(node_id)
            return
        self._leave_queue(node_id, before)
        peer.place = place
        if place == _LOST:
            self._lost[node_id] = None
        elif place == _ANSWERED:
            self._answered[node_id] = None
        elif place == _HEARSAY:
            self._hearsay[node_id] = None
        if is_failing:
            self.everybody.discard(node_id)
        else:
            self.everybody.add(node_id)
        if is_live != peer.listed_live:
            peer.listed_live = is_live
            (self.live.add if is_live else self.live.discard)(node_id)
        if place == _LOST and len(self._lost) > LOST_CONTACTS_MAX:
            self._drop_one_lost()

    def _leave_queue(self, node_id: int, place: int) -> None:
        if place == _LOST:
            del self._lost[node_id]
        elif place == _ANSWERED:
            del self._answered[node_id]
        elif place == _HEARSAY:
            del self._hearsay[node_id]

    def _drop_one_lost(self) -> None:
        oldest = next((n for n in self._lost if not self._peers[n].in_table), None)
        if oldest is not None:
            self._forget(oldest)

    def _count_groups(self, groups: Groups, change: int) -> None:
        for name in _names(groups):
            count = self._per_group.get(name, 0) + change
            if count:
                self._per_group[name] = count
            else:
                del self._per_group[name]


def _names(groups: Groups) -> tuple[str, ...]:
    prefix, domain = groups.prefix, groups.domain
    if prefix is None:
        return () if domain is None else (domain,)
    return (prefix,) if domain is None else (prefix, domain)
