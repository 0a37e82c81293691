"""What the HTTP API is told: where it listens, who may ask, how long an answer may take.

Always holds: an API that listens beyond loopback and Unix sockets has a bearer token. Numbers that no operator needs
to change are in `limits`. Leaves to others: binding the addresses (`serving`), checking a request (`gate`).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from mediadht.core.errors import ConfigurationError
from mediadht_bridge.api.limits import DEADLINE_S_MAX
from mediadht_bridge.serving import check_listen, is_loopback

__all__ = ["API_PORT_DEFAULT", "ApiConfig"]

API_PORT_DEFAULT = 8470
_TOKEN_CHARACTERS_MIN = 16
_TOKEN_CHARACTERS_MAX = 1_024
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""The grammar of bearer tokens (RFC 6750, section 2.1)."""
_MAKE_TOKEN = "make one with: openssl rand -hex 32"  # noqa: S105 - advice, not a token


class ApiConfig(BaseModel):
    """Everything that the HTTP API is told.

    Building one raises pydantic's ValidationError for a value of the wrong form, and ConfigurationError where the
    values do not go together (no token although others could connect).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    listen: Annotated[
        tuple[str, ...],
        Field(
            description="Addresses on which the homeserver is answered: host:port, or unix:/path for a Unix socket.",
            max_length=8,
        ),
    ] = (f"127.0.0.1:{API_PORT_DEFAULT}",)
    token_file: Annotated[
        Path | None, Field(description="File with the bearer token that callers must send; not readable by others.")
    ] = None
    token: Annotated[
        SecretStr | None, Field(description="The bearer token itself; a file keeps it out of process listings.")
    ] = None
    deadline_s: Annotated[
        float,
        Field(
            gt=0,
            le=DEADLINE_S_MAX,
            description="Seconds after which an answer is given with what is known, unless the caller names its own.",
        ),
    ] = 5.0
    requests_max: Annotated[
        int, Field(ge=1, le=10_000, description="Requests answered at once; further ones are told to come back.")
    ] = 256

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            check_listen(text)
        return value

    @field_validator("token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_token(value.get_secret_value(), "token")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ConfigurationError("api.token and api.token_file are both set: keep one of them")
        exposed = self.exposed
        if exposed and self.token is None and self.token_file is None:
            raise ConfigurationError(
                f"the API would listen on {exposed[0]}, where others can connect, without a token: "
                f"set api.token_file ({_MAKE_TOKEN}), or listen on 127.0.0.1:{API_PORT_DEFAULT} or unix:/path only"
            )
        return self

    @property
    def exposed(self) -> tuple[str, ...]:
        """Those of `listen` that are neither loopback nor a Unix socket."""
        return tuple(text for text in self.listen if not is_loopback(text))

    def read_token(self) -> SecretStr | None:
        """The token that callers must send; None if none is needed.

        Raises ConfigurationError if the token file cannot be read, may be read by everybody, or holds no token.
        """
        if self.token_file is None:
            return self.token
        path = self.token_file
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4 * _TOKEN_CHARACTERS_MAX).decode("ascii", errors="replace").strip()
        except OSError as fault:
            raise ConfigurationError(
                f"api.token_file {path} cannot be read ({fault.strerror}): {_MAKE_TOKEN} > {path}"
            ) from fault
        if mode & stat.S_IRWXO:
            raise ConfigurationError(f"api.token_file {path} is open to everybody on this machine: chmod o= {path}")
        try:
            _check_token(text, f"api.token_file {path}")
        except ValueError as fault:
            raise ConfigurationError(str(fault)) from fault
        return SecretStr(text)


def _check_token(text: str, where: str) -> None:
    """Raises ValueError without repeating the token."""
    if not _TOKEN_CHARACTERS_MIN <= len(text) <= _TOKEN_CHARACTERS_MAX or not _TOKEN.fullmatch(text):
        raise ValueError(
            f"{where} is not a bearer token: write {_TOKEN_CHARACTERS_MIN} to {_TOKEN_CHARACTERS_MAX} characters of "
            f"A-Z a-z 0-9 - . _ ~ + / ({_MAKE_TOKEN})"
        )
