"""The lookup engine in networks made of nothing but IDs and who knows whom: losses, lateness, liars, floods."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from core_strategies import point, points, property_settings
from hypothesis import given
from hypothesis import strategies as st

from mediadht.core.constants import ALPHA, LOOKUP_CANDIDATES_MAX, LOOKUP_REQUESTS_MAX, K
from mediadht.core.contacts import Groups
from mediadht.core.lookup import Lookup, State
from mediadht.core.routing_table import RoutingTable

NOBODY = Groups(None, None)
ASKER = point("asker")
SLOW_S, LOST_S, PATIENCE_S = 0.4, 5.0, 1.5


@dataclass
class World:
    """Nodes by ID: whom each would name, and how it answers (latency in seconds, None for never)."""

    tables: dict[int, RoutingTable]
    latency_s: dict[int, float | None]
    lies: dict[int, Callable[[int], list[int]]] = field(default_factory=dict)
    """Of a liar: what it names for a target."""

    def names(self, node_id: int, target: int, k: int) -> list[int]:
        lie = self.lies.get(node_id)
        return lie(target) if lie is not None else self.tables[node_id].closest(target, k)


def world(count: int, seed: int, k: int = K) -> World:
    """`count` nodes whose tables are as full as can be: each was told of everybody, in its own order."""
    draw = random.Random(seed)
    ids = [draw.getrandbits(256) for _ in range(count)]
    tables = {}
    for node_id in ids:
        table = RoutingTable(node_id, k)
        for other in draw.sample(ids, len(ids)):
            table.answered(other, NOBODY)
        tables[node_id] = table
    return World(tables, {node_id: draw.uniform(0.01, 0.2) for node_id in ids})


def run(lookup: Lookup, of: World, k: int, useful: frozenset[int] = frozenset()) -> float:
    """Drive a lookup as an operation does; returns how long it took. Checks the engine's promises at every step."""
    events: list[tuple[float, int, str, int]] = []
    asked: dict[int, float] = {}
    now, count = 0.0, 0

    def push(at_s: float, kind: str, node_id: int) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (at_s, count, kind, node_id))

    while True:
        for node_id in lookup.next():
            assert node_id not in asked, "nobody is asked twice"
            assert node_id != ASKER
            asked[node_id] = now
            latency_s = of.latency_s.get(node_id)
            if latency_s is not None and latency_s < LOST_S:
                push(now + latency_s, "answer", node_id)
            else:
                push(now + LOST_S, "lost", node_id)
            push(now + SLOW_S, "slow", node_id)
        in_flight = sum(lookup.state(n) is State.ASKED for n in asked)
        assert in_flight <= k
        assert len(asked) == lookup.requests <= LOOKUP_REQUESTS_MAX
        assert len(lookup.closest_heard(10_000)) <= LOOKUP_CANDIDATES_MAX + LOOKUP_REQUESTS_MAX
        if lookup.is_done:
            return now
        if lookup.waits_for_slow_only:
            assert lookup.slow_ones()
            until_s = min(asked[n] for n in lookup.slow_ones()) + PATIENCE_S
            if not events or events[0][0] > until_s:
                now = max(now, until_s)
                for node_id in lookup.slow_ones():
                    if asked[node_id] + PATIENCE_S <= now:
                        lookup.failed(node_id)
                continue
        assert events, "a lookup that is not done waits for something"
        now, _, kind, node_id = heapq.heappop(events)
        if kind == "answer":
            lookup.answered(node_id, of.names(node_id, lookup.target, k), useful=node_id in useful)
        elif kind == "slow":
            lookup.slow(node_id)
        else:
            lookup.failed(node_id)


def start(of: World, target: int, k: int, seeds: int = 2, **more: object) -> Lookup:
    return Lookup(target, list(of.tables)[:seeds], own_id=ASKER, k=k, **more)  # type: ignore[arg-type]


networks = st.builds(world, st.integers(1, 60), st.integers(0, 1 << 30), st.just(4))


@property_settings(40)
@given(networks, points, st.integers(1, 4))
def test_the_k_closest_of_the_network_are_found_exactly(of: World, target: int, seeds: int) -> None:
    lookup = start(of, target, 4, seeds)
    run(lookup, of, 4)
    assert lookup.closest_answered() == sorted(of.tables, key=target.__xor__)[:4]


