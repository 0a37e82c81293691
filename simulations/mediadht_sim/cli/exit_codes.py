"""What the exit codes of `mediadht-sim` mean: the one place where they are defined; the help is made of it."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["EXIT_CODE_MEANINGS", "ExitCode"]


class ExitCode(IntEnum):
    """How a command ended. Scripts rely on the numbers: a number is never given a second meaning."""

    OK = 0
    VIOLATED = 1
    USAGE = 2
    SCENARIO = 3
    ENVIRONMENT = 4
    MISTAKE = 70
    INTERRUPTED = 130


EXIT_CODE_MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "done; no checker was violated, traces are equal",
    ExitCode.VIOLATED: "done, but a checker was violated, a demand was not met, or traces differ",
    ExitCode.USAGE: "the command line is wrong, or results are there already",
    ExitCode.SCENARIO: "the scenario is wrong",
    ExitCode.ENVIRONMENT: "the machine refuses: disk, memory, damaged results, a missing package",
    ExitCode.MISTAKE: "a mistake in mediadht-sim itself; a traceback is shown",
    ExitCode.INTERRUPTED: "interrupted",
}
"""Every code with its meaning, for people."""
