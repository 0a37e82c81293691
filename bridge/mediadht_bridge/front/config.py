"""The join front's configuration, and the limits that are not worth an option, each with its reason."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mediadht_bridge.matrix.homeserver import check_homeserver_url
from mediadht_bridge.serving import check_listen

__all__ = ["FrontConfig"]

LISTEN_DEFAULT: Final = "127.0.0.1:8472"

JOIN_BODY_BYTES_MAX: Final = 65_536
"""A join body (a reason, an invite's signature) is kept in memory up to this size, so that the join can be tried again.
Longer ones are passed on as they arrive, and not tried again. An event could not hold them anyway."""

KEPT_ANSWER_BYTES_MAX: Final = 65_536
"""An error answer up to this size can be held back while the join is tried again."""

JOINS_AT_ONCE_MAX: Final = 256
OTHERS_AT_ONCE_MAX: Final = 1_024
"""Requests under way. The pass-through has its own limit, so that long polls that were routed here by mistake do not
keep joins out. As many again may wait; beyond that the answer is 503 with Retry-After."""

LOOKUPS_AT_ONCE_MAX: Final = 64
"""Joins beyond this go on without the DHT at once: a wave of joins must not queue behind slow lookups."""

PROVIDERS_MAX: Final = 16
"""Providers asked of the DHT: one full answer of a replica, so that there is something to rank."""

SETTLE_S: Final = 0.1
"""How long after the first good provider others may still come in. Replicas that answer at all are faster than this;
what takes longer is a lookup that waits for dead nodes."""

SETTLE_UNPROVEN_S: Final = 0.5
"""The same after the first provider of any kind: one that may be dead or lie, so a better one is worth this much."""

ALIVE_S_MAX: Final = 900.0
"""A provider whose node was heard within this time counts as alive: the longest a session stays idle in a table."""

LOOKUP_AT_HOME_S: Final = 0.25
"""Limit of the lookup where this daemon itself announces the room: the homeserver is then almost surely in it, and
servers are needed only if the announcement has outlived the membership."""

RETRY_PAUSE_S: Final = 1.5
RETRY_WITHIN_S: Final = 10.0
"""A join that ends in 502 within RETRY_WITHIN_S is tried again once, RETRY_PAUSE_S later: a server that joined a moment
ago refuses to help until it has the room's full state (seconds). A 502 that took longer came from dead servers."""


class FrontConfig(BaseModel):
    """The `[front]` section. The front runs if the section is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Annotated[
        str, Field(description="Where the reverse proxy sends join requests: host:port, or unix:/path.")
    ] = LISTEN_DEFAULT
    homeserver_url: Annotated[
        str, Field(description="The homeserver's client API: http://host:port, https://host:port, or unix:/path.")
    ] = "http://127.0.0.1:8008"
    lookup_deadline_s: Annotated[
        float, Field(gt=0, le=30, description="A join waits this long for the DHT at most, then goes on as it came.")
    ] = 2.0
    via_max: Annotated[int, Field(ge=1, le=10, description="Servers added to one join.")] = 5
    upstream_timeout_s: Annotated[
        float, Field(ge=1, le=3600, description="The homeserver may be silent this long; large joins take minutes.")
    ] = 600.0

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        return check_listen(value)

    @field_validator("homeserver_url")
    @classmethod
    def _homeserver_url(cls, value: str) -> str:
        return check_homeserver_url(value)
