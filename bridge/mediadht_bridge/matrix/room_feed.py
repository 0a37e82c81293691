"""The room feed: announces the rooms that the homeserver is in, and withdraws those that it has left.

What always holds: between two listings nothing is done, and a listing that brings no change touches neither disk nor
DHT; what stands is read from the daemon at the start, so a restart forgets nothing; the log tells changes of state,
not polls. A room is this feed's if `feed` is among its announcement's sources; other sources are left alone.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import trio
from prometheus_client import Counter, Gauge

from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault, RemoteError
from mediadht.core.identifiers import Kind, Subject, room
from mediadht.daemon.face import DHT, Announce, Announcement
from mediadht_bridge.matrix.feed_config import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    BATCH_ROOMS,
    JITTER,
    LISTING_SHARE_MAX,
    REFUSED_RETRY_S,
    FeedConfig,
)
from mediadht_bridge.matrix.feed_plan import Plan, make_plan
from mediadht_bridge.matrix.homeserver import Homeserver
from mediadht_bridge.matrix.room_lists import Limited, Listing, Refused, RoomLists

__all__ = ["FEED_SOURCE", "run_room_feed"]

_log = logging.getLogger(__name__)

FEED_SOURCE: Final = "feed"
_HEALTHY: Final = "listing"


async def run_room_feed(
    dht: DHT,
    config: FeedConfig,
    *,
    uniform: Callable[[float, float], float] = random.uniform,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the announcements equal to the homeserver's open rooms until cancelled. What stands then keeps standing.

    `uniform` draws the jitter. Reports before the first listing: a homeserver that is still starting holds nobody up.
    Raises, before that, ConfigurationError without a server name, or EnvironmentFault for an unreadable token file.
    """
    if dht.server_name is None:
        raise ConfigurationError(
            "[feed] announces rooms of a homeserver, so server_name must say which; set it, or remove [feed]"
        )
    config.token()
    feed = _RoomFeed(dht, config, uniform)
    task_status.started()
    while True:
        wait_s = await feed.poll()
        await trio.sleep(wait_s)


