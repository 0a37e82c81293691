"""The model check of claims, as much of it as takes seconds; and that it finds the faults that it is there to find.

The larger configurations: `tests/modelcheck/claim_model.py --help`; what they covered stands in `docs/claims.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from claim_model import Configuration, Model, Violation


@pytest.mark.parametrize(
    ("configuration", "states"),
    [
        (Configuration(claimants=2, replicas=3), 61_289),
        (Configuration(claimants=2, replicas=4, lies=1), 91_645),
        (Configuration(claimants=2, replicas=3, epochs=2, kind_every=10), None),
    ],
    ids=str,
)
def test_no_two_rooms_and_nobody_waits_for_ever(configuration: Configuration, states: int | None) -> None:
    model = Model(configuration)
    explored = model.explore()
    assert model.told_create, "somebody is told to create, or nothing was tried"
    if states is not None:
        assert explored == states, "another number of states: the machines have changed; look whether they should have"


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        (Configuration(claimants=2, replicas=4, quorum=2), "two rooms"),
        (Configuration(claimants=2, replicas=4, lies=2, skewed=True), "two rooms"),
        (Configuration(claimants=2, replicas=4, lies=1, forgetful=True, skewed=True), "two rooms"),
    ],
    ids=["a smaller quorum", "two liars of four", "a liar, and one that forgets its promises"],
)
def test_it_finds_what_must_not_be(configuration: Configuration, fault: str) -> None:
    with pytest.raises(Violation, match=fault):
        Model(configuration).explore()
