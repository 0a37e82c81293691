"""The `mediadht` command: its subcommands, its help, and the one place where an error becomes an exit code.

What always holds: the houses are imported by the command that uses them, when it runs. A peer's or a user's mistake
ends in a line that says what to do and in one of `ExitCode`, never in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from mediadht import __version__
from mediadht.cli.api_commands import announce, lookup, peers, ping, status, withdraw
from mediadht.cli.errors import report
from mediadht.cli.exit_codes import EXIT_CODE_MEANINGS, ExitCode
from mediadht.cli.node_commands import demo, keygen, run

__all__ = ["command", "main"]

_NEWLINE = "\n"
_EPILOG = f"""
\b
Exit codes:
{_NEWLINE.join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())}

\b
Completion, for bash (zsh and fish likewise):
  eval "$(_MEDIADHT_COMPLETE=bash_source mediadht)"

Every option has an environment variable, shown in each command's help. The command line wins over the environment,
the environment over the file, the file over the defaults.
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "-V", "--version", message="mediadht %(version)s")
def command() -> None:
    """A DHT beside every Matrix homeserver: who seeds this media, who is in this room."""


for _subcommand in (run, status, lookup, announce, withdraw, peers, ping, keygen, demo):
    command.add_command(_subcommand)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    # httpx imports rich and pygments for a command line of its own, three MiB that a daemon would carry for nothing.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    try:
        outcome = command.main(
            None if arguments is None else list(arguments),
            prog_name="mediadht",
            standalone_mode=False,
            auto_envvar_prefix="MEDIADHT",
        )
        sys.stdout.flush()
    except click.ClickException as fault:
        fault.show()
        return ExitCode.USAGE
    except click.Abort:
        return report(KeyboardInterrupt())
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does: no error, but nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except (KeyboardInterrupt, BaseExceptionGroup, Exception) as fault:  # noqa: BLE001 - the whole program's boundary
        return report(fault)
    return int(outcome) if isinstance(outcome, int) else ExitCode.OK
