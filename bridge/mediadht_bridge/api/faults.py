"""Errors in Matrix's form, `{"errcode": "M_…", "error": "…"}`, whatever went wrong and wherever.

Always holds: every answer with a status of 400 or more is made here. Handlers turn the project's own errors, the
framework's and the deadline into `Fault`s; what is left is our own mistake and becomes a 500 in `boundary`.
An error's text says what is wrong and what to do; of what the caller sent it repeats names only, escaped and cut.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import trio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mediadht.core.errors import CallerError, Code, EnvironmentFault, MediaDHTError, RemoteError
from mediadht_bridge.api.limits import ERROR_DETAILS_MAX

__all__ = ["Fault", "deadline_fault", "install_handlers"]

_log = logging.getLogger(__name__)


class Fault(MediaDHTError):
    """An error that is already an answer: HTTP status, Matrix error code, text for people."""

    def __init__(
        self,
        status: int,
        errcode: str,
        error: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.errcode = errcode
        self.error = error
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> JSONResponse:
        """The answer."""
        body = {"errcode": self.errcode, "error": self.error, **self.extra}
        return JSONResponse(body, self.status, headers=self.headers)


def deadline_fault(waited_for: str) -> Fault:
    """The answer to a caller whose deadline has passed."""
    return Fault(504, "M_UNKNOWN", f"{waited_for} took longer than the deadline: go on without it, or ask again")


def install_handlers(app: FastAPI) -> None:
    """Make `app` answer every known kind of error in Matrix's form."""
    app.add_exception_handler(Fault, _fault)
    app.add_exception_handler(CallerError, _caller)
    app.add_exception_handler(RemoteError, _remote)
    app.add_exception_handler(EnvironmentFault, _environment)
    app.add_exception_handler(trio.TooSlowError, _too_slow)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Fault)
    return error.response()


async def _caller(request: Request, error: Exception) -> JSONResponse:
    return Fault(400, "M_INVALID_PARAM", str(error)).response()


async def _remote(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RemoteError)
    status = 504 if error.code == Code.TIMED_OUT else 502
    return Fault(status, "M_UNKNOWN", f"the peer did not do it: {error}").response()


async def _environment(request: Request, error: Exception) -> JSONResponse:
    _log.error("the machine refused a request: %s", error)
    return Fault(503, "M_UNKNOWN", f"this machine refuses: {error}").response()


async def _too_slow(request: Request, error: Exception) -> JSONResponse:
    return deadline_fault("the answer").response()


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _validation_fault(error.errors()).response()


def _validation_fault(errors: Sequence[Mapping[str, Any]]) -> Fault:
    assert errors
    first = errors[0]
    if first["type"] == "json_invalid":
        return Fault(400, "M_NOT_JSON", "the body is not JSON")
    where = first["loc"][0]
    if where == "body":
        errcode = "M_BAD_JSON"
    elif first["type"] == "missing":
        errcode = "M_MISSING_PARAM"
    else:
        errcode = "M_INVALID_PARAM"
    return Fault(400, errcode, "; ".join(_one_validation(error) for error in errors[:ERROR_DETAILS_MAX]))


def _one_validation(error: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"][1:]) or "the body"
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        text = "there is no such field"
    return f"{ascii(name)[1:-1][:80]}: {text[:300]}"


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            fault = Fault(404, "M_UNRECOGNIZED", "there is no such call; /openapi.json lists them")
        case 405:
            allowed = ", ".join(_allowed_methods(request))
            fault = Fault(
                405, "M_UNRECOGNIZED", f"this call does not know that method: use {allowed}", headers={"Allow": allowed}
            )
        case 400:
            fault = Fault(400, "M_NOT_JSON", "the body is not JSON")
        case status:
            fault = Fault(status, "M_UNKNOWN", str(error.detail))
    return fault.response()


def _allowed_methods(request: Request) -> list[str]:
    """Of all routes with the request's path, not only of the first one."""
    methods: set[str] = set()
    for route in request.app.state.routes:
        if route.path_regex.match(request.scope["path"]):
            methods |= route.methods
    return sorted(methods)
