"""The `mediadht-sim` command: its subcommands, its help, and the one place where an error becomes an exit code.

What a command needs is imported by that command, when it runs: `--help` and `list` stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from mediadht import __version__
from mediadht_sim.cli.describe_command import describe
from mediadht_sim.cli.errors import report as report_error
from mediadht_sim.cli.exit_codes import EXIT_CODE_MEANINGS, ExitCode
from mediadht_sim.cli.fuzz_command import fuzz
from mediadht_sim.cli.run_commands import list_, replay, run
from mediadht_sim.cli.study_commands import compare, report, sweep

__all__ = ["command", "main"]

_NEWLINE = "\n"
_EPILOG = f"""
\b
Exit codes:
{_NEWLINE.join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())}

\b
Examples:
  mediadht-sim run partition-heal
  mediadht-sim run churn --seed 7 --set network.nodes=2000 --out /tmp/churn-7
  mediadht-sim sweep baseline --vary constants.ALPHA=2,3,5 --seeds 5

docs/simulation.md describes scenarios, results and the Python API.
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "-V", "--version", message="mediadht-sim %(version)s")
def command() -> None:
    """Simulate networks of mediadht nodes: the real protocol code, in virtual time, the same again from one seed."""


for _subcommand in (run, list_, describe, replay, report, compare, sweep, fuzz):
    command.add_command(_subcommand)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        outcome = command.main(
            None if arguments is None else list(arguments), prog_name="mediadht-sim", standalone_mode=False
        )
        sys.stdout.flush()
    except click.ClickException as fault:
        fault.show()
        return ExitCode.USAGE
    except click.Abort:
        return report_error(KeyboardInterrupt())
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does: no error, but nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except (KeyboardInterrupt, Exception) as fault:  # noqa: BLE001 - the whole program's boundary
        return report_error(fault)
    return int(outcome) if isinstance(outcome, int) else ExitCode.OK
