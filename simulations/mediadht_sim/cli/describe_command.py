"""`describe`: every key of a scenario, at the terminal or as the table in `docs/simulation.md`."""

from __future__ import annotations

import sys

import click

__all__ = ["describe"]


@click.command()
@click.argument("word", required=False, default="")
@click.option("--markdown", "as_markdown", is_flag=True, help="All of it, as docs/simulation.md has it.")
def describe(*, word: str, as_markdown: bool) -> None:
    """Every key of a scenario: its default, and what it is. With WORD, those in whose line the word stands."""
    from mediadht_sim.scenario_reference import markdown, reference

    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("key", "of", "allowed", "default", "what it is"):
        table.add_column(heading, overflow="fold")
    for row in reference():
        cells = (f"{row.table}.{row.key}".lstrip("."), row.choice, row.allowed, row.default, row.description)
        if word.casefold() in " ".join(cells).casefold():
            table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)
