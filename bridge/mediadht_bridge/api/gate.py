"""Who may ask: the bearer token, and what a web page in a browser on this machine must not be able to do.

With a token, whoever has it may ask from anywhere. Without one the API listens on loopback and Unix sockets only, and
there the danger is a browser: a page of any origin can send requests to 127.0.0.1, and by DNS rebinding even read the
answers. So without a token a TCP request must name localhost or a loopback address as its host, and must not carry
what browsers add to a page's requests (`Origin`, `Sec-Fetch-Site: cross-site` or `same-site`).
"""

from __future__ import annotations

import hashlib
import hmac

from pydantic import SecretStr
from starlette.types import Scope

from mediadht_bridge.api.faults import Fault
from mediadht_bridge.serving import is_loopback_host

__all__ = ["LIVE_PATH", "Gate"]

LIVE_PATH = "/health/live"
_CHALLENGE = 'Bearer realm="mediadht"'


class Gate:
    """Decides for each request whether it is let in."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token_digest = None if token is None else _digest(token.get_secret_value().encode())

    def check(self, scope: Scope) -> Fault | None:
        """The refusal of a request, or None if it may pass."""
        if self._token_digest is None:
            return _check_local(scope)
        if scope["path"] == LIVE_PATH:
            return None
        return self._check_token(scope)

    def _check_token(self, scope: Scope) -> Fault | None:
        given = _values(scope, b"authorization")
        if not given:
            return Fault(
                401,
                "M_MISSING_TOKEN",
                "send the token of api.token_file as: Authorization: Bearer <token>",
                headers={"WWW-Authenticate": _CHALLENGE},
            )
        scheme, _, token = given[0].partition(b" ")
        # Digests, because compare_digest takes time that depends on the length of what it compares.
        right = hmac.compare_digest(_digest(token.strip()), self._token_digest or b"")
        if right and scheme.lower() == b"bearer" and len(given) == 1:
            return None
        return Fault(
            401,
            "M_UNKNOWN_TOKEN",
            "that is not the token of api.token_file",
            headers={"WWW-Authenticate": _CHALLENGE + ', error="invalid_token"'},
        )


def _check_local(scope: Scope) -> Fault | None:
    if _values(scope, b"origin") or any(
        value.lower() in {b"cross-site", b"same-site"} for value in _values(scope, b"sec-fetch-site")
    ):
        return Fault(403, "M_FORBIDDEN", "web pages may not ask this API; to allow it, set api.token_file")
    over_unix_socket = scope.get("server") is None
    if over_unix_socket or any(_names_loopback(value) for value in _values(scope, b"host")):
        return None
    return Fault(
        403,
        "M_FORBIDDEN",
        "without a token this API answers to localhost, 127.0.0.1 and [::1] only: use one of them as the host, "
        "or set api.token_file",
    )


def _names_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine: `localhost`, `127.0.0.1:8470`, `[::1]:8470`."""
    text = host.decode("latin-1").strip()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        if not bracket:
            return False
    else:
        name, colon, port = text.partition(":")
        port = colon + port
    return (not port or (port[0] == ":" and port[1:].isdigit())) and is_loopback_host(name)


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for header, value in scope["headers"] if header.lower() == name]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
