"""A command line to run, and a fake HTTP API for it to ask: no daemon, no DHT."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from mediadht.cli import config as cli_config
from mediadht.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class FakeApi:
    """Answers `METHOD /path` from `answers`: a status with an object, a list of NDJSON objects, or bytes."""

    listen: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)

    def answer(self, call: str, body: Any, status: int = 200) -> None:
        self.answers[call] = (status, body)

    def refuse(self, call: str, status: int, errcode: str, error: str) -> None:
        self.answer(call, {"errcode": errcode, "error": error}, status)

    def respond(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str]:
        self.requests.append((method, target, json.loads(body) if body else None, headers))
        unknown = (404, {"errcode": "M_UNRECOGNIZED", "error": "there is no such call"})
        status, answer = self.answers.get(f"{method} {target.partition('?')[0]}", unknown)
        if callable(answer):
            answer = answer()
        if isinstance(answer, bytes):
            return status, answer, "text/html"
        if isinstance(answer, list):
            return status, b"".join(json.dumps(line).encode() + b"\n" for line in answer), "application/x-ndjson"
        return status, json.dumps(answer).encode(), "application/json"


class _UnixHttpServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = True


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            self.close_connection = True
            if not self.raw_requestline or not self.parse_request():
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer, kind = api.respond(self.command, self.path, body, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def address_string(self) -> str:
            return "test"

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _serve(server: HTTPServer | UnixStreamServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A fake API on a loopback port."""
    fake = FakeApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.listen = f"127.0.0.1:{server.server_port}"
    yield from (fake for _ in _serve(server))


@pytest.fixture
def unix_api(tmp_path: Path) -> Iterator[FakeApi]:
    """A fake API on a Unix socket."""
    path = tmp_path / "api.sock"
    fake = FakeApi(listen=f"unix:{path}")
    yield from (fake for _ in _serve(_UnixHttpServer(str(path), _handler(fake))))


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's configuration nor the caller's environment reaches a test."""
    import os

    for name in list(os.environ):
        if name.startswith("MEDIADHT_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(cli_config, "CONFIG_FILE_DEFAULT", tmp_path / "none.toml")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `mediadht` with the given words in this process."""

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(int(code), out, err)

    return run
