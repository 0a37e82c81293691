"""From an error to what a person reads and a script gets: a text on standard error, and an exit code.

What always holds: an expected error shows no traceback. An unexpected one is a mistake of ours, shows its traceback,
and has an exit code of its own. A group of errors (trio's nurseries raise them) is as bad as its worst member.
"""

from __future__ import annotations

import errno
import sys
import traceback

from mediadht.cli.exit_codes import ExitCode
from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault, MediaDHTError, RemoteError

__all__ = ["NegativeAnswer", "NoDaemonError", "explain_os_error", "report"]


class NoDaemonError(MediaDHTError):
    """Nobody answers at the API's address."""


class NegativeAnswer(MediaDHTError):
    """The question was answered, with no."""


_KINDS: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (NegativeAnswer, ExitCode.NEGATIVE),
    (NoDaemonError, ExitCode.NO_DAEMON),
    (ConfigurationError, ExitCode.CONFIGURATION),
    (EnvironmentFault, ExitCode.ENVIRONMENT),
    (RemoteError, ExitCode.REMOTE),
    (CallerError, ExitCode.USAGE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)

_WHAT_TO_DO = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another address",
    errno.EADDRNOTAVAIL: "no network interface has this address: choose one that this machine has, or 0.0.0.0",
    errno.EACCES: "run as a user with the right to do it, or choose another place",
    errno.EPERM: "run as a user with the right to do it, or choose another place",
    errno.ENOSPC: "make room on the disk",
    errno.EROFS: "the disk is mounted read-only: choose another folder with --data-dir",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=)",
}


def explain_os_error(fault: OSError) -> str:
    """What the system refused, why, and what to do."""
    where = f"{fault.filename}: " if fault.filename else ""
    what_to_do = _WHAT_TO_DO.get(fault.errno or 0)
    return f"{where}{fault.strerror or fault}" + (f": {what_to_do}" if what_to_do else "")


def report(fault: BaseException) -> ExitCode:
    """Show `fault` to a person on standard error; the exit code that says the same to a script."""
    members = list(dict.fromkeys(_leaves(fault)))
    codes = [_code_of(member) for member in members]
    if ExitCode.MISTAKE in codes:
        traceback.print_exception(fault, file=sys.stderr)
        _say("this is a mistake in mediadht itself: please report it, with the lines above")
        return ExitCode.MISTAKE
    for member in members:
        _say(_text_of(member))
    faults = [code for code in codes if code is not ExitCode.INTERRUPTED]
    return faults[0] if faults else ExitCode.INTERRUPTED


def _leaves(fault: BaseException) -> list[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        return [leaf for member in fault.exceptions for leaf in _leaves(member)]
    return [fault]


def _code_of(fault: BaseException) -> ExitCode:
    for kind, code in _KINDS:
        if isinstance(fault, kind):
            return code
    return ExitCode.ENVIRONMENT if isinstance(fault, OSError) and fault.errno is not None else ExitCode.MISTAKE


def _text_of(fault: BaseException) -> str:
    match fault:
        case KeyboardInterrupt():
            return "interrupted"
        case OSError():
            return explain_os_error(fault)
        case RemoteError():
            return fault.why or fault.code
        case _:
            return str(fault)


def _say(text: str) -> None:
    for line in text.splitlines() or [""]:
        print(f"mediadht: {line}", file=sys.stderr)
