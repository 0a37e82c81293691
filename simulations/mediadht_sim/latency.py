"""Latency between two nodes: a constant, a synthetic Internet, or a measured matrix that the user names.

What always holds: a model answers `one_way_s(a, b)` for any two different node indices, the same both ways and the same
at any time; it keeps a few numbers a node, none a pair; a node's place is drawn from the model's stream, in the order
of indices, whatever is asked first. One way is half of a round trip. Jitter, loss and bandwidth are in `links`.

The synthetic model adds three things, the parameters of which are the constants below (round trips, in ms):

| part | form | why |
| --- | --- | --- |
| region to region | `REGION_RTT_MS`, nodes placed by `REGION_SHARES` | SimBlock's table of 2019 (below) |
| the pair's own way | times a log-normal factor, median 1, `PAIR_SIGMA` | routes differ, triangles break |
| each end's access | plus a log-normal, `ACCESS_RTT_MS`, `ACCESS_SIGMA`, at most `ACCESS_RTT_MS_MAX` | last miles |

The table is from dsg-titech/simblock @ 1c0e8996c63e, `NetworkConfiguration.java` (Apache-2.0): its figures of 2019, and
the shares of the Bitcoin nodes of 2019. SimBlock uses the figures as one-way latencies. Here they are round trips, for
that is what they agree with: between North America and Europe 124 ms is the usual ping, and the median over all pairs
comes out as measured (twice as much otherwise). The three free parameters were fitted to the 490 PlanetLab nodes of
uofa-rzhu3/NetLatency-Data @ a5845579654b (means over 12 seeds of 1,000 nodes each; a seed moves them by some percent):

| round trip, ms | p5 | p25 | p50 | p75 | p90 | p95 | p99 | sides longer than the way round |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| PlanetLab | 19 | 59 | 135 | 202 | 291 | 325 | 413 | 5.9 % |
| `Synthetic` | 18 | 51 | 140 | 212 | 279 | 318 | 428 | 7.2 % |
"""

from __future__ import annotations

import csv
import math
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist, median
from typing import Protocol

from mediadht.core.errors import CallerError
from mediadht_sim.data_files import number, read_text, refusal

__all__ = [
    "ACCESS_RTT_MS",
    "ACCESS_RTT_MS_MAX",
    "ACCESS_SIGMA",
    "METRO_RTT_MS",
    "METRO_SIGMA",
    "PAIR_SIGMA",
    "PLACES_MAX",
    "REGIONS",
    "REGION_RTT_MS",
    "REGION_SHARES",
    "RTT_MEDIAN_MS",
    "Constant",
    "LatencyModel",
    "Matrix",
    "RoundTrips",
    "Synthetic",
    "latency_model",
    "load_planetlab",
    "load_wondernetwork",
]

REGIONS = ("North America", "Europe", "South America", "Asia Pacific", "Japan", "Australia")
REGION_RTT_MS = (
    (32.0, 124.0, 184.0, 198.0, 151.0, 189.0),
    (124.0, 11.0, 227.0, 237.0, 252.0, 294.0),
    (184.0, 227.0, 88.0, 325.0, 301.0, 322.0),
    (198.0, 237.0, 325.0, 85.0, 58.0, 198.0),
    (151.0, 252.0, 301.0, 58.0, 12.0, 126.0),
    (189.0, 294.0, 322.0, 198.0, 126.0, 16.0),
)
"""Round trip between regions, in the order of `REGIONS`."""
REGION_SHARES = (0.3316, 0.4998, 0.0090, 0.1177, 0.0224, 0.0195)
"""Share of the nodes in each region."""
PAIR_SIGMA = 0.16
ACCESS_RTT_MS = 6.0
"""Median of what one end adds to a round trip."""
ACCESS_SIGMA = 1.4
ACCESS_RTT_MS_MAX = 1000.0
METRO_RTT_MS = 2.0
"""Median round trip of two nodes at the same place of a matrix: one city, other providers."""
METRO_SIGMA = 0.5
RTT_MEDIAN_MS = 140.0
"""The median round trip of `Synthetic` as it stands, and what `Constant` takes unless told otherwise."""

