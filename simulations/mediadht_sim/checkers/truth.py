"""What is true in a simulation: who announces what since when, who was up when, what was cut.

Nodes know only what they hear; this knows all, and is what checkers and measurements judge lookups by. It is kept up
by what owners do and are told (`Observer`), and costs nothing for a message.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from mediadht.core import constants
from mediadht.core.events import AnnouncementProgress, Notice
from mediadht.core.identifiers import Subject
from mediadht.core.xor_index import XorIndex
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import LookupResult, Observer

__all__ = ["Seeding", "Truth"]

_NEVER = float("inf")
_COMES = frozenset({"added", "restarted", "thawed"})
_SURVIVORS_SHARE = 0.5


@dataclass(slots=True)
class Seeding:
    """What one node wants of one subject: announced, or withdrawn."""

    index: int
    announced: bool
    wished_s: float
    acknowledged_s: float = _NEVER
    """When replicas had first taken it without trouble; infinity until then."""
    confirmed_s: float = -_NEVER
    """When they last had."""


class Truth(Observer):
    """Watch with this from the start of a network; nodes that are there already are taken as they are."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self._network = network
        self._seedings: dict[int, dict[int, Seeding]] = {}
        """By key, then by the node's ID."""
        self._withdrawn: dict[int, int] = {}
        """By key: how many have withdrawn it."""
        self._turns: list[list[float]] = []
        """By node: when it came up, went down, came up, and so on."""
        self._everybody = XorIndex()
        self._up = XorIndex()
        self._cut: Callable[[int, int], bool] | None = network.links.is_cut
        self.changed_s = network.engine.now
        """When a node last came, went, froze or thawed, as far as is known, or a cut was made or healed."""
        self.cut_changed_s = -_NEVER
        """When a cut was last made or healed, as far as `look_around` has seen."""
        self.stood_apart_s = -_NEVER
        """Until when the network was cut, the same way."""
        for node in network.nodes:
            self._came(node, node.started_s)
            if not node.hears:
                self._went(node)

    # --- What owners do and are told -----------------------------------------------------------------------------

    def wished(self, node: SimulatedNode, subject: Subject, announced: bool) -> None:
        of_key = self._seedings.setdefault(subject.key, {})
        seeding = of_key.get(node.node_id)
        now = self._network.engine.now
        if seeding is None:
            of_key[node.node_id] = Seeding(node.index, announced, now)
        elif seeding.announced != announced:
            seeding.announced, seeding.wished_s = announced, now
            seeding.acknowledged_s, seeding.confirmed_s = _NEVER, -_NEVER
        else:
            return
        change = -1 if announced and seeding is not None else int(not announced)
        if change:
            self._withdrawn[subject.key] = self._withdrawn.get(subject.key, 0) + change

    def told(self, node: SimulatedNode, notice: Notice) -> None:
        if type(notice) is not AnnouncementProgress or notice.trouble is not None or notice.replicas < 1:
            return
        seeding = self._seedings.get(notice.subject.key, {}).get(node.node_id)
        if seeding is not None and seeding.announced != notice.withdrawn:
            seeding.confirmed_s = self._network.engine.now
            seeding.acknowledged_s = min(seeding.acknowledged_s, seeding.confirmed_s)

    def life(self, node: SimulatedNode, what: str) -> None:
        now = self._network.engine.now
        self.changed_s = now
        if what in _COMES:
            self._came(node, now)
        else:
            self._went(node)

    def look_around(self) -> None:
        """See whether the network is cut; called once an interval, and before a lookup is judged."""
        is_cut, now = self._network.links.is_cut, self._network.engine.now
        if is_cut is not None:
            self.stood_apart_s = now
        if is_cut is not self._cut:
            self._cut = is_cut
            self.cut_changed_s = self.changed_s = now

    # --- What is true --------------------------------------------------------------------------------------------

    def seedings(self, subject: Subject) -> Iterable[Seeding]:
        """Everybody who announced or withdrew this, in the order in which they first did."""
        return self._seedings.get(subject.key, {}).values()

    def seeding(self, subject: Subject, node_id: int) -> Seeding | None:
        """What this node wants of this subject."""
        return self._seedings.get(subject.key, {}).get(node_id)

    def is_withdrawn_by_some(self, subject: Subject) -> bool:
        """Whether anybody has withdrawn this, and not announced it again."""
        return self._withdrawn.get(subject.key, 0) > 0

    def up_since_s(self, index: int) -> float:
        """Since when this node has been up without a break; infinity if it is not."""
        turns = self._turns[index]
        return turns[-1] if len(turns) % 2 else _NEVER

    def was_up(self, index: int, at_s: float) -> bool:
        """Whether this node was up at that time."""
        return bisect_right(self._turns[index], at_s) % 2 == 1

    def up_s(self, index: int, since_s: float) -> float:
        """How long this node has been up since then, in seconds."""
        turns, now = self._turns[index], self._network.engine.now
        ends = turns if len(turns) % 2 == 0 else [*turns, now]
        return sum(max(0.0, end - max(begin, since_s)) for begin, end in zip(ends[::2], ends[1::2], strict=True))

    def are_apart(self, a: int, b: int) -> bool:
        """Whether nothing passes between two nodes now."""
        is_cut = self._network.links.is_cut
        return is_cut is not None and (is_cut(a, b) or is_cut(b, a))

    def closest(self, target: int, count: int, accept: Callable[[SimulatedNode], bool] | None = None) -> list[int]:
        """The IDs of the `count` nearest nodes to `target` that are up and reachable, and that `accept` takes."""
        by_id = self._network.by_id
        return self._up.closest(target, count, None if accept is None else lambda n: accept(by_id[n]))

    @property
    def nodes_up(self) -> int:
        """How many nodes are up and reachable."""
        return len(self._up)

    def is_live(self, seeding: Seeding, asker: int) -> bool:
        """Whether this seeder announces, is up, and can be reached by `asker` now."""
        return (
            seeding.announced and self.up_since_s(seeding.index) < _NEVER and not self.are_apart(seeding.index, asker)
        )

    def must_be_found(self, seeding: Seeding, subject: Subject, result: LookupResult, settle_s: float) -> bool:
        """Whether a lookup that has ended must have found this seeder.

        It must, if the seeder has announced and been up all the while, its replicas acknowledged that `settle_s`
        seconds before the lookup began, and at least half of them are still there and on the asker's side of any cut.
        """
        started_s = result.started_s
        return (
            self.is_live(seeding, result.index)
            and seeding.acknowledged_s + settle_s <= started_s
            and self.up_since_s(seeding.index) <= started_s
            and started_s < seeding.confirmed_s + constants.RECORD_VALIDITY_S
            and self.cut_changed_s + settle_s <= started_s
            and self._replicas_live(seeding, subject.key, result.index)
        )

    def outcome(self, result: LookupResult, now: float) -> str:
        """What became of a lookup: `found`, `missed`, `absent`, `stale` or `unfinished`.

        `found`: a live seeder. `missed`: none, though one had announced, been acknowledged, and is there. `stale`:
        only such as are dead or have withdrawn. `absent`: nothing, and rightly. `unfinished`: it did not end, or ended
        at its deadline with nothing.
        """
        subject = result.subject
        of_key = self._seedings.get(subject.key, {})
        for found in result.providers:
            seeding = of_key.get(found.record.node_id)
            if seeding is not None and self.is_live(seeding, result.index):
                return "found"
        if result.ended is None or (not result.ended.complete and not result.providers):
            return "unfinished"
        for seeding in of_key.values():
            if (
                seeding.acknowledged_s <= result.started_s
                and self.is_live(seeding, result.index)
                and seeding.confirmed_s + constants.RECORD_VALIDITY_S > now
            ):
                return "missed"
        return "stale" if result.providers else "absent"

    # --- Within --------------------------------------------------------------------------------------------------

    def _came(self, node: SimulatedNode, at_s: float) -> None:
        if node.index == len(self._turns):
            self._turns.append([])
        turns = self._turns[node.index]
        if len(turns) % 2 == 0:
            turns.append(at_s)
        if node.contact.endpoints:
            self._everybody.add(node.node_id)
            self._up.add(node.node_id)

    def _went(self, node: SimulatedNode) -> None:
        turns = self._turns[node.index]
        if len(turns) % 2:
            turns.append(self._network.engine.now)
        self._up.discard(node.node_id)

    def _replicas_live(self, seeding: Seeding, key: int, asker: int) -> bool:
        replicas = list(islice(self._replicas_at(seeding, key), self._network.settings.node.k))
        since_s = seeding.confirmed_s
        alive = sum(self.up_since_s(i) <= since_s and (i == asker or not self.are_apart(i, asker)) for i in replicas)
        return alive >= _SURVIVORS_SHARE * len(replicas) and alive > 0

    def _replicas_at(self, seeding: Seeding, key: int) -> Iterator[int]:
        """Indices of the nodes that were up when the latest round of this was acknowledged, nearest to its key first.

        The seeder itself is not among them.
        """
        for node_id in self._everybody.by_distance(key):
            index = self._network.by_id[node_id].index
            if index != seeding.index and self.was_up(index, seeding.confirmed_s):
                yield index
