"""From an error to what a person reads and a script gets: lines on standard error, and an exit code.

An expected error shows no traceback. An unexpected one is a mistake of ours, and shows it.
"""

from __future__ import annotations

import sys
import traceback
from typing import Final

from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault
from mediadht_sim.cli.exit_codes import ExitCode

__all__ = ["report", "say"]

_KINDS: Final[tuple[tuple[type[BaseException], ExitCode], ...]] = (
    (ConfigurationError, ExitCode.SCENARIO),
    (EnvironmentFault, ExitCode.ENVIRONMENT),
    (CallerError, ExitCode.USAGE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
    (MemoryError, ExitCode.ENVIRONMENT),
)


def report(fault: BaseException) -> ExitCode:
    """Show `fault` to a person on standard error; the exit code that says the same to a script."""
    code = _code_of(fault)
    if code is ExitCode.MISTAKE:
        traceback.print_exception(fault, file=sys.stderr)
        say("this is a mistake in mediadht-sim itself: please report it, with the lines above")
    else:
        say(_text_of(fault))
    return code


def _code_of(fault: BaseException) -> ExitCode:
    for kind, code in _KINDS:
        if isinstance(fault, kind):
            return code
    if isinstance(fault, ModuleNotFoundError) and not (fault.name or "").startswith("mediadht"):
        return ExitCode.ENVIRONMENT
    return ExitCode.ENVIRONMENT if isinstance(fault, OSError) and fault.errno is not None else ExitCode.MISTAKE


def _text_of(fault: BaseException) -> str:
    match fault:
        case KeyboardInterrupt():
            return str(fault) or "interrupted"
        case MemoryError():
            return "the machine's memory is full: choose fewer nodes (--set network.nodes=...) or fewer --workers"
        case ModuleNotFoundError():
            return f"the package {fault.name} is missing: install the simulator with pip install 'mediadht[sim]'"
        case OSError():
            where = f"{fault.filename}: " if fault.filename else ""
            return f"{where}{fault.strerror or fault}: make room, or choose another place with --out"
        case _:
            return str(fault)


def say(text: str) -> None:
    """Lines for a person, on standard error."""
    for line in text.splitlines() or [""]:
        print(f"mediadht-sim: {line}", file=sys.stderr)
