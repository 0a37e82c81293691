"""The room feed's configuration, and the limits that are not worth an option, each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from mediadht.core.errors import EnvironmentFault
from mediadht.core.identifiers import Kind, room
from mediadht_bridge.matrix.homeserver import check_homeserver_url

__all__ = ["FeedConfig"]

ROOMS_MAX: Final = 200_000
"""Rooms announced. A homeserver in more has a listing that we do not trust."""

ADMIN_PAGE_ROOMS: Final = 1_000
DIRECTORY_PAGE_ROOMS: Final = 100
"""Rooms asked for in one page. Synapse gives 100 of the directory at most; its admin list has no limit, and every page
costs it the same sort of all rooms."""

PAGES_MAX: Final = 5_000
PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A page of the directory carries topics of up to 64 KiB each."""

REQUEST_TIMEOUT_S: Final = 60.0
BATCH_ROOMS: Final = 500
"""Rooms announced or withdrawn in one step: one transaction on disk."""

ABSENT_LISTINGS: Final = 2
"""A room that merely is no longer listed is withdrawn after this many complete listings without it, one after the
other: pages are taken one by one from a list that changes meanwhile, and a room can slip between two of them."""

SHRINK_SUSPECT: Final = 0.5
SHRINK_ROOMS_MIN: Final = 10
ABSENT_LISTINGS_SUSPECT: Final = 5
"""Where more than this share of the rooms, and this many, are missing at once, more listings have to agree: a database
being restored, or a homeserver rebuilding its statistics, lists next to nothing for a while."""

BACKOFF_S_MIN: Final = 5.0
BACKOFF_S_MAX: Final = 600.0
"""Between attempts while the homeserver does not answer: it may be starting beside us."""

REFUSED_RETRY_S: Final = 600.0
"""Between attempts with a token that the homeserver refuses: a person has to act. The token file is read anew."""

LIMITED_WAIT_S_MAX: Final = 120.0
LIMITED_WAITS_MAX: Final = 5
"""429 within a listing is waited out up to this often and this long; beyond that the listing ends."""

LISTING_SHARE_MAX: Final = 0.05
"""Of the time at most this share is spent listing: where a listing takes long, the interval grows."""

JITTER: Final = 0.1
"""Each wait is up to this share shorter or longer, so that servers that started together do not stay together."""


class FeedConfig(BaseModel):
    """The `[feed]` section. The feed runs if the section is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    homeserver_url: Annotated[
        str, Field(description="The homeserver's client API: http://host:port, https://host:port, or unix:/path.")
    ] = "http://127.0.0.1:8008"
    access_token: Annotated[
        SecretStr | None, Field(description="A user's access token; a server admin's gives the complete list of rooms.")
    ] = None
    access_token_file: Annotated[
        Path | None, Field(description="A file with that token instead; read anew for every listing.")
    ] = None
    admin: Annotated[
        bool | None,
        Field(description="Whether to use Synapse's admin room list; by default if there is a token that may."),
    ] = None
    directory: Annotated[
        bool, Field(description="Whether to use the public room directory where the admin list is not used.")
    ] = True
    include: Annotated[
        tuple[str, ...], Field(description="Room IDs to announce although they are not public.", max_length=10_000)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Field(description="Room IDs never to announce; wins over include.", max_length=10_000)
    ] = ()
    interval_s: Annotated[float, Field(ge=5, le=86_400, description="Seconds between two listings.")] = 60.0

    @field_validator("homeserver_url")
    @classmethod
    def _homeserver_url(cls, value: str) -> str:
        return check_homeserver_url(value)

    @field_validator("include", "exclude")
    @classmethod
    def _room_ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if room(text).kind is not Kind.ROOM:
                raise ValueError(f"{text!r} is a media room: its seeding is announced over the API")
        return value

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.access_token is not None and self.access_token_file is not None:
            raise ValueError("write access_token or access_token_file, not both")
        if self.admin and self.access_token is None and self.access_token_file is None:
            raise ValueError("admin = true needs the access_token of a server admin, or access_token_file")
        return self

    def token(self) -> str | None:
        """The access token; read from its file if that is where it is. Raises EnvironmentFault if that fails."""
        if self.access_token is not None:
            return self.access_token.get_secret_value()
        if self.access_token_file is None:
            return None
        try:
            token = self.access_token_file.read_text(encoding="ascii").strip()
        except OSError as fault:
            raise EnvironmentFault(
                f"the access token file {self.access_token_file} cannot be read: {fault.strerror}. "
                "It must be there, and readable for the user that runs mediadht"
            ) from fault
        except ValueError as fault:
            raise EnvironmentFault(f"the access token file {self.access_token_file} is no text: {fault}") from fault
        if not token or any(character <= " " for character in token):
            raise EnvironmentFault(
                f"the access token file {self.access_token_file} holds no token: one line, no spaces"
            )
        return token
