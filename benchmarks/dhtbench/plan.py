"""The work: which nodes, which keys, who announces and who looks up. A function of the seed, the same for every system.

Operations are grouped by worker process, so that "one after the other" means one process working through its share
while the others only answer; within a group the order is random. Node `i` lives in worker `i % workers`.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

__all__ = ["Operation", "Plan", "media_id", "node_seed"]


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that `node` does with the key of `id`."""

    node: int
    id: str


@dataclass(frozen=True, slots=True)
class Plan:
    """So many `nodes` in so many `workers`."""

    seed: int
    nodes: int
    workers: int

    def _random(self, part: str) -> random.Random:
        return random.Random(f"{self.seed}/{self.nodes}/{part}")

    def announces(self, part: str, count: int) -> list[Operation]:
        """Announces of `count` fresh keys, each from a random node."""
        source = self._random(f"announce/{part}")
        operations = [
            Operation(source.randrange(self.nodes), media_id(f"{self.seed}/{self.nodes}/{part}/{number}"))
            for number in range(count)
        ]
        return sorted(operations, key=lambda operation: operation.node % self.workers)

    def lookups(self, part: str, announced: list[Operation], count: int, among: list[int]) -> list[Operation]:
        """Lookups of announced keys, each from a random node of `among` that did not announce the key."""
        source = self._random(f"lookup/{part}")
        order = [announced[number % len(announced)] for number in range(count)]
        source.shuffle(order)
        operations = [
            Operation(source.choice([node for node in among if node != operation.node]), operation.id)
            for operation in order
        ]
        return sorted(operations, key=lambda operation: operation.node % self.workers)

    def strangers(self, part: str, keys_per_node: int) -> list[Operation]:
        """Lookups of keys that nobody has: every node asks for so many."""
        return [
            Operation(node, media_id(f"{self.seed}/{self.nodes}/{part}/{node}/{number}"))
            for number in range(keys_per_node)
            for node in range(self.nodes)
        ]

    def killed_workers(self, share: float) -> list[int]:
        """The workers whose processes die, at random."""
        count = round(share * self.workers)
        return sorted(self._random(f"kill/{share}").sample(range(self.workers), count))


def media_id(text: str) -> str:
    """A media ID made of any text."""
    return "sha256." + hashlib.sha256(text.encode()).hexdigest()


def node_seed(seed: int, nodes: int, node: int) -> bytes:
    """32 bytes from which a node's key or ID is made."""
    return hashlib.sha256(f"{seed}/{nodes}/node/{node}".encode()).digest()