@pytest.mark.parametrize("seed", range(3))
def test_the_k_closest_of_300_nodes_are_found_with_few_requests(seed: int) -> None:
    of = world(300, seed)
    target = point(f"target {seed}")
    lookup = start(of, target, K)
    took_s = run(lookup, of, K)
    assert lookup.closest_answered() == sorted(of.tables, key=target.__xor__)[:K]
    assert lookup.requests <= K + 10
    assert took_s < 3


@property_settings(30)
@given(st.integers(0, 1 << 30), points, st.integers(0, 50))
def test_with_lost_answers_the_closest_that_can_be_heard_are_found(seed: int, target: int, lost_percent: int) -> None:
    """Up to half of all nodes fell silent this moment: everybody still has them in its table, and names them.

    An answer names the k nearest that its sender knows, so the silent crowd out some of the farther replicas; the
    nearest are found all the same. (Two times in three at most two of twenty are missed.)
    """
    of = world(60, seed)
    draw = random.Random(seed)
    dead = {n for n in list(of.tables)[2:] if draw.random() < lost_percent / 100}
    of.latency_s.update(dict.fromkeys(dead))
    lookup = start(of, target, K)
    took_s = run(lookup, of, K)
    found, alive = lookup.closest_answered(), sorted(set(of.tables) - dead, key=target.__xor__)
    assert found[:5] == alive[:5]
    assert len(set(found) & set(alive[:K])) >= 2 * min(K, len(alive)) // 5
    assert took_s < 15


@property_settings(25)
@given(st.integers(0, 1 << 30), points)
def test_late_answers_count_and_nobody_waits_for_the_slowest(seed: int, target: int) -> None:
    of = world(60, seed)
    late = list(of.tables)[2::5]
    of.latency_s.update(dict.fromkeys(late, 0.9))
    lookup = start(of, target, K)
    took_s = run(lookup, of, K)
    closest = sorted(of.tables, key=target.__xor__)[:K]
    assert set(lookup.closest_answered()) >= set(closest) - set(late)
    assert took_s < 4


def test_an_answer_that_comes_late_or_after_all_hope_still_counts() -> None:
    lookup = Lookup(0, [1, 2, 3], own_id=ASKER, k=3)
    assert lookup.next() == [1, 2, 3]
    for node_id in (1, 2):
        lookup.slow(node_id)
    lookup.failed(2)
    lookup.answered(3)
    assert lookup.closest_answered() == [3]
    lookup.answered(1)
    lookup.answered(2, [7], useful=True)
    assert lookup.closest_answered() == [1, 2, 3]
    assert lookup.useful == 1
    lookup.answered(2, useful=True)
    assert lookup.useful == 1, "nobody counts twice"


def test_a_slow_one_frees_its_place_at_once() -> None:
    lookup = Lookup(0, range(1, 10), own_id=ASKER, k=9, parallelism=2)
    assert lookup.next() == [1, 2]
    assert lookup.next() == []
    lookup.slow(1)
    assert lookup.next() == [3]


def test_nobody_but_candidates_and_never_oneself_is_asked() -> None:
    lookup = Lookup(0, [5, ASKER, 5], own_id=ASKER)
    lookup.answered(77, [78])
    assert lookup.next() == [5, 78]
    assert lookup.state(77) is None
    assert lookup.state(ASKER) is None


def test_without_candidates_a_lookup_is_done_at_once() -> None:
    assert Lookup(0, [], own_id=ASKER).is_done
    assert Lookup(0, [], own_id=ASKER, useful_enough=3).is_done


# --- Liars -------------------------------------------------------------------------------------------------------


@property_settings(30)
@given(st.integers(0, 1 << 30), points, st.integers(0, 20))
def test_liars_that_name_only_each_other_hide_no_honest_node(seed: int, target: int, liars: int) -> None:
    """A third of the network lies; a lookup that knows one honest node finds all honest ones of the k closest."""
    of = world(60, seed)
    ring = list(of.tables)[2 : 2 + liars]
    for liar in ring:
        of.lies[liar] = lambda t: sorted(ring, key=t.__xor__)[:K]
    lookup = start(of, target, K)
    run(lookup, of, K)
    closest = sorted(of.tables, key=target.__xor__)[:K]
    assert set(lookup.closest_answered()) >= set(closest) - set(ring)


@property_settings(20)
@given(st.integers(0, 1 << 30), points, st.integers(0, 3))
def test_a_few_that_name_nodes_that_do_not_exist_cost_time_but_hide_nobody(seed: int, target: int, liars: int) -> None:
    """Each invents twenty nodes nearer to the target than anybody can be. Up to three of the k closest do so."""
    of = world(60, seed)
    closest = sorted(of.tables, key=target.__xor__)[:K]
    for number, liar in enumerate(closest[1 : 1 + liars]):
        of.lies[liar] = lambda t, n=number: [t ^ (1 + n * K + i) for i in range(K)]  # type: ignore[misc]
    lookup = start(of, target, K)
    took_s = run(lookup, of, K)
    assert set(closest) <= set(lookup.closest_answered())
    assert took_s < 15


