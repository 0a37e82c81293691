"""What a person sees: ages, escapes, progress."""

from __future__ import annotations

import io
import json
import logging
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediadht.cli import show
from mediadht.cli.logs import LogConfig, set_up_logging
from mediadht.cli.notify import notify


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_200, "2 h"),
        (1e6, "12 d"),
    ],
)
def test_age(seconds: float | None, text: str) -> None:
    assert show.age(seconds) == text


@given(st.text())
def test_nothing_unprintable_is_printed(text: str) -> None:
    assert show.clean(text).isprintable()


def test_progress_and_waiting_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with show.progress("hashing", 1 << 40) as advance, show.waiting("waiting") as tell:
        advance(1)
        tell("more")
    assert capsys.readouterr() == ("", "")


def test_progress_and_waiting_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show.progress("hashing [red]x", 1 << 30) as advance:
        advance(1 << 30)
    with show.waiting("waiting [red]x") as tell:
        tell("more [red]x")
    assert "hashing [red]x" in terminal.getvalue()
    assert "more [red]x" in terminal.getvalue()


def test_small_files_get_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show.progress("hashing", 1 << 20) as advance:
        advance(1 << 20)
    assert terminal.getvalue() == ""


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Restores the process's logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_log_as_text(log: io.StringIO) -> None:
    set_up_logging(LogConfig(level="warning"), log)
    logging.getLogger("mediadht.x").info("quiet")
    logging.getLogger("mediadht.x").warning("loud %d", 1)
    assert log.getvalue()[20:] == "WARNING mediadht.x: loud 1\n"


def test_log_as_json(log: io.StringIO) -> None:
    set_up_logging(LogConfig(format="json"), log)
    try:
        raise ValueError("oh\nno")
    except ValueError:
        logging.getLogger("mediadht.x").exception("it\nbroke")
    [line] = log.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("error", "mediadht.x", "it\nbroke")
    assert "ValueError: oh" in told["exception"]
    assert told["time"].endswith("+00:00")


def test_requests_of_the_http_client_are_never_logged(log: io.StringIO) -> None:
    set_up_logging(LogConfig(level="debug"), log)
    logging.getLogger("httpx").info('HTTP Request: POST http://x/join/!secret "HTTP/1.1 200 OK"')
    logging.getLogger("httpcore.http11").debug("send_request_headers /join/!secret")
    assert log.getvalue() == ""


def test_warnings_are_logged(log: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        set_up_logging(LogConfig(), log)
        warnings.warn("attention", stacklevel=1)
    assert "attention" in log.getvalue()


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path: Path, abstract: bool) -> None:
    address = f"@mediadht-test-{tmp_path.name}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        assert notify("READY=1", {"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/does/not/exist"}])
def test_nobody_to_notify(environ: dict[str, str]) -> None:
    assert not notify("READY=1", environ)
