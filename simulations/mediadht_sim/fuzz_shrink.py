"""A failing plan cut down to what still fails in the same way: fewer steps, fewer nodes, fewer complications.

Every cut is tried by running it; it is kept if the same demand is unmet. First halves of the steps go, then quarters,
and so on (delta debugging, Zeller and Hildebrandt 2002), then nodes, then what makes the network unpleasant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from mediadht_sim.fuzz_scenarios import NODES_MIN, Plan

__all__ = ["shrunk"]


def shrunk(plan: Plan, fails: Callable[[Plan], bool], limit_s: float) -> Plan:
    """The smallest plan found within `limit_s` seconds of real time for which `fails` holds, as it does for `plan`."""
    stop_s = time.monotonic() + limit_s
    best = plan
    progress = True
    while progress:
        progress = False
        for cut in (_fewer_steps, _fewer_nodes, _simpler):
            candidates = cut(best)
            while (candidate := next(candidates, None)) is not None:
                if time.monotonic() >= stop_s:
                    return best
                if candidate != best and fails(candidate):
                    best, progress = candidate, True
                    candidates = cut(best)
    return best


def _fewer_steps(plan: Plan) -> Iterator[Plan]:
    steps = plan.steps
    size = len(steps)
    while size:
        for start in range(0, len(steps), size):
            yield replace(plan, steps=steps[:start] + steps[start + size :])
        size //= 2


def _fewer_nodes(plan: Plan) -> Iterator[Plan]:
    for count in (plan.nodes // 2, plan.nodes * 3 // 4, plan.nodes - 1):
        if NODES_MIN <= count < plan.nodes:
            yield plan.with_nodes(count)


def _simpler(plan: Plan) -> Iterator[Plan]:
    last_s = max((step.at_s for step in plan.steps), default=0.0)
    yield replace(plan, adversaries=())
    yield replace(plan, unreachable=())
    yield replace(plan, skews_s=())
    yield replace(plan, jitter_share=0.0)
    yield replace(plan, codec=False)
    yield replace(plan, safety_s=min(plan.safety_s, last_s + 1.0))
    for step in plan.steps:
        if len(step.nodes) > 1 and step.kind != "partition":
            rest = tuple(s for s in plan.steps if s is not step)
            for half in (step.nodes[: len(step.nodes) // 2], step.nodes[len(step.nodes) // 2 :]):
                yield replace(plan, steps=tuple(sorted((*rest, replace(step, nodes=half)), key=lambda s: s.at_s)))