@property_settings(20)
@given(st.integers(0, 1 << 30), points)
def test_a_flood_ends_at_the_limit_of_requests_and_memory(seed: int, target: int) -> None:
    """Every node lies, always anew: the lookup ends all the same, within its limits (`run` checks them)."""
    of = world(30, seed)
    draw = random.Random(seed)
    for liar in of.tables:
        of.lies[liar] = lambda t: [t ^ draw.getrandbits(200) for _ in range(K)]
    lookup = start(of, target, K)
    run(lookup, of, K)
    assert lookup.is_done


def test_invented_nodes_that_answer_with_more_of_them_end_at_the_limit_of_requests() -> None:
    lookup = Lookup(0, [1 << 255], own_id=ASKER)
    distance = 1 << 254
    while not lookup.is_done:
        for node_id in lookup.next():
            lookup.answered(node_id, [distance := distance - 1 for _ in range(K)])
    assert lookup.requests == LOOKUP_REQUESTS_MAX


def test_at_the_limit_of_requests_a_late_one_is_not_waited_for() -> None:
    """All of the window answered, the limit is reached, and somebody outside the window is still asked."""
    lookup = Lookup(0, [1 << 255, (1 << 255) + 1], own_id=ASKER, k=1, parallelism=2)
    assert lookup.next() == [1 << 255]
    lookup.slow(1 << 255)
    assert lookup.next() == [(1 << 255) + 1]
    lookup.answered((1 << 255) + 1, [1])
    lookup.requests = LOOKUP_REQUESTS_MAX - 1
    assert lookup.next() == [1]
    lookup.answered(1)
    assert lookup.is_done
    assert not lookup.waits_for_slow_only


# --- Enough ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_with_replicas_that_hold_something_three_requests_are_enough(seed: int) -> None:
    of = world(100, seed)
    target = point(f"key {seed}")
    closest = sorted(of.tables, key=target.__xor__)[:K]
    lookup = Lookup(target, closest, own_id=ASKER, useful_enough=3)
    run(lookup, of, K, useful=frozenset(closest))
    assert lookup.requests == 3


@property_settings(25)
@given(st.integers(0, 1 << 30), points)
def test_enough_useful_answers_end_a_lookup_early_from_anywhere(seed: int, target: int) -> None:
    of = world(100, seed)
    closest = sorted(of.tables, key=target.__xor__)[:K]
    lookup = start(of, target, K, useful_enough=3)
    run(lookup, of, K, useful=frozenset(closest))
    assert lookup.useful == 3
    assert lookup.requests <= 8


def test_no_more_are_asked_than_are_missing() -> None:
    lookup = Lookup(0, range(1, 30), own_id=ASKER, useful_enough=2)
    assert lookup.next() == [1, 2], "not alpha: two are enough"
    lookup.answered(1, useful=True)
    assert lookup.next() == []
    lookup.slow(2)
    assert lookup.next() == [3]
    lookup.slow(3)
    assert lookup.next() == [4, 5], "among many that are late, more at once"


def test_where_nobody_has_anything_all_k_are_asked_more_and_more_at_once() -> None:
    lookup = Lookup(0, range(1, 100), own_id=ASKER, useful_enough=3)
    rounds = []
    while not lookup.is_done:
        asked = lookup.next()
        rounds.append(len(asked))
        for node_id in asked:
            lookup.answered(node_id)
    assert sum(rounds) == K
    assert rounds[0] == ALPHA
    assert len(rounds) <= 4


@property_settings(60)
@given(st.sets(st.integers(1, 1 << 20), min_size=1, max_size=40), st.integers(0, 1 << 20), st.randoms())
def test_preference_orders_the_likely_and_distance_the_rest(
    ids: set[int], likely_distance: int, draw: random.Random
) -> None:
    rank = {node_id: (float(draw.random()),) for node_id in sorted(ids)}
    lookup = Lookup(0, ids, own_id=ASKER, parallelism=K, preference=rank.__getitem__, likely_distance=likely_distance)
    near = sorted(ids)[:K]
    expected = sorted((n for n in near if n <= likely_distance), key=rank.__getitem__)
    assert lookup.next() == expected + [n for n in near if n > likely_distance]
