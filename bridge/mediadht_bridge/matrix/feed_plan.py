"""What a listing means for the announcements: a pure function of the listing and of what stands.

What always holds: a room is announced only if the homeserver says it is open, or the admin has named it; what is
expressly not open, or excluded, is withdrawn at once; what is merely missing is withdrawn only once several complete
listings agree, so no failed, short or empty listing ever withdraws anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from mediadht.core.identifiers import Subject
from mediadht_bridge.matrix.feed_config import (
    ABSENT_LISTINGS,
    ABSENT_LISTINGS_SUSPECT,
    SHRINK_ROOMS_MIN,
    SHRINK_SUSPECT,
)
from mediadht_bridge.matrix.room_lists import Listing

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and what to remember."""

    wanted: list[Subject]
    """Rooms to be announced, those that already are included; in the order of their IDs."""
    withdraw: list[Subject]
    absences: dict[Subject, int]
    """For each announced room that is missing: complete listings in a row without it."""
    suspect: bool
    """Whether so much is missing at once that more listings have to agree."""


def make_plan(
    listing: Listing,
    announced: Set[Subject],
    absences: Mapping[Subject, int],
    include: Set[Subject],
    exclude: Set[Subject],
) -> Plan:
    """The plan for one listing; `announced` and `absences` are the state that the previous ones have left."""
    wanted = (listing.open | _included(listing, announced, include)) - exclude
    unwanted = announced - wanted
    now = {room for room in unwanted if room in exclude or room in listing.closed}
    missing = unwanted - now
    suspect = len(missing) > max(SHRINK_ROOMS_MIN, SHRINK_SUSPECT * len(announced))
    needed = ABSENT_LISTINGS_SUSPECT if suspect else ABSENT_LISTINGS
    counted = {room: absences.get(room, 0) + listing.complete for room in missing}
    gone = {room for room, count in counted.items() if listing.complete and count >= needed}
    return Plan(
        wanted=sorted(wanted, key=_order),
        withdraw=sorted(now | gone, key=_order),
        absences={room: count for room, count in counted.items() if room not in gone},
        suspect=suspect,
    )


def _included(listing: Listing, announced: Set[Subject], include: Set[Subject]) -> Set[Subject]:
    """Of the rooms that the admin has named, those in which the homeserver is, where we can know."""
    if listing.source != "admin list":
        return include
    return include & (listing.joined if listing.complete else listing.joined | announced)


def _order(room: Subject) -> str:
    return room.id
