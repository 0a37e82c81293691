"""The safety search: plans within what is borne, a handful of seeds that pass, broken cores that are found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediadht.core.constants import CLOCK_TOLERANCE_S
from mediadht.core.errors import CallerError
from mediadht.core.events import AnnounceWish
from mediadht.core.lookup import Lookup
from mediadht.core.operations import FindProviders
from mediadht.core.publisher import Publisher
from mediadht.core.record_store import RecordStore
from mediadht_sim.fuzz import fuzz, replay
from mediadht_sim.fuzz_scenarios import NODES_MIN, Plan, draw, plan_from_json, plan_to_json
from mediadht_sim.fuzz_shrink import shrunk
from mediadht_sim.fuzz_trial import try_plan

SMALL = 12


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(NODES_MIN, 200))
def test_plans_are_within_what_the_protocol_bears(seed: int, nodes_max: int) -> None:
    plan = draw(seed, nodes_max)
    assert plan == draw(seed, nodes_max)
    assert plan == plan_from_json(plan_to_json(plan))
    assert NODES_MIN <= plan.nodes <= nodes_max
    hostile = {node for node, _ in plan.adversaries}
    assert len(hostile) <= min(plan.nodes // 10, plan.k // 6)
    assert 0 not in hostile
    assert hostile.isdisjoint(plan.unreachable)
    assert len(plan.unreachable) <= plan.nodes // 5
    skews = plan.skews_s or (0.0,)
    assert max(skews) - min(skews) < CLOCK_TOLERANCE_S
    counts = {kind: sum(step.kind == kind for step in plan.steps) for kind in ("restart_empty", "join")}
    assert max(counts.values()) <= min(plan.nodes, plan.k) // 4
    assert [step.at_s for step in plan.steps] == sorted(step.at_s for step in plan.steps)
    for step in plan.steps:
        assert 0 <= step.at_s <= plan.safety_s + 1
        assert all(0 <= node < plan.nodes and node not in hostile for node in step.nodes)
        assert step.kind != "loss" or 0 <= step.amount <= 0.2
    smaller = plan.with_nodes(NODES_MIN)
    assert all(node < NODES_MIN for step in smaller.steps for node in step.nodes)
    assert plan.said()


def test_too_small_a_network_is_refused() -> None:
    with pytest.raises(CallerError, match="5 nodes or more"):
        draw(1, NODES_MIN - 1)


@pytest.mark.parametrize("seed", range(6))
def test_seeds_pass_and_give_the_same_again(seed: int) -> None:
    first = try_plan(draw(seed, SMALL))
    assert first.found is None
    assert first.messages > 0
    if seed < 2:
        assert try_plan(draw(seed, SMALL)) == first


def test_a_search_tries_seeds_in_their_order_until_its_time_is_up() -> None:
    seeds: list[int] = []
    result = fuzz(0.0001, 3, SMALL, progress=lambda seed, tried, failed: seeds.append(seed))
    assert seeds == [3]
    assert (result.seeds, result.failures) == (1, [])
    assert fuzz(0.0001, 3, SMALL, only_seed=4).messages != result.messages


def _first_failure(tmp_path: Path, *, shrink_s: float = 0.0) -> Any:
    result = fuzz(5.0, 1, SMALL, tmp_path, shrink_s=shrink_s)
    assert result.failures, f"{result.seeds} seeds passed"
    return result.failures[0]


def test_replicas_that_forget_are_found_cut_down_and_reproduced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(RecordStore, "sample", lambda *_: [])
    failure = _first_failure(tmp_path, shrink_s=10.0)
    assert failure.found.kind.startswith("not found")
    assert failure.command == f"mediadht-sim fuzz --only-seed {failure.seed} --max-nodes {SMALL}"
    assert failure.command in failure.said()
    assert len(failure.shrunk.steps) <= 1
    assert failure.shrunk.nodes <= failure.plan.nodes
    again = fuzz(1.0, 99, SMALL, only_seed=failure.seed, shrink_s=0.0)
    assert again.failures[0].found == failure.found
    replayed = replay(failure.plan_file)
    assert replayed is not None
    assert replayed.found == failure.shrunk_found
    monkeypatch.undo()
    assert replay(failure.plan_file) is None


def test_a_core_that_ignores_withdrawals_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wish = Publisher.wish

    def deaf(publisher: Publisher, wished: AnnounceWish) -> None:
        if wished.payload is not None:
            wish(publisher, wished)

    monkeypatch.setattr(Publisher, "wish", deaf)
    assert _first_failure(tmp_path).found.kind == "withdrawn, yet found"


def test_a_core_that_raises_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(lookup: Lookup, node_id: int) -> None:
        raise LookupError("a request was lost")

    monkeypatch.setattr(Lookup, "failed", broken)
    failure = _first_failure(tmp_path)
    assert failure.found.kind == "LookupError in test_sim_fuzz.py:broken"
    assert "a request was lost" in failure.said()


def test_a_lookup_that_never_ends_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(FindProviders, "has_ended", lambda _: False)
    monkeypatch.setattr(FindProviders, "_deadline", lambda _: None)
    assert "does not end" in _first_failure(tmp_path).found.kind


def test_shrinking_keeps_what_fails_and_stops_in_time() -> None:
    plan = draw(14, 60)
    needed = plan.steps[len(plan.steps) // 2]
    tried: list[Plan] = []

    def fails(candidate: Plan) -> bool:
        tried.append(candidate)
        return needed in candidate.steps and candidate.nodes > 20

    small = shrunk(plan, fails, 20.0)
    assert small.steps == (needed,)
    assert small.nodes <= 22 or any(node >= small.nodes - 1 for node in needed.nodes)
    assert shrunk(plan, fails, 0.0) == plan
