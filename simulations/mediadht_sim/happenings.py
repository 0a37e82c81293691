"""What happened when: a scenario's events as points and bands of time, and the figures of the phases between them.

Read from the scenario's plain values, so that results of any version can be told; what is not understood is left out
rather than guessed. Times count from the start of the measured time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mediadht_sim.metrics import metrics
from mediadht_sim.tables import Results
from mediadht_sim.wording import listed, said, seconds

__all__ = ["Happening", "Phase", "happenings", "phases"]

_PHASES_MAX = 12
_ENDS = {"partition": "heal", "freeze": "thaw"}
_NAMES = {
    "partition": "the cut",
    "heal": "healing",
    "leave": "the leaving",
    "slow": "the slowing down",
}
_VERBS = {
    "crash": "crash",
    "freeze": "freeze: they answer nothing and close nothing",
    "thaw": "go on after being frozen",
    "leave": "leave in order",
    "restart": "start again",
    "join": "join anew",
}
_MISDEEDS = {
    "sybil": "crowd around a key (Sybils)",
    "eclipse": "surround a victim (eclipse)",
    "drop": "leave requests unanswered",
    "lie": "lie about contacts",
    "withhold": "acknowledge records and never give them out",
    "replay": "give out withdrawn records",
    "flood": "flood others with requests",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """From `at_s` to `until_s` (equal for what takes no time); `words` is a clause; `during` names the band's state."""

    at_s: float
    until_s: float
    kind: str
    words: str
    during: str = ""

    @property
    def is_band(self) -> bool:
        """Whether it takes time."""
        return self.until_s > self.at_s


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch between happenings, and the figures of what began in it."""

    from_s: float
    to_s: float
    words: str
    figures: dict[str, float | None]


def happenings(scenario: Mapping[str, Any]) -> list[Happening]:
    """Events, and adversaries that start late, in order of time."""
    end_s = _number(scenario.get("duration_s")) or 0.0
    events = sorted(_tables(scenario, "events"), key=lambda event: _number(event.get("at_s")) or 0.0)
    told = [_event(event, events[place + 1 :], end_s) for place, event in enumerate(events)]
    told += [_adversary(entry, end_s) for entry in _tables(scenario, "adversaries")]
    return sorted((one for one in told if one is not None), key=lambda one: (one.at_s, one.until_s, one.words))


def phases(results: Results) -> list[Phase]:
    """The measured time cut at every happening; empty where nothing happens, or too much to be told apart."""
    told = happenings(results.scenario)
    end_s = _number(results.scenario.get("duration_s")) or 0.0
    cuts = sorted({at_s for one in told for at_s in (one.at_s, one.until_s) if 0 < at_s < end_s})
    if not 0 < len(cuts) < _PHASES_MAX:
        return []
    bounds = [0.0, *cuts, end_s]
    rows = [tuple(row.values()) for row in results.lookups.to_pylist()]
    found = []
    for from_s, to_s in itertools.pairwise(bounds):
        inside = [row for row in rows if from_s <= row[0] < to_s]
        found.append(Phase(from_s, to_s, _state(told, from_s), metrics(inside, [], [])))
    return found


def _state(told: list[Happening], at_s: float) -> str:
    active = [one.during for one in told if one.is_band and one.at_s <= at_s < one.until_s and one.during]
    if active:
        return listed(dict.fromkeys(active))
    past = [one for one in told if one.until_s <= at_s]
    if not past:
        return "before anything happens"
    last_s = max(one.until_s for one in past)
    last = dict.fromkeys(one.kind for one in past if one.until_s == last_s)
    ended = {kind for kind, end in _ENDS.items() if end in last}
    return "after " + listed(_NAMES.get(kind, f"the {kind}") for kind in last if kind not in ended)


def _event(event: Mapping[str, Any], later: list[Mapping[str, Any]], end_s: float) -> Happening | None:
    kind, at_s = event.get("kind"), _number(event.get("at_s"))
    if at_s is None or not isinstance(kind, str):
        return None
    until_s = at_s + (_number(event.get("over_s")) or 0.0)
    if kind in _ENDS:
        ends = (_number(other.get("at_s")) for other in later if other.get("kind") == _ENDS[kind])
        until_s = min((end for end in ends if end is not None and end >= at_s), default=end_s)
    over = f", spread over {seconds(until_s - at_s)}" if until_s > at_s and kind not in _ENDS else ""
    if kind == "partition":
        parts = _parts(event)
        words = f"the network is cut into {parts}; nothing passes between them"
        return Happening(at_s, until_s, kind, words, "while cut apart")
    if kind == "heal":
        return Happening(at_s, at_s, kind, "the cut heals; everything passes again")
    if kind == "slow":
        words = f"{_crowd(event)} become {said(_number(event.get('factor')) or 10.0)} times slower"
        return Happening(at_s, until_s, kind, words + over, "while some become slow")
    if kind not in _VERBS:
        return Happening(at_s, until_s, kind, kind + over, f"during the {kind}")
    during = "while some are frozen" if kind == "freeze" else f"during the {kind}"
    return Happening(at_s, until_s, kind, f"{_crowd(event)} {_VERBS[kind]}{over}", during)


def _adversary(entry: Mapping[str, Any], end_s: float) -> Happening | None:
    strategy, at_s = entry.get("strategy"), _number(entry.get("starts_at_s")) or 0.0
    if not isinstance(strategy, str) or at_s <= 0:
        return None
    words = f"{_crowd(entry)} begin to {_MISDEEDS.get(strategy, 'misbehave: ' + strategy)}"
    return Happening(at_s, end_s, strategy, words, f"under attack ({strategy})")


def _parts(event: Mapping[str, Any]) -> str:
    shares = event.get("shares")
    share = _number(event.get("share"))
    if isinstance(shares, list) and shares and all(_number(one) is not None for one in shares):
        return "parts of " + listed(said(_number(one), "share") for one in shares)
    if share is not None:
        return f"two parts, {said(1 - share, 'share')} and {said(share, 'share')} of the nodes"
    return f"{said(_number(event.get('groups')) or 2)} parts of equal size"


def _crowd(entry: Mapping[str, Any]) -> str:
    number, share = _number(entry.get("count")), _number(entry.get("share"))
    if number is not None:
        return "one node" if number == 1 else f"{said(number)} nodes"
    return "some nodes" if share is None else f"{said(share, 'share')} of the nodes"


def _tables(scenario: Mapping[str, Any], key: str) -> Iterable[Mapping[str, Any]]:
    held = scenario.get(key)
    return [entry for entry in held if isinstance(entry, Mapping)] if isinstance(held, list | tuple) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
