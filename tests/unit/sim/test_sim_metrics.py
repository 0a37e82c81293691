"""The figures, by hand where a hand can count them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_synthetic import made_up_run

from mediadht_sim.metrics import METRICS, gini, lorenz, metrics, percentile
from mediadht_sim.tables import results_of


def look(outcome: str, first_ms: float | None = None, requests: int = 3, hops: int = 1) -> tuple[object, ...]:
    return (0.0, "lookup", 0, "s", first_ms, 50.0, 0, 0, requests, hops, 1, True, outcome)


def test_nothing_measured_gives_none() -> None:
    figures = metrics([], [], [])
    assert list(figures) == [metric.name for metric in METRICS]
    counts = {"lookups", "announces", *(f"lookups_{w}" for w in ("found", "missed", "absent", "stale", "unfinished"))}
    assert {name for name, value in figures.items() if value is not None} == counts
    assert all(figures[name] == 0 for name in counts)


def test_success_counts_only_lookups_that_could_succeed() -> None:
    rows = [look("found", 10.0), look("found", 30.0), look("missed"), look("absent"), look("stale", 5.0)]
    figures = metrics([*rows, look("unfinished", requests=900, hops=90)], [], [])
    assert figures["success_share"] == pytest.approx(2 / 3)
    assert (figures["lookups"], figures["lookups_unfinished"]) == (6, 1)
    assert (figures["requests_mean"], figures["requests_p99"], figures["hops_mean"]) == (3, 3, 1)
    assert (figures["first_ms_p50"], figures["first_ms_p99"]) == (10.0, 30.0)


def test_announcements() -> None:
    def announce(outcome: str, requests: int, replicas: int) -> tuple[object, ...]:
        return (0.0, "announce", 0, "s", None, 80.0, 0, 0, requests, 2, replicas, True, outcome)

    rows = [
        announce("stored", 20, 20),
        announce("stored", 22, 18),
        announce("too_few", 30, 2),
        announce("untold", 0, 0),
    ]
    figures = metrics(rows, [], [])
    assert (figures["announces"], figures["stored_share"]) == (4, 0.5)
    assert (figures["announce_requests_mean"], figures["announce_hops_mean"]) == (24, 2)
    assert figures["announce_replicas_mean"] == pytest.approx(40 / 3)


def test_load_is_of_honest_nodes_that_were_up() -> None:
    def host(honest: bool, up_s: float, received: int) -> tuple[object, ...]:
        return (0, honest, True, up_s, received, 10, 100, 100, 0, 0, 0, 0, 0.0)

    figures = metrics([], [], [host(True, 10, 0), host(True, 10, 8), host(False, 10, 10**6), host(True, 0, 0)])
    assert (figures["load_gini"], figures["load_max_over_mean"]) == (0.5, 2.0)
    assert figures["messages_per_node_s"] == pytest.approx(40 / 30)


def test_rows_and_arrow_tables_give_the_same() -> None:
    run = made_up_run()
    results = results_of(run)
    assert metrics(results.lookups, results.intervals, results.nodes) == run.metrics


def test_gini_and_lorenz_at_their_ends() -> None:
    assert gini([5, 5, 5]) == 0
    assert gini([0, 0, 0, 12]) == 0.75
    assert gini([]) is gini([0, 0]) is None
    assert lorenz([3, 1]) == [0, 0.25, 1]
    assert lorenz([0]) == []


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_gini_is_twice_the_area_beside_the_lorenz_curve(values: list[int]) -> None:
    curve, count = lorenz(values), len(values)
    if not curve:
        assert gini(values) is None
        return
    below = sum(a + b for a, b in itertools.pairwise(curve)) / (2 * count)
    assert gini(values) == pytest.approx(1 - 2 * below, abs=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.floats(0, 1))
def test_a_percentile_is_a_value_that_occurred(values: list[float], share: float) -> None:
    found = percentile(values, share)
    if not values:
        assert found is None
        return
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