PLACES_MAX = 2000
"""Rows of a matrix: 4 million numbers, 130 MB of memory."""
RTT_MS_MAX = 60_000.0
"""No measured round trip is longer than a minute."""
_FILE_BYTES_MAX = 64 * 1024 * 1024
_MS_ONE_WAY_S = 0.0005
"""Seconds one way for a millisecond there and back."""

_SALT_BITS = 24
_FACTOR_BITS = 12
_FACTOR_MASK = (1 << _FACTOR_BITS) - 1
_FACTOR_SHIFT = _SALT_BITS - 4
"""Where a pair's factor is looked up: the middle bits of the product of both ends' odd salts, which all bits reach."""


class LatencyModel(Protocol):
    """What the links ask."""

    def one_way_s(self, a: int, b: int, /) -> float:
        """Seconds from node index `a` to `b`, two different nodes; as long as from `b` to `a`."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """All pairs are equally far apart."""

    rtt_ms: float = RTT_MEDIAN_MS

    def __post_init__(self) -> None:
        _check_rtt_ms(self.rtt_ms)

    def one_way_s(self, a: int, b: int, /) -> float:
        return self.rtt_ms * _MS_ONE_WAY_S


class Synthetic:
    """Regions, access links, and a way of its own for each pair; the module's header has the parameters.

    `scale` stretches all of it.
    """

    __slots__ = ("_factors", "_nodes", "_shares", "_stream", "_to_s", "_ways")

    def __init__(self, stream: random.Random, *, scale: float = 1.0) -> None:
        _check_scale(scale)
        self._stream = stream
        self._to_s = _MS_ONE_WAY_S * scale
        self._shares = list(accumulate(REGION_SHARES))
        self._ways = [[rtt_ms * self._to_s for rtt_ms in row] for row in REGION_RTT_MS]
        self._factors = _log_normal_table(1.0, PAIR_SIGMA)
        self._nodes: list[tuple[list[float], int, int, float]] = []
        """Of each node: the ways from its region, the region, its salt, and what its access adds, in seconds."""

    def one_way_s(self, a: int, b: int, /) -> float:
        try:
            ways, _, salt_a, access_a_s = self._nodes[a]
            _, region, salt_b, access_b_s = self._nodes[b]
        except IndexError:
            self._place(max(a, b))
            return self.one_way_s(a, b)
        factor = self._factors[salt_a * salt_b >> _FACTOR_SHIFT & _FACTOR_MASK]
        return ways[region] * factor + (access_a_s + access_b_s)

    def region(self, index: int) -> str:
        """The region of a node, of `REGIONS`."""
        self._place(index)
        return REGIONS[self._nodes[index][1]]

    def _place(self, index: int) -> None:
        stream = self._stream
        while len(self._nodes) <= index:
            region = bisect(self._shares, stream.random() * self._shares[-1], hi=len(REGIONS) - 1)
            access_ms = min(ACCESS_RTT_MS * stream.lognormvariate(0.0, ACCESS_SIGMA), ACCESS_RTT_MS_MAX)
            self._nodes.append((self._ways[region], region, _salt(stream), access_ms * self._to_s))


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Measured round trips in ms between places: symmetric, no gaps; the diagonal is not used."""

    names: tuple[str, ...]
    rtt_ms: tuple[tuple[float, ...], ...]
    gaps_filled: int = 0
    """Pairs of places that were not measured."""

    @property
    def median_ms(self) -> float:
        """The median over all pairs of different places."""
        return median(value for a, row in enumerate(self.rtt_ms) for value in row[:a])


