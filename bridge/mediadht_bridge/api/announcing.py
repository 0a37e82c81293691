"""What the seeding and the participation calls share: announcing, withdrawing, and telling how it stands."""

from __future__ import annotations

import trio

from mediadht.core.identifiers import Subject
from mediadht.core.records import Offer
from mediadht.daemon.face import Announce
from mediadht_bridge.api.faults import Fault
from mediadht_bridge.api.models import AnnouncementAnswer, WithdrawnAnswer
from mediadht_bridge.api.params import Context

__all__ = ["announce", "describe", "withdraw"]

_SOURCE = "api"


async def announce(
    served: Context, subject: Subject, *, room_id: str | None, offers: frozenset[Offer]
) -> AnnouncementAnswer:
    """Announce `subject`, durably. Raises Fault 409 if the daemon serves no homeserver, and TooSlowError."""
    if served.dht.server_name is None:
        raise Fault(
            409,
            "M_BAD_STATE",
            "this daemon has no server name and so can announce nothing: set server_name and start it again",
        )
    wish = Announce(subject, _SOURCE, room_id, offers)
    with trio.fail_after(served.config.deadline_s):
        [announcement] = await served.dht.announce([wish])
    return AnnouncementAnswer.of(announcement)


async def withdraw(served: Context, subject: Subject) -> WithdrawnAnswer:
    """End the announcement of `subject`, whoever asked for it, durably. Raises TooSlowError."""
    with trio.fail_after(served.config.deadline_s):
        ended = await served.dht.withdraw([subject])
    return WithdrawnAnswer(withdrawn=bool(ended))


def describe(served: Context, subject: Subject) -> AnnouncementAnswer:
    """How the announcement of `subject` stands. Raises Fault 404 if there is none."""
    announcement = served.dht.announcement(subject)
    if announcement is None:
        raise Fault(404, "M_NOT_FOUND", "this server does not announce that")
    return AnnouncementAnswer.of(announcement)