class _RoomFeed:
    def __init__(self, dht: DHT, config: FeedConfig, uniform: Callable[[float, float], float]) -> None:
        self._dht = dht
        self._config = config
        self._uniform = uniform
        self._lists = RoomLists(Homeserver(config.homeserver_url), lambda seconds: uniform(0.0, seconds))
        self._include = frozenset(room(text) for text in config.include)
        self._exclude = frozenset(room(text) for text in config.exclude)
        self._announced = {announcement.subject for announcement in dht.announcements() if _is_ours(announcement)}
        self._absences: dict[Subject, int] = {}
        self._failures = 0
        self._state = ""
        self._token_not_admin: str | None = None
        self._admin_worked = False
        self._metrics = _FeedMetrics(dht)
        self._metrics.rooms.set(len(self._announced))

    async def poll(self) -> float:
        """List, compare, announce, withdraw. Returns the seconds to wait until the next time."""
        began_s = trio.current_time()
        try:
            listing = await self._list()
            await self._apply(listing)
        except (RemoteError, EnvironmentFault, CallerError) as fault:
            self._metrics.errors.labels(_kind(fault)).inc()
            self._failures += 1
            return self._jittered(self._after(fault))
        self._failures = 0
        self._metrics.last_success.set_to_current_time()
        self._enter(
            f"{_HEALTHY} {listing.source}", f"{len(self._announced)} rooms announced, from the {listing.source}"
        )
        busy_s = trio.current_time() - began_s - listing.waited_s
        return self._jittered(max(self._config.interval_s, busy_s / LISTING_SHARE_MAX))

    async def _list(self) -> Listing:
        token = self._config.token()
        if token is not None and self._config.admin is not False and token != self._token_not_admin:
            try:
                listing = await self._lists.admin_list(token)
            except Refused as fault:
                # Once the admin list has been read, the directory is no substitute: rooms that are public but not
                # published would seem to be gone.
                if self._config.admin or self._admin_worked or fault.code == "M_UNKNOWN_TOKEN":
                    raise
                self._token_not_admin = token
                _log.info("Room feed: the access token is not a server admin's, so the admin list is not used")
            else:
                self._admin_worked = True
                return listing
        if self._config.directory:
            return await self._lists.directory(token)
        return Listing("settings", complete=True)

    async def _apply(self, listing: Listing) -> None:
        plan = make_plan(listing, self._announced, self._absences, self._include, self._exclude)
        self._absences = plan.absences
        if plan.suspect:
            self._warn_suspect(plan)
        new = [subject for subject in plan.wanted if not _is_ours(self._dht.announcement(subject))]
        self._announced.update(plan.wanted)
        self._announced.difference_update(new)
        try:
            await self._announce(new)
            await self._withdraw(plan.withdraw)
        finally:
            self._metrics.rooms.set(len(self._announced))
        if (new or plan.withdraw) and self._state.startswith(_HEALTHY):
            _log.info(
                "Room feed: %d rooms announced, %d withdrawn; %d stand",
                len(new),
                len(plan.withdraw),
                len(self._announced),
            )

    async def _announce(self, rooms: Sequence[Subject]) -> None:
        for batch in _batches(rooms):
            await self._dht.announce([Announce(subject, FEED_SOURCE) for subject in batch])
            self._announced.update(batch)
            self._metrics.changes.labels("announced").inc(len(batch))

    async def _withdraw(self, rooms: Sequence[Subject]) -> None:
        for batch in _batches(rooms):
            await self._dht.withdraw(batch, source=FEED_SOURCE)
            self._announced.difference_update(batch)
            self._metrics.changes.labels("withdrawn").inc(len(batch))

    def _after(self, fault: RemoteError | EnvironmentFault | CallerError) -> float:
        """Tell what is wrong, if that is news, and how long to wait."""
        backoff_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(self._failures - 1, 10))
        match fault:
            case Refused():
                self._enter("refused", f"the homeserver refuses to list its rooms ({fault.why}): {self._advice(fault)}")
                return REFUSED_RETRY_S
            case Limited():
                self._enter("limited", f"{fault.why}; what is announced stays announced")
                return max(fault.retry_after_s, backoff_s)
            case RemoteError():
                self._enter("unreachable", f"{fault.why}; what is announced stays announced, trying again")
                return backoff_s
            case _:
                self._enter("failing", f"{fault}; trying again")
                return backoff_s

    def _advice(self, fault: Refused) -> str:
        where = self._config.access_token_file or "access_token"
        if fault.code == "M_UNKNOWN_TOKEN":
            return f"the access token is not valid (any more); put a new one into {where}"
        if self._config.access_token is None and self._config.access_token_file is None:
            return (
                "set access_token_file in [feed] (any user's token does), or allow_public_rooms_without_auth: true in "
                "homeserver.yaml"
            )
        if self._config.admin or self._admin_worked:
            return "the token's user is not a server admin, or this is not Synapse; make it one, or remove admin = true"
        return f"give the token's user the right to read the room directory, or put another token into {where}"

    def _enter(self, state: str, text: str) -> None:
        if state == self._state:
            return
        _log.log(logging.INFO if state.startswith(_HEALTHY) else logging.WARNING, "Room feed: %s", text)
        self._state = state

    def _warn_suspect(self, plan: Plan) -> None:
        if all(count <= 1 for count in plan.absences.values()):
            _log.warning(
                "Room feed: %d of %d announced rooms are suddenly not listed any more; they stay announced unless "
                "several more listings say the same",
                len(plan.absences),
                len(self._announced),
            )

    def _jittered(self, seconds: float) -> float:
        return seconds * self._uniform(1 - JITTER, 1 + JITTER)


class _FeedMetrics:
    def __init__(self, dht: DHT) -> None:
        self.rooms = Gauge("mediadht_feed_rooms", "Rooms that the feed announces.", registry=dht.registry)
        self.last_success = Gauge(
            "mediadht_feed_last_success_timestamp_seconds",
            "Unix time of the latest good listing.",
            registry=dht.registry,
        )
        self.errors = Counter("mediadht_feed_errors", "Listings that failed, by why.", ["why"], registry=dht.registry)
        self.changes = Counter(
            "mediadht_feed_changes", "Rooms announced and withdrawn.", ["change"], registry=dht.registry
        )


def _is_ours(announcement: Announcement | None) -> bool:
    return (
        announcement is not None
        and not announcement.withdrawn
        and FEED_SOURCE in announcement.sources
        and announcement.subject.kind is Kind.ROOM
    )


def _batches(rooms: Sequence[Subject]) -> Iterator[Sequence[Subject]]:
    return (rooms[start : start + BATCH_ROOMS] for start in range(0, len(rooms), BATCH_ROOMS))


def _kind(fault: RemoteError | EnvironmentFault | CallerError) -> str:
    match fault:
        case Refused():
            return "refused"
        case Limited():
            return "limited"
        case RemoteError():
            return "homeserver"
        case _:
            return "disk"
