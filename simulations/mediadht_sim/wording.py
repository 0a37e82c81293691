"""The words for a run's figures, shared by the terminal and the page: numbers with units, the verdict, what to do next.

What always holds: a share below 1 is never said as 100 %, one above 0 never as 0 %; nothing that a scenario's author or
a checker wrote reaches a reader with control characters in it; a figure that does not exist is a dash.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mediadht_sim.metrics import METRICS_BY_NAME
from mediadht_sim.tables import Results, Violated

__all__ = [
    "NONE",
    "Verdict",
    "command",
    "count",
    "listed",
    "plain",
    "said",
    "said_metric",
    "seconds",
    "verdict",
    "where",
]

NONE = "-"
"""What is said for a figure that does not exist."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`word` is "passed", "failed", "unchecked" or "empty"; `headline` one sentence; `sentences` what supports it."""

    word: str
    headline: str
    sentences: tuple[str, ...]


# --- Numbers ----------------------------------------------------------------------------------------------------------


def said(value: float | None, unit: str = "") -> str:
    """A figure for reading: "118 ms", "1.23 s", "91.4 %", "4,412", "14.2", "2.3 kB/s"."""
    if value is None:
        return NONE
    match unit:
        case "share":
            return _percent(value)
        case "ms":
            return _ms(value)
        case "s":
            return seconds(value)
        case "B/s" | "bytes":
            return _bytes(value) + ("/s" if unit == "B/s" else "")
        case "" | "1/s":
            return count(value)
        case _:
            return f"{count(value)} {unit}"


def said_metric(name: str, value: float | None) -> str:
    """The figure of that name in `METRICS`, with its unit; one of an unknown name as a plain number."""
    metric = METRICS_BY_NAME.get(name)
    return said(value, metric.unit if metric else "")


def count(value: float) -> str:
    """A plain number: whole ones with thousands parted, others to three figures that matter."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}"


def seconds(value: float) -> str:
    """A duration or a point in virtual time."""
    if abs(value) >= 7200:
        return f"{count(round(value / 3600, 2))} h"
    return f"{count(round(value, 2 if abs(value) < 10 else 1))} s"


def _percent(share: float) -> str:
    for digits in (1, 2, 3):
        text = f"{share * 100:.{digits}f}"
        if not (0 < share < 1 and float(text) in (0.0, 100.0)):
            break
    else:
        text = "under 0.001" if share < 0.5 else "over 99.999"
    is_whole = math.isclose(share * 100, round(share * 100), abs_tol=1e-9)
    return f"{text.removesuffix('.0') if is_whole else text} %"


def _ms(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:,.2f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


# --- Text -------------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """The text without control characters and without marks that turn the direction of writing."""
    turning = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    return "".join(
        letter
        if letter in "\n\t" or not (ord(letter) in turning or ord(letter) < 32 or 127 <= ord(letter) < 160)
        else "�"
        for letter in text
    )


def listed(words: Iterable[str]) -> str:
    """ "a, b and c"."""
    *first, last = [*words] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def where(seen: Violated) -> str:
    """At which node, and when."""
    node = "the whole network" if seen.node is None else f"node {seen.node}"
    return f"{node} at {seconds(seen.at_s)}"


# --- The verdict ------------------------------------------------------------------------------------------------------


def verdict(results: Results) -> Verdict:
    """What the run says, first of all."""
    figures, number = results.metrics, len(results.violations)
    sentences = [*_lookups(results), *_announces(results)]
    if number:
        checkers = listed(dict.fromkeys(plain(seen.checker) for seen in results.violations))
        times = "one violation" if number == 1 else f"{number:,} violations"
        return Verdict(
            "failed",
            f"Failed: {times}, found by the checker{'s' * (' and ' in checkers)} {checkers}.",
            tuple(sentences),
        )
    if not (figures.get("lookups") or figures.get("announces") or results.intervals.num_rows):
        return Verdict("empty", "Nothing was measured: no operation began and no interval ended.", ())
    checks = results.scenario.get("checks", {})
    switches = [value for value in checks.values() if isinstance(value, bool)] if isinstance(checks, dict) else []
    if switches and not any(switches):
        return Verdict("unchecked", "Unchecked: the scenario turns every checker off.", tuple(sentences))
    off = "" if all(switches) else f" ({switches.count(False)} of {len(switches)} were off)"
    return Verdict("passed", f"Passed: no checker found a violation{off}.", tuple(sentences))


def _lookups(results: Results) -> Iterable[str]:
    figures = results.metrics
    if not figures.get("lookups"):
        yield "No lookups were made."
        return
    found, missed = figures.get("lookups_found") or 0, figures.get("lookups_missed") or 0
    if found + missed:
        yield (
            f"Of {count(found + missed)} lookups for which a live provider was there, {count(found)} "
            f"({said(figures.get('success_share'), 'share')}) were told one; {count(missed)} were not."
        )
    else:
        yield f"None of {count(figures['lookups'] or 0)} lookups ended for something that a live provider had."
    if figures.get("first_ms_p50") is not None:
        yield (
            f"The first provider came within {said(figures['first_ms_p50'], 'ms')} in half of the cases, "
            f"within {said(figures.get('first_ms_p99'), 'ms')} in 99 of 100."
        )
    if figures.get("requests_mean") is not None:
        yield (
            f"On average a lookup took {said(figures['requests_mean'])} requests "
            f"and {said(figures.get('hops_mean'))} hops."
        )


def _announces(results: Results) -> Iterable[str]:
    figures = results.metrics
    if figures.get("announces"):
        stored = figures.get("stored_share")
        end = "; none had ended" if stored is None else f", {said(stored, 'share')} of those that ended stored"
        yield f"{count(figures['announces'] or 0)} announcements{end}."


def command(results: Results, folder: Path | None) -> str:
    """The command that gives the same run again, byte for byte."""
    scenario = "scenario.toml" if folder is None else str(folder / "scenario.toml")
    return f"mediadht-sim run {shlex.quote(scenario)} --seed {results.seed}"
