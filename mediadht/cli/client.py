"""The HTTP API's client, as the commands use it: synchronous, one address, every failure a `MediaDHTError`.

What always holds: nobody at the address is a NoDaemonError, an answer that says no is one of the project's errors with
the daemon's own words, and no token is ever shown. Proxies of the environment are not used: the API is this machine's.
The calls are those of `docs/api.md`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from mediadht.cli.errors import NegativeAnswer, NoDaemonError
from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault, RemoteError
from mediadht.core.identifiers import Kind, Subject
from mediadht.daemon.config import parse_listen

if TYPE_CHECKING:
    from types import TracebackType

    from mediadht_bridge.api import ApiConfig

__all__ = ["ApiClient", "Json"]

Json = dict[str, Any]

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 15.0
"""For answers that need no network of the daemon's; the others get the caller's deadline and `_GRACE_S` more."""
_GRACE_S: Final = 5.0
_VIA_MAX: Final = 50
"""Servers of a room in one answer: the API's limit."""

_UNIX: Final = "unix:"


class ApiClient:
    """A client of the daemon whose API `config` describes. A context manager."""

    def __init__(self, config: ApiConfig) -> None:
        if not config.listen:
            raise ConfigurationError(
                "api.listen is empty, so the daemon has no HTTP API to ask: write an address there"
            )
        self._address = config.listen[0]
        token = config.read_token()
        self._client = httpx.Client(
            base_url=_base_url(self._address),
            transport=httpx.HTTPTransport(uds=self._address.removeprefix(_UNIX)) if _is_unix(self._address) else None,
            headers={} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def status(self) -> Json:
        """The daemon's status: the fields of `face.Status`."""
        return self._ask("GET", "/v1/status")

    def ready(self) -> Json:
        """The readiness check's answer, whichever it is."""
        return self._ask("GET", "/health/ready", timeout_s=30.0, expected=(200, 503))

    def peers(self, limit: int) -> Json:
        """Known peers, nearest first: `peers` and `total`."""
        return self._ask("GET", "/v1/peers", query={"limit": limit})

    def announcements(self) -> Iterator[Json]:
        """Every announcement of this server, in the order of their keys, page by page."""
        query: Json = {}
        while True:
            page = self._ask("GET", "/v1/announcements", query=query)
            yield from page["announcements"]
            if page.get("next_batch") is None:
                return
            query = {"from": page["next_batch"]}

    def ping(self, peer: str, deadline_s: float) -> Json:
        """The round-trip time to `peer`. Raises RemoteError if it does not answer."""
        return self._ask("POST", "/v1/ping", body={"peer": peer}, deadline_s=deadline_s)

    def lookup(self, subject: Subject, *, limit: int, deadline_s: float) -> Iterator[Json]:
        """At most `limit` servers that have `subject`, each as `{"provider": …}`, then one `{"summary": …}`.

        Those of media come as the daemon learns of them; those of a room come at the end, best first, at most
        `_VIA_MAX`.
        """
        path = _path(subject)
        if subject.kind is Kind.MEDIA:
            yield from self._stream(path, {"limit": limit, "deadline_ms": round(deadline_s * 1000)}, deadline_s)
            return
        query = {"limit": min(limit, _VIA_MAX), "include_self": "true"}
        answer = self._ask("GET", f"{path}/via", query=query, deadline_s=deadline_s)
        yield from ({"provider": server} for server in answer["servers"])
        yield {"summary": answer["summary"]}

    def announce(self, subject: Subject, *, room_id: str | None, offers: tuple[str, ...]) -> Json:
        """Announce this server for `subject`; the announcement, which is on disk."""
        body: Json | None = None
        if subject.kind is Kind.MEDIA:
            body = {"offers": list(offers)} | ({"room_id": room_id} if room_id else {})
        return self._ask("PUT", _own_path(subject), body=body)

    def announcement(self, subject: Subject) -> Json:
        """The announcement of `subject` as it stands. Raises NegativeAnswer if there is none."""
        return self._ask("GET", _own_path(subject))

    def withdraw(self, subject: Subject) -> bool:
        """End the announcement; whether there was one to end."""
        return bool(self._ask("DELETE", _own_path(subject))["withdrawn"])

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Json | None = None,
        body: Json | None = None,
        deadline_s: float | None = None,
        timeout_s: float = _ANSWER_S,
        expected: tuple[int, ...] = (200,),
    ) -> Json:
        if deadline_s is not None:
            timeout_s = deadline_s + _GRACE_S
            query = {"deadline_ms": round(deadline_s * 1000)} | (query or {})
        with self._failures(timeout_s):
            timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
            response = self._client.request(method, path, params=query, json=body, timeout=timeout)
        answer = self._decode(response.text)
        if response.status_code not in expected:
            raise self._refusal(response.status_code, answer)
        return answer

    def _stream(self, path: str, query: Json, deadline_s: float) -> Iterator[Json]:
        timeout_s = deadline_s + _GRACE_S
        headers = {"Accept": "application/x-ndjson"}
        timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
        ended = False
        with (
            self._failures(timeout_s),
            self._client.stream("GET", path, params=query, headers=headers, timeout=timeout) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise self._refusal(response.status_code, self._decode(response.text))
            for line in response.iter_lines():
                answer = self._decode(line)
                ended = ended or "summary" in answer
                yield answer
        if not ended:
            raise RemoteError("cut_off", f"the daemon at {self._address} broke off its answer: its log says why")

    @contextlib.contextmanager
    def _failures(self, timeout_s: float) -> Iterator[None]:
        """Turns what can go wrong on the way to the daemon into the project's errors."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
            raise NoDaemonError(
                f"no daemon answers at {self._address} ({_cause(fault)}): start one with `mediadht run`, or name the "
                "address of its HTTP API with --api-listen or `listen` below [api]"
            ) from fault
        except httpx.TimeoutException as fault:
            raise RemoteError(
                "timed_out", f"the daemon at {self._address} did not answer within {timeout_s:g} s: see its log"
            ) from fault
        except httpx.RemoteProtocolError as fault:
            raise NoDaemonError(
                f"what answers at {self._address} is not mediadht's HTTP API ({fault}): name the right address with "
                "--api-listen"
            ) from fault
        except httpx.TransportError as fault:
            raise RemoteError(
                "unreachable", f"the connection to the daemon at {self._address} broke ({_cause(fault)}): see its log"
            ) from fault

    def _decode(self, text: str) -> Json:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise NoDaemonError(
                f"what answers at {self._address} is not mediadht's HTTP API: name the right address with --api-listen"
            )
        return answer

    def _refusal(self, status: int, answer: Json) -> Exception:
        """The error that an answer of 400 or more stands for."""
        errcode, text = str(answer.get("errcode", "")), str(answer.get("error", f"HTTP status {status}"))
        match status:
            case 401:
                return ConfigurationError(
                    f"the daemon at {self._address} refuses us: {text}; name its configuration with --config"
                )
            case 403:
                return ConfigurationError(f"the daemon at {self._address} refuses us: {text}")
            case 409:
                return ConfigurationError(text)
            case 404 if errcode == "M_UNRECOGNIZED":
                return NoDaemonError(
                    f"what answers at {self._address} does not know this call ({text}): it is another program, or a "
                    "mediadht of another version"
                )
            case 404:
                return NegativeAnswer(text)
            case 408 | 429:
                return RemoteError(errcode, text)
            case 503:
                return EnvironmentFault(text)
            case _ if status >= 500:
                return RemoteError(errcode, text)
            case _:
                return CallerError(text)


def _is_unix(address: str) -> bool:
    return address.startswith(_UNIX)


def _base_url(address: str) -> str:
    if _is_unix(address):
        return "http://localhost"
    host, port = parse_listen(address)
    if port == 0:
        raise ConfigurationError(
            f"api.listen is {address}, so the system chose the port: take it from the daemon's `ready` line and name "
            "it with --api-listen"
        )
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _path(subject: Subject) -> str:
    house = "media" if subject.kind is Kind.MEDIA else "rooms"
    return f"/v1/{house}/{quote(subject.id, safe='')}"


def _own_path(subject: Subject) -> str:
    return f"{_path(subject)}/{'seeding' if subject.kind is Kind.MEDIA else 'participation'}"


def _cause(fault: httpx.TransportError) -> str:
    """Why, in the system's words where there are some."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return str(fault).lower() or type(fault).__name__
