"""Two runs, or two sweeps, side by side: by how much each figure differs, and whether by more than chance.

A side is a run's directory or a sweep's. Of sweeps, the points that both have are compared; if each has one point only,
these two. What always holds: nothing is called better or worse unless seeds vary on both sides and the Mann-Whitney
test says so (two-sided; over all figures of a point, at most 1 in 20 of those marked is expected to be chance, after
Benjamini and Hochberg); fewer runs than could ever show a difference are said to prove nothing. The interval of the
difference is Welch's.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text
from scipy import stats

from mediadht_sim.metrics import METRICS_BY_NAME, mean
from mediadht_sim.tables import SUMMARY_FILE, ResultsError, read_summary
from mediadht_sim.wording import count, plain, said

__all__ = ["Compared", "Comparison", "Side", "compare"]

_CHANCE_MAX = 0.05
_RUN_FILE = "sweep-run.json"
_VIOLATIONS = "violations"


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one side at one point: their summaries, in order of the seed."""

    runs: tuple[Mapping[str, Any], ...]

    def values(self, name: str) -> list[float]:
        """The figure in every run that has it."""
        found = [len(run[_VIOLATIONS]) if name == _VIOLATIONS else run["metrics"].get(name) for run in self.runs]
        return [float(value) for value in found if value is not None]

    @property
    def traces(self) -> list[str]:
        """The runs' fingerprints; equal ones are the same run."""
        return [str(run["trace"]) for run in self.runs]


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure: both means, and for several runs on each side the interval of the difference and the odds of chance.

    `chance` is the adjusted p-value; `word` is "better", "worse" or "different" (of B against A) where it is small.
    """

    name: str
    a: float | None
    b: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    word: str = ""

    @property
    def difference(self) -> float | None:
        """B less A."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def ratio(self) -> float | None:
        """B over A."""
        return None if self.a is None or self.b is None or self.a == 0 else self.b / self.a


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found; rich prints it. `points` are (the point's name, figures), `notes` what limits them."""

    names: tuple[str, str]
    points: tuple[tuple[str, tuple[Compared, ...]], ...]
    notes: tuple[str, ...] = field(default=())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"A is {self.names[0]}, B is {self.names[1]}")
        for point, figures in self.points:
            yield _table(point, figures)
        for note in self.notes:
            yield Text(note, "yellow")


def compare(a: Path, b: Path) -> Comparison:
    """The results in `a` and `b`, each a run's directory or a sweep's. Raises `ResultsError`."""
    left, right = _sides(a), _sides(b)
    pairs = [(point, left[point], right[point]) for point in left if point in right]
    if not pairs and len(left) == len(right) == 1:
        pairs = [("", next(iter(left.values())), next(iter(right.values())))]
    if not pairs:
        raise ResultsError(
            f"{a} and {b} have no point in common ({'; '.join(left)} against {'; '.join(right)}); compare sweeps that "
            "vary the same keys, or single runs below their runs/"
        )
    points = tuple((point, tuple(_figures(one, other))) for point, one, other in pairs)
    notes = [note for _, one, other in pairs for note in _notes(one, other)]
    left_out = len(left) + len(right) - 2 * len(pairs)
    if left_out > 0 and len(left) + len(right) > 2:
        notes.append(f"{left_out} points stand on one side only and are left out.")
    return Comparison((plain(str(a)), plain(str(b))), points, tuple(dict.fromkeys(notes)))


def _sides(folder: Path) -> dict[str, Side]:
    """The sides in a directory by their points' names; a single run is the point without a name."""
    if (folder / SUMMARY_FILE).is_file() or not (folder / "runs").is_dir():
        return {"": Side((_summary(folder),))}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in sorted((folder / "runs").iterdir()):
        if (run / SUMMARY_FILE).is_file() and not run.name.startswith("."):
            found.setdefault(_point(run), []).append(_summary(run))
    if not found:
        raise ResultsError(
            f"{folder} is a sweep without a finished run; run the sweep again, it goes on where it stopped"
        )
    return {point: Side(tuple(sorted(runs, key=lambda run: run["seed"]))) for point, runs in found.items()}


def _summary(folder: Path) -> Mapping[str, Any]:
    summary = read_summary(folder)
    if not isinstance(summary.get("metrics"), dict) or not isinstance(summary.get(_VIOLATIONS), list):
        raise ResultsError(f"{folder / SUMMARY_FILE} has no metrics or no violations; run the scenario again")
    return {"seed": 0, "trace": "", "version": "", "scenario": "", **summary}


