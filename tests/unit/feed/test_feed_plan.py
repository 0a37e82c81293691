"""What a listing means for the announcements: the pure part of the feed."""

from __future__ import annotations

from mediadht.core.identifiers import Subject, room
from mediadht_bridge.matrix.feed_config import ABSENT_LISTINGS, ABSENT_LISTINGS_SUSPECT
from mediadht_bridge.matrix.feed_plan import make_plan
from mediadht_bridge.matrix.room_lists import Listing

NONE: frozenset[Subject] = frozenset()


def rooms(*numbers: int) -> set[Subject]:
    return {room(f"!{number:06}:hs.example") for number in numbers}


def listing(opened: set[Subject], *, closed: set[Subject] = NONE, complete: bool = True, admin: bool = True) -> Listing:
    source = "admin list" if admin else "directory"
    return Listing(source, open=opened, joined=opened | closed, closed=set(closed), complete=complete)


def test_open_rooms_are_wanted_and_excluded_ones_are_not() -> None:
    plan = make_plan(listing(rooms(1, 2, 3)), set(), {}, NONE, rooms(2))
    assert plan.wanted == sorted(rooms(1, 3), key=str)
    assert plan.withdraw == []


def test_an_excluded_or_closed_room_goes_at_once_even_from_an_incomplete_listing() -> None:
    partial = listing(rooms(1), closed=rooms(3), complete=False)
    plan = make_plan(partial, rooms(1, 2, 3, 4), {}, NONE, rooms(2))
    assert plan.withdraw == sorted(rooms(2, 3), key=str)


def test_a_missing_room_goes_after_enough_complete_listings() -> None:
    absences: dict[Subject, int] = {}
    for number in range(1, ABSENT_LISTINGS + 1):
        plan = make_plan(listing(rooms(1)), rooms(1, 2), absences, NONE, NONE)
        assert plan.withdraw == (sorted(rooms(2), key=str) if number == ABSENT_LISTINGS else [])
        absences = plan.absences
        incomplete = make_plan(listing(rooms(1), complete=False), rooms(1, 2), absences, NONE, NONE)
        assert (incomplete.withdraw, incomplete.absences) == ([], absences if absences else dict.fromkeys(rooms(2), 0))


def test_a_room_that_comes_back_starts_anew() -> None:
    once = make_plan(listing(rooms(1)), rooms(1, 2), {}, NONE, NONE)
    back = make_plan(listing(rooms(1, 2)), rooms(1, 2), once.absences, NONE, NONE)
    assert back.absences == {}


def test_an_empty_listing_needs_more_to_agree() -> None:
    stand = rooms(*range(100))
    absences: dict[Subject, int] = {}
    for number in range(1, ABSENT_LISTINGS_SUSPECT + 1):
        plan = make_plan(listing(set()), stand, absences, NONE, NONE)
        assert plan.suspect
        assert len(plan.withdraw) == (100 if number == ABSENT_LISTINGS_SUSPECT else 0)
        absences = plan.absences


def test_an_included_room_is_announced_while_the_homeserver_is_in_it() -> None:
    named = rooms(7, 8)
    seen = listing(rooms(1), closed=rooms(7))
    plan = make_plan(seen, rooms(7, 8), {}, named, NONE)
    assert plan.wanted == sorted(rooms(1, 7), key=str)
    assert plan.withdraw == []
    assert set(plan.absences) == rooms(8)
    assert make_plan(listing(set(), admin=False), set(), {}, named, rooms(8)).wanted == sorted(rooms(7), key=str)


def test_an_incomplete_admin_list_keeps_included_rooms() -> None:
    plan = make_plan(listing(set(), complete=False), rooms(7), {}, rooms(7), NONE)
    assert (plan.wanted, plan.withdraw) == (sorted(rooms(7), key=str), [])
