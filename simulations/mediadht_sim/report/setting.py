"""A scenario's parameters in words, for a reader who does not know its keys.

Read from plain values; a key that is missing is not mentioned, one that is not known here stands in the full text of
the scenario at the end of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mediadht_sim.wording import count, listed, plain, said, seconds

__all__ = ["setting"]

Values = Mapping[str, Any]


def setting(scenario: Values) -> list[tuple[str, str]]:
    """Headings and sentences, in the order in which a reader asks."""
    parts: tuple[tuple[str, Callable[[Values], Iterable[str]]], ...] = (
        ("Network", _network),
        ("Distances", _latency),
        ("Links", _links),
        ("Comings and goings", _lives),
        ("Work", _workloads),
        ("Adversaries", _adversaries),
        ("Measured", _measured),
        ("Changed constants", _constants),
    )
    told = ((heading, " ".join(words(scenario))) for heading, words in parts)
    return [(heading, text) for heading, text in told if text]


def _network(scenario: Values) -> Iterable[str]:
    network = _part(scenario, "network")
    if _is_number(network.get("nodes")):
        yield f"{count(network['nodes'])} honest nodes at the start, each running the protocol's real code."
    match network.get("start"):
        case "settled":
            yield "They start with the tables of a network that has been up for long."
        case "joined":
            yield f"They join one after another, one every {_seconds(network, 'join_every_s')}."
    if network.get("unreachable_share"):
        yield f"{_share(network, 'unreachable_share')} of them cannot be dialled: they ask, and keep no records."
    if _is_number(network.get("k")):
        yield f"A record is meant to have {count(network['k'])} replicas."
    if network.get("signatures") == "fake":
        yield "Signatures are stand-ins of the same size, to be quicker."


def _latency(scenario: Values) -> Iterable[str]:
    latency = _part(scenario, "latency")
    match latency.get("model"):
        case "constant":
            yield f"Every round trip takes {_ms(latency, 'median_ms')}."
        case "synthetic":
            median = f" with a median of {_ms(latency, 'median_ms')}" if latency.get("median_ms") else ""
            yield f"Round trips are drawn from a model of the Internet{median}."
        case str(model):
            yield f"Round trips are those measured in the data set {plain(model)}."
    if latency.get("jitter_share"):
        yield f"A message is later than that by {_share(latency, 'jitter_share')} on average."


def _links(scenario: Values) -> Iterable[str]:
    links = _part(scenario, "links")
    if _is_number(links.get("loss")):
        late = ", and come later" if links.get("retransmits") else ""
        yield (
            f"{_share(links, 'loss')} of messages are lost{late}." if links["loss"] else "No message is lost by chance."
        )
    for key, words in (("upload_bps", "sends"), ("download_bps", "gets")):
        if links.get(key):
            yield f"A node {words} at most {said(links[key] / 8, 'B/s')}."
    if links.get("slow_share"):
        yield f"{_share(links, 'slow_share')} of the nodes are {said(_number(links.get('slow_factor')))} times slower."
    if _is_number(links.get("dial_round_trips")):
        yield f"A new connection costs {count(links['dial_round_trips'])} round trips."
    if links.get("clock_skew_s"):
        yield f"Clocks are wrong by up to {_seconds(links, 'clock_skew_s')}."


def _lives(scenario: Values) -> Iterable[str]:
    lives = _part(scenario, "lives")
    session = _part(lives, "session")
    if not lives:
        return
    if session.get("kind") in (None, "never"):
        yield "Nodes neither come nor go, but for the events."
        return
    yield f"A node stays up for {_duration(session)}"
    absence = _part(lives, "absence")
    if absence.get("kind") == "never":
        yield "and does not come back; a new one takes its place."
    else:
        yield f"and is away for {_duration(absence)}." if absence else "before it goes."
    if _is_number(lives.get("graceful_share")):
        yield f"{_share(lives, 'graceful_share')} go in order, the others crash."
    if _is_number(lives.get("keep_state_share")):
        yield f"{_share(lives, 'keep_state_share')} come back with what they knew."


def _duration(duration: Values) -> str:
    match duration.get("kind"):
        case "exponential":
            return f"{_seconds(duration, 'mean_s')} on average (exponential)"
        case "weibull":
            shape = said(_number(duration.get("shape")))
            return f"less than {_seconds(duration, 'scale_s')} in 63 of 100 cases (Weibull, shape {shape})"
        case "lognormal":
            sigma = said(_number(duration.get("sigma")))
            return f"{_seconds(duration, 'median_s')} in the median (log-normal, sigma {sigma})"
        case "trace":
            return "times drawn from a file of measured ones"
        case kind:
            return f"times of the kind {plain(str(kind))}"


def _workloads(scenario: Values) -> Iterable[str]:
    for work in _parts(scenario, "workloads"):
        start = f"From {_seconds(work, 'starts_at_s')} on: " if work.get("starts_at_s") else ""
        yield start + _work(work)


def _work(work: Values) -> str:
    def number(key: str) -> str:
        return said(_number(work.get(key)))

    match work.get("kind"):
        case "mix":
            rates = [
                f"{number(key)} {words.removesuffix('s') if work[key] == 1 else words}"
                for key, words in (
                    ("announces_per_s", "announcements"),
                    ("lookups_per_s", "lookups"),
                    ("withdraws_per_s", "withdrawals"),
                )
                if work.get(key)
            ]
            absent = ""
            if work.get("absent_share"):
                absent = f" {_share(work, 'absent_share')} of lookups are for what nobody has."
            return f"Everyday life over {number('subjects')} subjects: {listed(rates) or 'nothing'} a second.{absent}"
        case "flash-crowd":
            crowd = "half of the nodes" if work.get("share") is None else f"{_share(work, 'share')} of the nodes"
            crowd = f"{number('count')} nodes" if work.get("count") is not None else crowd
            return (
                f"A flash crowd: {crowd} look up one subject of {number('seeders')} seeders "
                f"within {_seconds(work, 'ramp_s')}."
            )
        case "zipf":
            return (
                f"{number('lookups_per_s')} lookups a second of {number('subjects')} subjects of unequal popularity "
                f"(Zipf, exponent {number('exponent')})."
            )
        case "uploads":
            return f"{number('files')} media, each uploaded at {number('servers_per_file')} servers almost at once."
        case "joins":
            return (
                f"{number('rooms')} rooms of {number('participants_per_room')} servers, each looked up by "
                f"{number('joiners_per_room')} others within {_seconds(work, 'within_s')}."
            )
        case "mass-republish":
            return f"{number('servers')} servers announce {number('records_per_server')} records each, all at once."
        case kind:
            return f"Work of the kind {plain(str(kind))}."


def _adversaries(scenario: Values) -> Iterable[str]:
    for one in _parts(scenario, "adversaries"):
        crowd = (
            f"{count(one['count'])} nodes" if _is_number(one.get("count")) else f"{_share(one, 'share')} of the nodes"
        )
        start = f" from {_seconds(one, 'starts_at_s')} on" if one.get("starts_at_s") else ""
        yield f"{crowd} misbehave{start} (strategy {plain(str(one.get('strategy')))})."


def _measured(scenario: Values) -> Iterable[str]:
    if _is_number(scenario.get("duration_s")):
        network = _part(scenario, "network")
        after = (
            f", after {_seconds(network, 'settle_s')} of warm-up that counts for nothing"
            if network.get("settle_s")
            else ""
        )
        yield f"{seconds(scenario['duration_s'])} of virtual time{after}."
    checks = _part(scenario, "checks")
    on = [plain(name) for name, value in checks.items() if value is True]
    off = [plain(name) for name, value in checks.items() if value is False]
    if on:
        yield f"Checkers on: {listed(on)}."
    if off:
        yield f"Checkers off: {listed(off)}."


def _constants(scenario: Values) -> Iterable[str]:
    changed = _part(scenario, "constants")
    if changed:
        yield listed(f"{plain(name)} = {plain(str(value))}" for name, value in changed.items()) + "."


def _part(values: Values, key: str) -> Values:
    held = values.get(key)
    return held if isinstance(held, Mapping) else {}


def _parts(values: Values, key: str) -> list[Values]:
    held = values.get(key)
    return [one for one in held if isinstance(one, Mapping)] if isinstance(held, list | tuple) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _share(values: Values, key: str) -> str:
    return said(_number(values.get(key)), "share")


def _ms(values: Values, key: str) -> str:
    return said(_number(values.get(key)), "ms")


def _seconds(values: Values, key: str) -> str:
    return said(_number(values.get(key)), "s")