def _point(run: Path) -> str:
    try:
        told = json.loads((run / _RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise ResultsError(f"{run / _RUN_FILE} cannot be read: {why}; run the sweep again") from why
    values = told if isinstance(told, dict) else {}
    return ", ".join(f"{key}={value}" for key, value in values.items() if key not in ("fingerprint", "seed"))


# --- Figures ----------------------------------------------------------------------------------------------------------


def _figures(a: Side, b: Side) -> Iterator[Compared]:
    names = dict.fromkeys(name for side in (a, b) for run in side.runs for name in run["metrics"])
    rows = [(name, a.values(name), b.values(name)) for name in (_VIOLATIONS, *names)]
    odds = {name: _odds(left, right) for name, left, right in rows if len(left) > 1 and len(right) > 1}
    adjusted = dict(zip(odds, stats.false_discovery_control(list(odds.values())), strict=True)) if odds else {}
    for name, left, right in rows:
        if not left and not right:
            continue
        a_mean, b_mean = mean(left), mean(right)
        if name not in odds:
            yield Compared(name, a_mean, b_mean)
            continue
        chance = float(adjusted[name])
        low, high = _interval(left, right)
        yield Compared(name, a_mean, b_mean, low, high, chance, _word(name, a_mean, b_mean, chance))


def _odds(a: Sequence[float], b: Sequence[float]) -> float:
    """That chance alone gives samples as unlike as these; 1 where there is nothing unlike."""
    if min(*a, *b) == max(*a, *b):
        return 1.0
    return float(stats.mannwhitneyu(a, b, alternative="two-sided").pvalue)


def _interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """95 % confidence of the difference of means; a point where nothing varies."""
    difference = math.fsum(b) / len(b) - math.fsum(a) / len(a)
    if min(a) == max(a) and min(b) == max(b):
        return difference, difference
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    weights = [part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True)]
    freedom = math.fsum(parts) ** 2 / math.fsum(weights)
    margin = float(stats.t.ppf(0.975, freedom)) * math.sqrt(math.fsum(parts))
    return difference - margin, difference + margin


def _word(name: str, a: float | None, b: float | None, chance: float) -> str:
    if chance >= _CHANCE_MAX or a is None or b is None or a == b:
        return ""
    better = "lower" if name == _VIOLATIONS else METRICS_BY_NAME[name].better if name in METRICS_BY_NAME else ""
    if not better:
        return "different"
    return "better" if (b < a) == (better == "lower") else "worse"


# --- Words ------------------------------------------------------------------------------------------------------------


def _notes(a: Side, b: Side) -> Iterator[str]:
    for what in ("scenario", "version"):
        left, right = ({str(run[what]) for run in side.runs} for side in (a, b))
        if left != right:
            yield plain(f"The {what}s differ: {', '.join(sorted(left))} against {', '.join(sorted(right))}.")
    if a.traces == b.traces:
        yield "The traces are equal: both sides are the same runs."
    elif len(a.runs) == 1 or len(b.runs) == 1:
        yield (
            "One run on a side proves nothing: another seed may turn any of these differences round. "
            "Use `mediadht-sim sweep SCENARIO --seeds 10` on both sides and compare the sweeps."
        )
    elif 2 / math.comb(len(a.runs) + len(b.runs), len(a.runs)) >= _CHANCE_MAX:
        yield (
            f"{len(a.runs)} runs against {len(b.runs)} are too few: even if every run of one side lay beyond all of "
            "the other, chance could not be ruled out. Use at least 4 seeds on each side, better 10."
        )
    else:
        yield (
            "Marked are figures that chance would hardly give (Mann-Whitney over seeds, at most 1 in 20 of the marked "
            "by chance). Not marked means not shown, not that there is none."
        )


def _table(point: str, figures: Sequence[Compared]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=Text(plain(point)) if point else None, title_justify="left"
    )
    several = any(row.chance is not None for row in figures)
    more = ("95 % of B - A", "chance", "B is") if several else ()
    for heading in ("figure", "A", "B", "B - A", "B / A", *more):
        table.add_column(heading, justify="left" if heading in ("figure", "B is") else "right")
    for row in figures:
        metric = METRICS_BY_NAME.get(row.name)
        unit = metric.unit if metric else ""
        cells = [said(row.a, unit), said(row.b, unit), _signed(row.difference, unit), _times(row.ratio)]
        if several:
            interval = "-" if row.low is None else f"{_signed(row.low, unit)} .. {_signed(row.high, unit)}"
            cells += [interval, "-" if row.chance is None else f"{row.chance:.3f}"]
        style = {"better": "green", "worse": "red"}.get(row.word, "")
        table.add_row(
            metric.words if metric else plain(row.name), *cells, *([row.word] if several else []), style=style
        )
    return table


def _signed(value: float | None, unit: str) -> str:
    if value is None or value == 0:
        return said(value, unit)
    text = said(abs(value), unit)
    return f"{'+' if value > 0 else '-'}{text.replace(' %', ' points') if unit == 'share' else text}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{count(round(ratio, 2))}x"
