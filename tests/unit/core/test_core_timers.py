"""Timers: order, cancelling, and that the cancelled are let go of."""

from __future__ import annotations

from mediadht.core.timers import Timers


def made(timers: Timers, now: float) -> int:
    """How many are gone, made or cancelled."""
    before = len(timers)
    timers.call_due(now)
    return before - len(timers)


def test_calls_come_in_the_order_of_their_times_then_of_setting() -> None:
    timers, calls = Timers(), list[str]()
    for name, at_s in (("b", 2.0), ("a", 1.0), ("c", 2.0), ("late", 3.0)):
        timers.set(at_s, lambda name=name: calls.append(name))
    assert timers.next_s == 1.0
    assert made(timers, 2.5) == 3
    assert calls == ["a", "b", "c"]
    assert timers.next_s == 3.0


def test_a_cancelled_call_is_not_made_and_wakes_nobody() -> None:
    timers, calls = Timers(), list[str]()
    first = timers.set(1.0, lambda: calls.append("first"))
    timers.set(2.0, lambda: calls.append("second"))
    first.cancel()
    first.cancel()
    assert len(timers) == 1
    assert timers.next_s == 2.0
    assert made(timers, 5.0) == 1
    assert calls == ["second"]
    first.cancel()
    assert len(timers) == 0
    assert timers.next_s == float("inf")


def test_one_call_may_cancel_the_next() -> None:
    timers, calls = Timers(), list[str]()
    second = [timers.set(1.0, lambda: second[0].cancel())]
    second[0] = timers.set(1.0, lambda: calls.append("second"))
    timers.call_due(1.0)
    assert calls == []
    assert len(timers) == 0


def test_the_heap_holds_no_more_cancelled_ones_than_others_and_a_few() -> None:
    timers = Timers()
    kept = [timers.set(1e6 + n, lambda: None) for n in range(100)]
    for n in range(10_000):
        timers.set(1000.0 + n, lambda: None).cancel()
        assert len(timers._heap) <= 2 * len(kept) + 65
    assert len(timers) == 100
    assert timers.next_s == 1e6
