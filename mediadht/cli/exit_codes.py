"""What the exit codes of `mediadht` mean: the one place where they are defined; the help is made of it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["EXIT_CODE_MEANINGS", "ExitCode"]


class ExitCode(IntEnum):
    """How a command ended. Scripts rely on the numbers: a number is never given a second meaning."""

    OK = 0
    NEGATIVE = 1
    USAGE = 2
    CONFIGURATION = 3
    ENVIRONMENT = 4
    NO_DAEMON = 5
    REMOTE = 6
    MISTAKE = 70
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "done; found",
    ExitCode.NEGATIVE: "a negative answer: nothing found, nothing to withdraw, nobody of that name, not ready",
    ExitCode.USAGE: "the command line is wrong, or what it names is neither an ID nor a file",
    ExitCode.CONFIGURATION: "the configuration is wrong, or the API's token is",
    ExitCode.ENVIRONMENT: "the machine refuses: port taken, disk full, database damaged, wrong file mode",
    ExitCode.NO_DAEMON: "no daemon answers at the API's address",
    ExitCode.REMOTE: "a peer or the daemon refused, or did not answer in time",
    ExitCode.MISTAKE: "a mistake in mediadht itself; a traceback is shown",
    ExitCode.INTERRUPTED: "interrupted",
}
"""Every code with its meaning, for people."""
