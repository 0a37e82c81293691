"""Every exit code, and the text that comes with it: no traceback for what is expected."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediadht.cli import api_commands
from mediadht.cli.errors import explain_os_error, report
from mediadht.cli.exit_codes import EXIT_CODE_MEANINGS, ExitCode
from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault, RemoteError

MEDIA = "sha256." + "ab" * 32
Cli = Callable[..., Any]


def test_every_code_has_a_meaning_and_is_in_the_help(cli: Cli) -> None:
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)
    told = cli("--help")
    assert told.code == ExitCode.OK
    for code, meaning in EXIT_CODE_MEANINGS.items():
        assert f"{code:>3}  {meaning}" in told.out


def test_version(cli: Cli) -> None:
    from mediadht import __version__

    assert cli("--version").out == f"mediadht {__version__}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lokup"], "No such command 'lokup'"),
        (["lookup"], "Missing argument 'WHAT'"),
        (["lookup", MEDIA, "--limit", "0"], "0 is not in the range"),
        (["lookup", "nonsense"], "'nonsense' is neither a media ID"),
        (["lookup", "#hall:a.example"], "is an alias: name the room by its ID"),
        (["lookup", "sha256.0f"], "nor is there a file of that name"),
        (["lookup", "!nonsense"], "is not a room ID"),
        (["lookup", "."], ". is a folder: name a file"),
        (["run", "--nonsense"], "No such option"),
        (["demo", "/does/not/exist"], "does not exist"),
    ],
)
def test_usage(cli: Cli, words: list[str], says: str) -> None:
    told = cli(*words)
    assert (told.code, told.out) == (ExitCode.USAGE, "")
    assert says in told.err
    assert "Traceback" not in told.err


def test_configuration(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[api]\nlisten = ["nonsense"]\n')
    told = cli("status", "--config", path)
    assert (told.code, told.out) == (ExitCode.CONFIGURATION, "")
    assert told.err.startswith(f"mediadht: api.listen = [\"nonsense\"] ({path}): 'nonsense' is not an address")


def test_configuration_with_a_port_that_the_system_chose(cli: Cli) -> None:
    told = cli("status", "--api-listen", "127.0.0.1:0")
    assert told.code == ExitCode.CONFIGURATION
    assert "take it from the daemon's `ready` line" in told.err


def test_no_daemon(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    told = cli("status", "--api-listen", listen)
    assert (told.code, told.out) == (ExitCode.NO_DAEMON, "")
    assert told.err.startswith(f"mediadht: no daemon answers at {listen} (connection refused): start one with")


# httpcore leaves its socket to the garbage collector when a Unix socket refuses.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_daemon_at_a_unix_socket(cli: Cli, tmp_path: Path) -> None:
    told = cli("status", "--api-listen", f"unix:{tmp_path}/none.sock")
    gc.collect()
    assert told.code == ExitCode.NO_DAEMON
    assert "(no such file or directory)" in told.err


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b""])
def test_another_program_at_the_address(cli: Cli, api: Any, answer: bytes) -> None:
    api.answer("GET /v1/status", answer)
    told = cli("status", "--api-listen", api.listen)
    assert told.code == ExitCode.NO_DAEMON
    assert "is not mediadht's HTTP API" in told.err


def test_another_version_at_the_address(cli: Cli, api: Any) -> None:
    told = cli("status", "--api-listen", api.listen)
    assert told.code == ExitCode.NO_DAEMON
    assert "mediadht of another version" in told.err


def test_no_http_at_the_address(cli: Cli) -> None:
    import threading

    def speak(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"220 mail.example ESMTP\r\n")
            peer.recv(65_536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak, args=(server,))
        thread.start()
        told = cli("status", "--api-listen", f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert told.code == ExitCode.NO_DAEMON
    assert "is not mediadht's HTTP API" in told.err


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ExitCode.USAGE),
        (409, ExitCode.CONFIGURATION),
        (401, ExitCode.CONFIGURATION),
        (403, ExitCode.CONFIGURATION),
        (404, ExitCode.NEGATIVE),
        (408, ExitCode.REMOTE),
        (429, ExitCode.REMOTE),
        (500, ExitCode.REMOTE),
        (503, ExitCode.ENVIRONMENT),
        (504, ExitCode.REMOTE),
    ],
)
def test_refusals(cli: Cli, api: Any, status: int, code: ExitCode) -> None:
    api.refuse(f"PUT /v1/media/{MEDIA}/seeding", status, "M_UNKNOWN", "for a reason")
    told = cli("announce", MEDIA, "--api-listen", api.listen)
    assert (told.code, told.out) == (code, "")
    assert "for a reason" in told.err


def test_an_unreadable_file(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x"))

    (tmp_path / "x").touch()
    monkeypatch.setattr(Path, "open", refuse)
    told = cli("lookup", tmp_path / "x")
    assert told.code == ExitCode.ENVIRONMENT
    assert f"the file cannot be read: {tmp_path / 'x'}: Permission denied: run as a user" in told.err


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "mediadht: interrupted\n"),
        (CallerError("a"), ExitCode.USAGE, "mediadht: a\n"),
        (ConfigurationError("a\nb"), ExitCode.CONFIGURATION, "mediadht: a\nmediadht: b\n"),
        (EnvironmentFault("a"), ExitCode.ENVIRONMENT, "mediadht: a\n"),
        (RemoteError("busy", "why"), ExitCode.REMOTE, "mediadht: why\n"),
        (RemoteError("busy"), ExitCode.REMOTE, "mediadht: busy\n"),
        (
            OSError(errno.EADDRINUSE, "Address already in use"),
            ExitCode.ENVIRONMENT,
            "mediadht: Address already in use: another program listens there: stop it, or choose another address\n",
        ),
        (
            BaseExceptionGroup("", [ExceptionGroup("", [EnvironmentFault("a")]), KeyboardInterrupt()]),
            ExitCode.ENVIRONMENT,
            "mediadht: a\nmediadht: interrupted\n",
        ),
    ],
)
def test_reports(capsys: pytest.CaptureFixture[str], fault: BaseException, code: ExitCode, says: str) -> None:
    assert report(fault) == code
    assert capsys.readouterr().err == says


def test_a_mistake_of_ours_shows_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ExceptionGroup("", [EnvironmentFault("a"), ZeroDivisionError("oh")])

    monkeypatch.setattr(api_commands, "_client", broken)
    told = cli("status")
    assert told.code == ExitCode.MISTAKE
    assert "ZeroDivisionError: oh" in told.err
    assert told.err.endswith("please report it, with the lines above\n")


def test_interrupted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api_commands, "_client", interrupted)
    assert cli("status").code == ExitCode.INTERRUPTED


def test_an_unknown_system_error_is_told_in_the_systems_words() -> None:
    assert explain_os_error(OSError(errno.EIO, "Input/output error", "/x")) == "/x: Input/output error"
