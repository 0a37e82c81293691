"""Checker `bounds`: every table and queue of every node is within the bound that `mediadht.core.constants` states.

Some nodes are looked at in each interval, all of them after some intervals, and all, with everything counted anew, at
the end. The caps are those in force in the run, whatever the scenario made of the constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from mediadht.core import constants
from mediadht.core.contacts import Groups
from mediadht.core.node import Node
from mediadht.core.operations import LookupOperation
from mediadht_sim.checkers.checker import Checker, Rotation
from mediadht_sim.checkers.truth import Truth
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.scenario import Checks

__all__ = ["Bounds", "excesses"]

_NODES_PER_TICK_MIN = 20
_TICKS_PER_ROUND = 50

_OWN_LOOKUPS_MAX = 16
"""Lookups for the own neighbourhood, which do not wait for room: one for each of `NEIGHBOURHOOD_DELAYS_S`, and more."""

_PROBES_WAITING_MAX = 256
_PARTS_TIMERS_MAX = 256
"""Timers of the parts of a node that set a few each: tick, joining, publisher's retries, handing over."""

_Excess = tuple[str, int, int]
"""What, how many, and how many there may be."""


class Bounds(Checker):
    """See the module's header."""

    name: ClassVar[str] = "bounds"

    def __init__(self, network: SimulatedNetwork, checks: Checks, truth: Truth) -> None:
        super().__init__(network, checks, truth)
        self._rotation = Rotation(network)

    def tick(self) -> None:
        for node in self._rotation.next(max(_NODES_PER_TICK_MIN, len(self.network.nodes) // _TICKS_PER_ROUND)):
            self._check(node, exact=False)

    def finish(self) -> None:
        for node in self.network.nodes:
            if node.is_up:
                self._check(node, exact=True)

    def _check(self, node: SimulatedNode, *, exact: bool) -> None:
        for what, count, most in excesses(node.node, exact=exact):
            self.violate(self.network.engine.now, node, f"{what}: {count}, where {most} are allowed")


def excesses(node: Node, *, exact: bool = True) -> list[_Excess]:
    """Whatever of this node is larger than it may be. Not `exact`: as the node itself counts its groups."""
    parts = (_table(node), _book(node), _store(node), _work(node), _recounted(node) if exact else ())
    return [(what, count, most) for part in parts for what, count, most in part if count > most]


def _table(node: Node) -> Iterator[_Excess]:
    table, k = node.state.table, node.state.settings.k
    per_prefix: Counter[str] = Counter()
    per_domain: Counter[str] = Counter()
    for bucket in table._buckets:
        yield "contacts in a bucket", len(bucket.members), k
        yield "contacts that wait for a bucket", len(bucket.waiting), constants.BUCKET_REPLACEMENTS_MAX
        prefixes, domains = _groups(bucket.members.values())
        yield "contacts of a prefix in a bucket", _most(prefixes), constants.BUCKET_CONTACTS_PER_PREFIX_MAX
        yield "contacts of a domain in a bucket", _most(domains), constants.BUCKET_CONTACTS_PER_DOMAIN_MAX
        per_prefix.update(prefixes)
        per_domain.update(domains)
    yield "contacts of a prefix in the table", _most(per_prefix), constants.TABLE_CONTACTS_PER_PREFIX_MAX
    yield "contacts of a domain in the table", _most(per_domain), constants.TABLE_CONTACTS_PER_DOMAIN_MAX


def _book(node: Node) -> Iterator[_Excess]:
    book, settings = node.state.book, node.state.settings
    yield "contacts in the book", len(book), settings.contacts_max
    yield "contacts of a group in the book", _most(book._per_group), constants.CONTACT_CACHE_PER_GROUP_MAX
    # Members of the table are never given up, lost or not.
    yield "lost contacts", len(book._lost), constants.LOST_CONTACTS_MAX + len(node.state.table)
    yield "queued contacts", len(book._hearsay) + len(book._answered), len(book)
    yield "contacts in the book's indices", max(len(book.live), len(book.everybody)), len(book)


def _store(node: Node) -> Iterator[_Excess]:
    store, records_max = node.state.store, node.state.settings.records_max
    yield "records", len(store), records_max
    most_of_a_key = max((len(slot.records) for slot in store._slots.values()), default=0)
    yield "records of a key", most_of_a_key, constants.STORE_RECORDS_PER_KEY_MAX
    yield "records of a signer", _most(store._per_signer), max(1, records_max // constants.STORE_SIGNER_SHARE)
    yield "records of a domain", _most(store._per_domain), max(1, records_max // constants.STORE_DOMAIN_SHARE)
    yield "noted expiries", len(store._expiries), 2 * len(store) + 65


def _work(node: Node) -> Iterator[_Excess]:
    state, maintenance, publisher = node.state, node._maintenance, node._publisher
    requests = state.requests
    # One that was told to close may still be there when its successor is.
    yield "sessions", len(state.sessions), state.settings.sessions_max + 1
    yield "open requests", len(requests), constants.REQUESTS_IN_FLIGHT_MAX
    per_peer = max(map(len, requests._by_peer.values()), default=0)
    yield "open requests to a peer", per_peer, constants.REQUESTS_PER_SESSION_IN_FLIGHT_MAX
    yield "lookups under way", state.operations, constants.LOOKUPS_MAX + _OWN_LOOKUPS_MAX
    yield "lookups that wait", len(node._waiting), constants.LOOKUPS_WAITING_MAX
    yield "probes under way", len(maintenance._probing), constants.PROBES_MAX
    yield "probes that wait", len(maintenance._probes), _PROBES_WAITING_MAX
    yield "noted redials", len(maintenance._retry_s), state.settings.contacts_max + constants.DIALS_PER_TICK_MAX
    queued = sum(len(keys) for _, keys in node._handover._newcomers)
    yield "keys to hand over", queued, constants.HANDOVER_KEYS_MAX
    yield "regions being stored", publisher._regions, constants.SWEEP_REGIONS_MAX
    yield "announcements in the queue", len(publisher._queue), 2 * len(publisher) + 65
    # A request, a lookup (deadline and patience) and a waiting lookup have theirs; so has an announcement.
    timers_max = len(requests) + 2 * state.operations + constants.LOOKUPS_WAITING_MAX + len(publisher)
    yield "timers", len(state.timers), timers_max + _PARTS_TIMERS_MAX
    for lookup in _lookups(node):
        candidates_max = constants.LOOKUP_CANDIDATES_MAX + constants.LOOKUP_REQUESTS_MAX
        yield "candidates of a lookup", len(lookup), candidates_max
        yield "requests of a lookup", lookup.requests, constants.LOOKUP_REQUESTS_MAX


def _recounted(node: Node) -> Iterator[_Excess]:
    """What the node counts as it goes, counted anew: it must not count too little."""
    state = node.state
    of_book: Counter[str] = Counter()
    for peer in state.book.values():
        of_book.update(name for name in (peer.groups.prefix, peer.groups.domain) if name is not None)
    yield "contacts of a group in the book, counted anew", _most(of_book), constants.CONTACT_CACHE_PER_GROUP_MAX
    store = state.store
    yield "records, counted anew", sum(1 for _ in store), state.settings.records_max
    for slot in store._slots.values():
        if len(slot.records) > constants.STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX:
            domains = Counter(store._domain(record) for record in slot.records.values())
            yield "records of a domain at a key", _most(domains), constants.STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX


def _lookups(node: Node) -> Iterator[Any]:
    """The lookup engines that have requests open, each once."""
    seen: set[int] = set()
    for pending in node.state.requests._open.values():
        asker = pending.asker
        if isinstance(asker, LookupOperation) and id(asker) not in seen:
            seen.add(id(asker))
            yield asker.lookup


def _groups(members: Iterable[Groups]) -> tuple[Counter[str], Counter[str]]:
    prefixes: Counter[str] = Counter()
    domains: Counter[str] = Counter()
    for groups in members:
        if groups.prefix is not None:
            prefixes[groups.prefix] += 1
        if groups.domain is not None:
            domains[groups.domain] += 1
    return prefixes, domains


def _most(counter: Mapping[Any, int]) -> int:
    return max(counter.values(), default=0)
