"""The ordered set of points: exactly the closest by XOR, whatever its members are."""

from __future__ import annotations

from core_strategies import ID_MAX, points, property_settings
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mediadht.core.xor_index import XorIndex

sets_of_points = st.one_of(st.sets(points, max_size=60), st.sets(st.integers(0, 200), min_size=30, max_size=120))


@property_settings(300)
@given(sets_of_points, points, st.integers(0, 70))
def test_the_closest_are_exactly_those_of_brute_force(members: set[int], target: int, count: int) -> None:
    assert XorIndex(members).closest(target, count) == sorted(members, key=target.__xor__)[:count]


@property_settings(150)
@given(sets_of_points, points, st.integers(0, 70))
def test_the_farthest_are_exactly_those_of_brute_force(members: set[int], target: int, count: int) -> None:
    assert XorIndex(members).farthest(target, count) == sorted(members, key=target.__xor__, reverse=True)[:count]


@property_settings(150)
@given(sets_of_points, points, st.integers(0, 30), st.integers(1, 5))
def test_only_accepted_members_count(members: set[int], target: int, count: int, divisor: int) -> None:
    found = XorIndex(members).closest(target, count, lambda m: m % divisor == 0)
    assert found == sorted((m for m in members if m % divisor == 0), key=target.__xor__)[:count]


@property_settings(200)
@given(sets_of_points, points, points, st.none() | st.integers(0, 20))
def test_ranges_are_half_open_ascending_and_limited(members: set[int], low: int, high: int, limit: int | None) -> None:
    expected = sorted(m for m in members if low <= m < high)
    assert XorIndex(members).between(low, high, limit) == (expected if limit is None else expected[:limit])


@property_settings(150)
@given(sets_of_points, points)
def test_what_follows_the_last_is_the_first(members: set[int], low: int) -> None:
    expected = min((m for m in members if m >= low), default=min(members, default=None))
    assert XorIndex(members).following(low) == expected


class IndexAgainstASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = XorIndex()
        self.model: set[int] = set()

    @rule(member=points)
    def add(self, member: int) -> None:
        self.index.add(member)
        self.model.add(member)

    @rule(member=points)
    def discard(self, member: int) -> None:
        self.index.discard(member)
        self.model.discard(member)

    @rule(position=st.floats(0, 0.999))
    def discard_a_member(self, position: float) -> None:
        if self.model:
            member = sorted(self.model)[int(position * len(self.model))]
            self.index.discard(member)
            self.model.discard(member)

    @rule(member=points)
    def membership(self, member: int) -> None:
        assert (member in self.index) == (member in self.model)

    @invariant()
    def same_members_in_order(self) -> None:
        assert list(self.index) == sorted(self.model)
        assert len(self.index) == len(self.model)
        assert list(self.index.by_distance(ID_MAX // 3)) == sorted(self.model, key=(ID_MAX // 3).__xor__)


IndexAgainstASet.TestCase.settings = property_settings(40, 30)
TestIndexAgainstASet = IndexAgainstASet.TestCase