class Matrix:
    """Measured latencies: each node is at one place, drawn evenly.

    Nodes at different places are exactly as far apart as these (times `scale`). There are more nodes than places as a
    rule; those at one place get a short round trip, log-normal with median `METRO_RTT_MS`, a fixed one for each pair.
    """

    __slots__ = ("_metro", "_nodes", "_stream", "_ways")

    def __init__(self, stream: random.Random, measured: RoundTrips, *, scale: float = 1.0) -> None:
        _check_scale(scale)
        self._stream = stream
        self._ways = [[rtt_ms * _MS_ONE_WAY_S * scale for rtt_ms in row] for row in measured.rtt_ms]
        self._metro = _log_normal_table(METRO_RTT_MS * _MS_ONE_WAY_S * scale, METRO_SIGMA)
        self._nodes: list[tuple[list[float], int, int]] = []
        """Of each node: the ways from its place, the place, and its salt."""

    def one_way_s(self, a: int, b: int, /) -> float:
        try:
            ways, here, salt_a = self._nodes[a]
            _, there, salt_b = self._nodes[b]
        except IndexError:
            self._place(max(a, b))
            return self.one_way_s(a, b)
        if here == there:
            return self._metro[salt_a * salt_b >> _FACTOR_SHIFT & _FACTOR_MASK]
        return ways[there]

    def place(self, index: int) -> int:
        """The row of the matrix that a node is at."""
        self._place(index)
        return self._nodes[index][1]

    def _place(self, index: int) -> None:
        while len(self._nodes) <= index:
            place = self._stream.randrange(len(self._ways))
            self._nodes.append((self._ways[place], place, _salt(self._stream)))


def latency_model(
    name: str, stream: random.Random, *, file: Path | None = None, rtt_median_ms: float | None = None
) -> LatencyModel:
    """The model of this name: "synthetic", "constant", "planetlab" or "wondernetwork"; the last two need a file.

    `rtt_median_ms` stretches the model so that this is the median round trip over all pairs (of places, in a file).
    Raises CallerError for a name, file or median that cannot be, and what the loaders raise.
    """
    if rtt_median_ms is not None:
        _check_rtt_ms(rtt_median_ms)
    loaders = {"planetlab": load_planetlab, "wondernetwork": load_wondernetwork}
    if name in loaders:
        if file is None:
            raise CallerError(f"the latency model {name!r} needs the measured round trips; name their file")
        measured = loaders[name](file)
        scale = 1.0 if rtt_median_ms is None else rtt_median_ms / measured.median_ms
        return Matrix(stream, measured, scale=scale)
    if file is not None:
        raise CallerError(
            f"the latency model {name!r} reads no file; leave the file out, or use one of {list(loaders)}"
        )
    median_ms = RTT_MEDIAN_MS if rtt_median_ms is None else rtt_median_ms
    if name == "constant":
        return Constant(median_ms)
    if name == "synthetic":
        return Synthetic(stream, scale=median_ms / RTT_MEDIAN_MS)
    raise CallerError(f"there is no latency model {name!r}; use synthetic, constant, planetlab or wondernetwork")


def load_planetlab(path: Path) -> RoundTrips:
    """Round trips between PlanetLab nodes: a square of numbers in ms, a row a line, between white space; gzip or not.

    Made for uofa-rzhu3/NetLatency-Data (MIT), PlanetLab/PlanetLabData_1. Both directions are averaged.
    Raises EnvironmentFault if it cannot be read, ConfigurationError if it is not of this form, with the line.
    """
    text = read_text(path, _FILE_BYTES_MAX)
    lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    count = _checked_count(path, len(lines), lines[-1][0] if lines else 0)
    rows: list[list[float | None]] = []
    for line, fields in lines:
        if len(fields) != count:
            raise refusal(
                path,
                line,
                f"holds {len(fields)} numbers, but the file has {count} rows",
                "write as many numbers in each row as there are rows",
            )
        rows.append(_measured_row(path, line, fields, len(rows)))
    return _completed(path, [line for line, _ in lines], tuple(str(i) for i in range(count)), rows)


