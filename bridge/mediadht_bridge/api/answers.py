"""The error answers that calls document: one description for each status, the same for all calls."""

from __future__ import annotations

from typing import Any

from mediadht_bridge.api.models import ErrorAnswer

__all__ = ["errors"]

_ERRORS: dict[int, tuple[str, str, str]] = {
    400: ("The request is not right.", "M_INVALID_PARAM", "limit: Input should be less than or equal to 500"),
    401: ("The bearer token is missing or wrong.", "M_MISSING_TOKEN", "send the token of api.token_file"),
    403: ("Without a token only programs on this machine may ask.", "M_FORBIDDEN", "web pages may not ask this API"),
    404: ("There is no such thing, or no such call.", "M_NOT_FOUND", "this server does not announce that"),
    408: ("The request's body did not arrive in time.", "M_UNKNOWN", "the body did not arrive in time"),
    409: ("The daemon serves no homeserver.", "M_BAD_STATE", "this daemon has no server name: set server_name"),
    413: ("The request's body is too large.", "M_TOO_LARGE", "a body has 16384 bytes at most"),
    415: ("The request's body is not declared as JSON.", "M_NOT_JSON", "send the body as JSON"),
    429: ("Too many requests at once.", "M_LIMIT_EXCEEDED", "256 requests are being answered already"),
    500: ("A mistake in mediadht itself.", "M_UNKNOWN", "something is wrong in mediadht itself: its log says what"),
    502: ("The peer refused, or broke the protocol.", "M_UNKNOWN", "the peer did not do it: unreachable"),
    503: ("This machine refuses, for example because its disk is full.", "M_UNKNOWN", "this machine refuses"),
    504: ("The deadline has passed without an answer.", "M_UNKNOWN", "the answer took longer than the deadline"),
}
_ALWAYS = (400, 401, 403, 404, 408, 413, 415, 429, 500, 504)


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a call: the errors that any call may answer, and `more`."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": _ERRORS[status][0],
            "content": {"application/json": {"example": {"errcode": _ERRORS[status][1], "error": _ERRORS[status][2]}}},
        }
        for status in sorted({*_ALWAYS, *more})
    }
