"""What a person sees: tables, lines, progress bars. rich is imported only here, and only when something is shown.

What always holds: tables go to standard output, progress to standard error and only to a terminal; text from peers is
printed without control characters, and never read as markup.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "age",
    "announcement_line",
    "clean",
    "progress",
    "provider_line",
    "show_announcements",
    "show_peers",
    "show_status",
    "summary_line",
    "waiting",
]

_PIPED_COLUMNS: Final = 200
"""Width of tables that go to a file or a pipe: wide enough that nothing is cut."""

_ID_DIGITS_SHOWN: Final = 16
_PROGRESS_BYTES_MIN: Final = 64 << 20
"""Smaller files are hashed before a bar could be read."""


def clean(text: object) -> str:
    """`text` with everything unprintable escaped: peers choose the names that we print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def age(seconds: float | None) -> str:
    """A duration in the unit that fits; a dash for None."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def provider_line(provider: dict[str, Any]) -> str:
    """One server that was found, on a line."""
    offers = ", ".join(provider["offers"])
    parts = [
        f"{provider['server_name']:<32}",
        "proven  " if provider["verified"] else "unproven",
        f"heard {age(provider['alive_s_ago'])} ago" if provider["alive_s_ago"] is not None else "not heard yet",
        f"serves {offers}" if offers else "",
        f"in {provider['room_id']}" if provider["room_id"] else "",
    ]
    return clean("  ".join(part for part in parts if part))


def summary_line(summary: dict[str, Any], shown: int) -> str:
    """How the lookup ended, on a line."""
    total = summary["providers_total"]
    found = f"{shown} of {total} servers" if total > shown else _count(shown, "server")
    end = "" if summary["complete"] else ", ended by its deadline"
    heard = "" if summary["heard"] else "; the DHT could not be heard, so this means nothing: see `mediadht status`"
    return (
        f"{found} in {age(summary['duration_s'])} ({summary['replicas_answered']} replicas answered, "
        f"{summary['requests']} requests{end}){heard}"
    )


def announcement_line(answer: dict[str, Any]) -> str:
    """How far an announcement has got, on a line."""
    match answer["state"]:
        case "stored":
            how = f"stored at {answer['replicas']} nodes, again in {age(answer['next_in_s'])}"
        case "withdrawing":
            how = "ended, the other nodes are being told"
        case _:
            how = "on this disk; the DHT is being told"
    return clean(f"{answer['id']}: {how}" + (f" ({answer['trouble']})" if answer["trouble"] else ""))


def show_status(status: dict[str, Any]) -> None:
    """The status as a table of names and values, and the warnings below it."""
    rows = [
        ("version", status["version"]),
        ("node", status["node_id"]),
        ("serves", status["server_name"] or "no homeserver, so it announces nothing (set server_name)"),
        ("reached at", ", ".join(status["endpoints"]) or "no public address, so it stores nothing (set peer_url)"),
        ("listening on", ", ".join(status["listening"]) or "-"),
        ("up for", age(status["uptime_s"])),
        ("sessions", status["sessions"]),
        ("contacts", f"{status['table_contacts']} in the table, {status['known_contacts']} known"),
        ("network", _network(status["network_size_estimate"])),
        ("records held", status["records_held"]),
        ("announcements", _announcements(status["announcements"], status["announcements_pending"])),
        ("clock", "-" if status["clock_offset_s"] is None else f"{status['clock_offset_s']:+.1f} s beside the peers'"),
    ]
    _print_table([], rows)
    for warning in status["warnings"]:
        print(f"warning: {clean(warning)}")


def _network(nodes: int) -> str:
    return "this node alone" if nodes <= 1 else f"about {nodes} nodes"


def _announcements(standing: int, pending: int) -> str:
    if not standing:
        return "none"
    return f"{standing}, {pending} of them not stored yet" if pending else f"{standing}, all stored"


def show_peers(peers: Iterable[dict[str, Any]], total: int) -> None:
    """The peers as a table."""
    rows = [
        (
            peer["node_id"][:_ID_DIGITS_SHOWN],
            peer["server_name"] or "-",
            peer["session"] or "-",
            "-" if peer["round_trip_ms"] is None else f"{peer['round_trip_ms']:.1f} ms",
            age(peer["heard_s_ago"]),
            peer["failures"] or "-",
            ", ".join(peer["endpoints"]) or "-",
        )
        for peer in peers
    ]
    if rows:
        _print_table(["node", "server", "session", "round trip", "heard", "failures", "reached at"], rows)
    print(f"{len(rows)} of {total} peers" if len(rows) < total else _count(total, "peer"))


def show_announcements(announcements: Iterable[dict[str, Any]]) -> None:
    """This server's announcements as a table."""
    rows = [
        (
            one["id"],
            one["state"],
            one["replicas"],
            age(one["stored_s_ago"]),
            age(one["next_in_s"]),
            ", ".join(one["sources"]),
            one["trouble"] or "-",
        )
        for one in announcements
    ]
    if rows:
        _print_table(["what", "state", "nodes", "stored", "again in", "asked by", "trouble"], rows)
    print(_count(len(rows), "announcement"))


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of bytes on the terminal while entered; call what it returns with each advance. Silent for small totals."""
    if total < _PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield lambda _advance: None
        return
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=_console(error=True), transient=True) as bar:
        task = bar.add_task(escape(clean(description)), total=total)
        yield lambda advance: bar.advance(task, advance)


@contextlib.contextmanager
def waiting(description: str) -> Iterator[Callable[[str], None]]:
    """A spinner on the terminal while entered; call what it returns with what is known meanwhile."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.markup import escape

    with _console(error=True).status(escape(clean(description))) as status:
        yield lambda text: status.update(escape(clean(text)))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=bool(headers), pad_edge=False, padding=(0, 2, 0, 0))
    for header in headers or ["", ""]:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console = _console()
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _console(*, error: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=error, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_COLUMNS
    return console
