"""What nodes are asked to do: the workloads of a scenario, as events of the engine.

Each workload draws from streams of its own, by its number and purpose, so that changing one shifts no other. Arrivals
are Poisson. A node is drawn from those that are up and honest; where none is found in some tries, the arrival is lost.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import assert_never

from mediadht.core.identifiers import Subject, media, room
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.observers import LookupResult
from mediadht_sim.scenario import Scenario
from mediadht_sim.scenario_workloads import FlashCrowd, Joins, MassRepublish, Mix, Uploads, Workload, Zipf

__all__ = ["Workloads", "subject_of"]

_TRIES = 64
_PREPARED_WITHIN = 0.5
"""Of the warm-up: what must be there at the start is announced within this share of it."""


@lru_cache(maxsize=1 << 16)
def subject_of(workload: int, number: int, *, is_room: bool = False) -> Subject:
    """Subject `number` of workload `workload`."""
    digest = hashlib.sha256(f"{workload}/{number}".encode())
    if is_room:
        return room("!" + base64.urlsafe_b64encode(digest.digest()).decode().rstrip("="))
    return media("sha256." + digest.hexdigest())


class Workloads:
    """All workloads of a scenario in one network. `prepare` before the warm-up, `start` after it."""

    def __init__(self, network: SimulatedNetwork, scenario: Scenario) -> None:
        self._network = network
        self._scenario = scenario
        self._started_s = 0.0
        self._announced: dict[int, list[tuple[int, Subject]]] = {}
        """By workload: who announces what, for withdrawals and lookups."""

    def subject(self, number: int) -> Subject:
        """Subject `number` of the workloads, in their order: what an adversary aims at."""
        for index, workload in enumerate(self._scenario.workloads):
            count = _subject_count(workload)
            if number < count:
                return subject_of(index, number, is_room=isinstance(workload, Joins))
            number -= count
        return subject_of(0, number)

    def prepare(self, warm_up_s: float) -> None:
        """Have announced, during the warm-up, what workloads presuppose."""
        for index, workload in enumerate(self._scenario.workloads):
            stream = self._stream(index, "prepare")
            pairs = list(self._presupposed(index, workload, stream))
            within_s = _PREPARED_WITHIN * warm_up_s
            for number, (node, subject) in enumerate(pairs):
                self._network.engine.after(within_s * number / len(pairs), self._announce, index, node, subject)

    def start(self) -> None:
        """Begin: times count from now."""
        self._started_s = self._network.engine.now
        for index, workload in enumerate(self._scenario.workloads):
            self._network.engine.after(workload.starts_at_s, self._begin, index, workload)

    # --- Before the start ----------------------------------------------------------------------------------------

    def _presupposed(self, index: int, workload: Workload, stream: random.Random) -> Iterable[tuple[int, Subject]]:
        nodes = len(self._network.nodes)
        match workload:
            case Mix():
                announcers = self._announcers(index, workload)
                seeded = round(workload.seeded_share * workload.subjects)
                return [(stream.choice(announcers), subject_of(index, n)) for n in range(seeded)]
            case FlashCrowd():
                return [(n, subject_of(index, 0)) for n in stream.sample(range(nodes), min(nodes, workload.seeders))]
            case Zipf():
                each = min(nodes, workload.providers_per_subject)
                return itertools.chain.from_iterable(
                    [(node, subject_of(index, n)) for node in stream.sample(range(nodes), each)]
                    for n in range(workload.subjects)
                )
            case Joins():
                each = min(nodes, workload.participants_per_room)
                return itertools.chain.from_iterable(
                    [(node, subject_of(index, n, is_room=True)) for node in stream.sample(range(nodes), each)]
                    for n in range(workload.rooms)
                )
            case Uploads() | MassRepublish():
                return []
            case _:
                assert_never(workload)

    def _announcers(self, index: int, workload: Mix) -> list[int]:
        nodes = len(self._network.nodes)
        count = max(1, round(workload.announcers_share * nodes))
        return self._stream(index, "announcers").sample(range(nodes), count)

    # --- While it runs -------------------------------------------------------------------------------------------

    def _begin(self, index: int, workload: Workload) -> None:
        match workload:
            case Mix():
                self._begin_mix(index, workload)
            case FlashCrowd():
                self._begin_crowd(index, workload)
            case Zipf():
                self._begin_zipf(index, workload)
            case Uploads():
                self._begin_uploads(index, workload)
            case Joins():
                self._begin_joins(index, workload)
            case MassRepublish():
                stream = self._stream(index, "servers")
                numbers = itertools.count()
                for node in stream.sample(range(len(self._network.nodes)), workload.servers):
                    for _ in range(workload.records_per_server):
                        self._announce(index, node, subject_of(index, next(numbers)))
            case _:
                assert_never(workload)

    def _begin_mix(self, index: int, workload: Mix) -> None:
        stream = self._stream(index, "mix")
        announcers = self._announcers(index, workload)
        absent = itertools.count(workload.subjects)

        def announce() -> None:
            node = self._pick(stream, announcers)
            if node is not None:
                self._announce(index, node, subject_of(index, stream.randrange(workload.subjects)))

        def look_up() -> None:
            is_absent = stream.random() < workload.absent_share
            number = next(absent) if is_absent else stream.randrange(workload.subjects)
            self._look_up(self._pick(stream), subject_of(index, number), workload.providers_max, workload.deadline_s)

        def withdraw() -> None:
            announced = self._announced.get(index, [])
            if announced:
                at = stream.randrange(len(announced))
                announced[at], announced[-1] = announced[-1], announced[at]
                node, subject = announced.pop()
                if self._network.nodes[node].hears:
                    self._network.withdraw(node, subject)

        self._arrivals(index, "announces", workload.announces_per_s, workload.ends_at_s, announce)
        self._arrivals(index, "lookups", workload.lookups_per_s, workload.ends_at_s, look_up)
        self._arrivals(index, "withdraws", workload.withdraws_per_s, workload.ends_at_s, withdraw)

    def _begin_crowd(self, index: int, workload: FlashCrowd) -> None:
        stream, nodes = self._stream(index, "crowd"), len(self._network.nodes)
        subject = subject_of(index, 0)
        for node in stream.sample(range(nodes), min(nodes, workload.size(self._scenario.network.nodes))):
            self._network.engine.after(
                stream.random() * workload.ramp_s,
                self._look_up, node, subject, workload.providers_max, workload.deadline_s,
                index if workload.announce_after else None,
            )  # fmt: skip

    def _begin_zipf(self, index: int, workload: Zipf) -> None:
        stream = self._stream(index, "zipf")
        weights = list(itertools.accumulate((n + 1) ** -workload.exponent for n in range(workload.subjects)))
        numbers = range(workload.subjects)

        def look_up() -> None:
            [number] = stream.choices(numbers, cum_weights=weights)
            self._look_up(self._pick(stream), subject_of(index, number), workload.providers_max, workload.deadline_s)

        self._arrivals(index, "lookups", workload.lookups_per_s, workload.ends_at_s, look_up)

    def _begin_uploads(self, index: int, workload: Uploads) -> None:
        stream, nodes = self._stream(index, "uploads"), len(self._network.nodes)
        for number in range(workload.files):
            subject = subject_of(index, number)
            for node in stream.sample(range(nodes), min(nodes, workload.servers_per_file)):
                delay_s = number * workload.every_s + stream.random() * workload.spread_ms / 1_000
                self._network.engine.after(
                    delay_s, self._look_up, node, subject, workload.providers_max, workload.deadline_s, index
                )

    def _begin_joins(self, index: int, workload: Joins) -> None:
        stream, nodes = self._stream(index, "joins"), len(self._network.nodes)
        for number in range(workload.rooms):
            subject = subject_of(index, number, is_room=True)
            inside = {node for node, announced in self._announced.get(index, []) if announced == subject}
            outside = [node for node in range(nodes) if node not in inside]
            for node in stream.sample(outside, min(len(outside), workload.joiners_per_room)):
                self._network.engine.after(
                    stream.random() * workload.within_s,
                    self._look_up, node, subject, workload.providers_max, workload.deadline_s,
                    index if workload.announce_after else None,
                )  # fmt: skip

    # --- What all do ---------------------------------------------------------------------------------------------

    def _stream(self, index: int, purpose: str) -> random.Random:
        return self._network.engine.stream(f"workload/{index}/{purpose}")

    def _arrivals(
        self, index: int, purpose: str, per_s: float, ends_at_s: float | None, call: Callable[[], None]
    ) -> None:
        """Call at random times, `per_s` a second on average, until the workload ends."""
        engine, stream = self._network.engine, self._stream(index, f"arrivals/{purpose}")
        stop_s = self._started_s + (self._scenario.duration_s if ends_at_s is None else ends_at_s)

        def arrive() -> None:
            call()
            wait()

        def wait() -> None:
            at_s = engine.now + stream.expovariate(per_s)
            if at_s < stop_s:
                engine.at(at_s, arrive)

        if per_s > 0:
            wait()

    def _pick(self, stream: random.Random, among: list[int] | None = None) -> int | None:
        """The index of a node that is up and honest, at random."""
        nodes = self._network.nodes
        for _ in range(_TRIES):
            index = stream.randrange(len(nodes)) if among is None else stream.choice(among)
            if nodes[index].hears and nodes[index].is_honest:
                return index
        return None

    def _announce(self, index: int, node: int, subject: Subject) -> None:
        if self._network.nodes[node].hears:
            self._network.announce(node, subject)
            self._announced.setdefault(index, []).append((node, subject))

    def _look_up(
        self, node: int | None, subject: Subject, providers_max: int, deadline_s: float, announce_in: int | None = None
    ) -> None:
        """Look up; with `announce_in`, the workload's number, announce once that has ended."""
        if node is None or not self._network.nodes[node].hears:
            return
        result = self._network.look_up(node, subject, providers_max=providers_max, deadline_s=deadline_s)
        if announce_in is not None:
            self._announce_after(result, announce_in)

    def _announce_after(self, result: LookupResult, index: int) -> None:
        if result.ended is not None:
            self._announce(index, result.index, result.subject)
        elif not result.is_abandoned:
            result.then = lambda: self._announce(index, result.index, result.subject)


def _subject_count(workload: Workload) -> int:
    match workload:
        case Mix(subjects=count) | Zipf(subjects=count):
            return count
        case FlashCrowd():
            return 1
        case Uploads(files=count):
            return count
        case Joins(rooms=count):
            return count
        case MassRepublish():
            return workload.servers * workload.records_per_server
        case _:
            assert_never(workload)