def load_wondernetwork(path: Path) -> RoundTrips:
    """Round trips between cities: a CSV with the cities in the first row and, in the same order, the first column.

    Values in ms; an empty one was not measured: the other direction stands for it, or the mean of both cities' medians.
    Made for WonderNetwork's pings of 2018 as in ConsenSys/wittgenstein @ fe0414c02f0e (means of *Ping.csv).
    Raises EnvironmentFault if it cannot be read, ConfigurationError if it is not of this form, with the line.
    """
    reader = csv.reader(read_text(path, _FILE_BYTES_MAX).splitlines(), strict=True)
    try:
        table = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise refusal(path, reader.line_num, f"is no CSV ({error})", "write commas between, and quote names") from error
    names = tuple(table[0][1][1:]) if table else ()
    count = _checked_count(path, len(names), 1)
    if len(set(names)) < count or not all(names):
        raise refusal(path, 1, "a city has no name, or two have the same", "give every column a name of its own")
    if len(table) != count + 1:
        raise refusal(
            path,
            table[-1][0],
            f"is the last of {len(table) - 1} rows, but there are {count} columns",
            "write a row for each city of the first line",
        )
    rows: list[list[float | None]] = []
    for name, (line, fields) in zip(names, table[1:], strict=True):
        if fields[0] != name:
            raise refusal(path, line, f"begins with {fields[0][:40]!r}", f"the columns' order wants {name!r} here")
        if len(fields) != count + 1:
            raise refusal(path, line, f"holds {len(fields) - 1} values", f"write {count}, empty where none is known")
        rows.append(_measured_row(path, line, fields[1:], len(rows)))
    return _completed(path, [line for line, _ in table[1:]], names, rows)


def _checked_count(path: Path, count: int, line: int) -> int:
    if not 2 <= count <= PLACES_MAX:
        raise refusal(path, line, f"there are {count} places", f"name a file with 2 to {PLACES_MAX} of them")
    return count


def _measured_row(path: Path, line: int, fields: Sequence[str], own: int) -> list[float | None]:
    """One row, None where it is empty and on the diagonal; what is measured is above 0."""
    row: list[float | None] = []
    for column, text in enumerate(fields):
        if column == own or not text.strip():
            row.append(None)
            continue
        value = number(path, line, text, f"value {column + 1}", RTT_MS_MAX)
        if not value:
            raise refusal(path, line, f"value {column + 1} is 0", "no round trip is; write the measured one")
        row.append(value)
    return row


def _completed(
    path: Path, lines: Sequence[int], names: tuple[str, ...], rows: Sequence[Sequence[float | None]]
) -> RoundTrips:
    """The same both ways, gaps filled, the diagonal at `METRO_RTT_MS`."""
    count = len(rows)
    both: list[list[float | None]] = [[None] * count for _ in rows]
    for a in range(count):
        for b in range(a):
            known = [value for value in (rows[a][b], rows[b][a]) if value is not None]
            both[a][b] = both[b][a] = sum(known) / len(known) if known else None
    medians: list[float] = []
    for line, row in zip(lines, both, strict=True):
        known = [value for value in row if value is not None]
        if not known:
            raise refusal(path, line, "nothing is measured from or to this place", "take the place out of the file")
        medians.append(median(known))
    gaps = 0
    filled: list[list[float]] = [[METRO_RTT_MS] * count for _ in rows]
    for a in range(count):
        for b in range(a):
            value = both[a][b]
            if value is None:
                gaps += 1
                value = (medians[a] + medians[b]) / 2
            filled[a][b] = filled[b][a] = value
    return RoundTrips(names, tuple(tuple(row) for row in filled), gaps)


def _salt(stream: random.Random) -> int:
    return stream.getrandbits(_SALT_BITS) | 1


def _log_normal_table(middle: float, sigma: float) -> list[float]:
    """Equally likely values of a log-normal distribution with this median."""
    size = 1 << _FACTOR_BITS
    normal = NormalDist()
    return [middle * math.exp(sigma * normal.inv_cdf((i + 0.5) / size)) for i in range(size)]


def _check_scale(scale: float) -> None:
    if not 0.0 < scale <= 1000.0:
        raise CallerError(f"scale is {scale}; stretch latencies by more than 0, at most 1000 times")


def _check_rtt_ms(rtt_ms: float) -> None:
    if not 0.0 < rtt_ms <= RTT_MS_MAX:
        raise CallerError(f"a round trip of {rtt_ms} ms cannot be; write more than 0, at most {RTT_MS_MAX:g}")
