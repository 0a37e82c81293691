"""Latency models: symmetric, reproducible, distributed as published; files are read, or refused with their line."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault
from mediadht_sim.latency import (
    METRO_RTT_MS,
    PLACES_MAX,
    REGION_RTT_MS,
    REGION_SHARES,
    REGIONS,
    Constant,
    LatencyModel,
    Matrix,
    RoundTrips,
    Synthetic,
    latency_model,
    load_planetlab,
    load_wondernetwork,
)

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "latency"
PLANETLAB = SHARED / "planetlab490_t1.txt.gz"
WONDERNETWORK = SHARED / "wondernetwork_cities_rtt_ms.csv"
NODES = 400

needs_planetlab = pytest.mark.skipif(not PLANETLAB.exists(), reason="the PlanetLab matrix is not on this machine")
needs_wondernetwork = pytest.mark.skipif(not WONDERNETWORK.exists(), reason="WonderNetwork's pings are not here")


def round_trips_ms(model: LatencyModel, nodes: int = NODES) -> list[float]:
    return sorted(2000 * model.one_way_s(a, b) for a in range(nodes) for b in range(a))


def quantile(ordered: list[float], share: float) -> float:
    return ordered[int(share * len(ordered))]


def violating_share(model: LatencyModel, nodes: int, draws: int) -> float:
    """The share of sides of random triangles that are longer than both others together."""
    stream = random.Random(5)
    count = 0
    for _ in range(draws):
        a, b, c = stream.sample(range(nodes), 3)
        x, y, z = model.one_way_s(a, b), model.one_way_s(b, c), model.one_way_s(a, c)
        count += 2 * max(x, y, z) > x + y + z
    return count / draws / 3


def small() -> RoundTrips:
    return RoundTrips(("a", "b", "c"), ((2.0, 10.0, 20.0), (10.0, 2.0, 40.0), (20.0, 40.0, 2.0)))


def written(folder: Path, text: str | bytes, name: str = "file.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- Models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Synthetic, lambda stream: Matrix(stream, small()), lambda stream: Constant(80.0)])
def test_both_directions_are_the_same_and_above_zero(make: type[Synthetic]) -> None:
    model = make(random.Random(1))
    for a in range(60):
        for b in range(60):
            if a != b:
                assert model.one_way_s(a, b) == model.one_way_s(b, a) > 0.0


@pytest.mark.parametrize("make", [Synthetic, lambda stream: Matrix(stream, small())])
def test_a_place_does_not_depend_on_who_asks_first(make: type[Synthetic]) -> None:
    upwards, downwards = make(random.Random(1)), make(random.Random(1))
    pairs = [(a, b) for a in range(30) for b in range(30) if a != b]
    expected = {pair: upwards.one_way_s(*pair) for pair in pairs}
    assert {pair: downwards.one_way_s(*pair) for pair in reversed(pairs)} == expected
    other = make(random.Random(2))
    assert {pair: other.one_way_s(*pair) for pair in pairs} != expected


def test_the_region_table_is_symmetric_and_complete() -> None:
    assert len(REGIONS) == len(REGION_SHARES) == len(REGION_RTT_MS) == 6
    assert sum(REGION_SHARES) == pytest.approx(1.0, abs=0.001)
    for a, row in enumerate(REGION_RTT_MS):
        assert [REGION_RTT_MS[b][a] for b in range(6)] == list(row)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_synthetic_round_trips_are_distributed_as_measured_ones(seed: int) -> None:
    model = Synthetic(random.Random(seed))
    ordered = round_trips_ms(model)
    published = {0.05: 19.3, 0.25: 59.3, 0.50: 135.0, 0.75: 201.8, 0.90: 290.7, 0.95: 324.9, 0.99: 412.6}
    for share, rtt_ms in published.items():
        # 400 nodes: the far quantiles hang on a handful of nodes with bad access.
        assert quantile(ordered, share) == pytest.approx(rtt_ms, rel=0.12 if share == 0.5 else 0.3), share
    assert 0.04 < violating_share(model, NODES, 20_000) < 0.10  # PlanetLab: 0.058


def test_synthetic_nodes_of_one_region_are_near_one_another() -> None:
    model = Synthetic(random.Random(1))
    europe = [i for i in range(NODES) if model.region(i) == "Europe"]
    assert len(europe) / NODES == pytest.approx(0.4998, abs=0.08)
    near = sorted(2000 * model.one_way_s(a, b) for a in europe for b in europe if a < b)
    assert quantile(near, 0.5) < 50.0
    assert quantile(near, 0.5) < quantile(round_trips_ms(model), 0.5) / 3


def test_a_pair_keeps_its_own_way() -> None:
    """Two nodes of one region differ by more than their access: factors spread evenly over all pairs."""
    model = Synthetic(random.Random(1))
    model.one_way_s(0, NODES)
    indices = [model._nodes[a][2] * model._nodes[b][2] >> 20 & 4095 for a in range(NODES) for b in range(a)]
    counts = [0] * 16
    for index in indices:
        counts[index >> 8] += 1
    assert all(count == pytest.approx(len(indices) / 16, rel=0.06) for count in counts)


def test_scale_stretches_everything() -> None:
    once, twice = Synthetic(random.Random(1)), Synthetic(random.Random(1), scale=2.0)
    assert twice.one_way_s(3, 9) == pytest.approx(2 * once.one_way_s(3, 9))
    with pytest.raises(CallerError, match="scale is 0"):
        Synthetic(random.Random(1), scale=0)
    with pytest.raises(CallerError, match="scale is nan"):
        Matrix(random.Random(1), small(), scale=float("nan"))


def test_a_matrix_is_met_exactly_and_one_place_is_near() -> None:
    measured = small()
    model = Matrix(random.Random(1), measured)
    places = [model.place(i) for i in range(200)]
    assert set(places) == {0, 1, 2}
    near = []
    for a in range(200):
        for b in range(a):
            rtt_ms = 2000 * model.one_way_s(a, b)
            if places[a] == places[b]:
                near.append(rtt_ms)
            else:
                assert rtt_ms == pytest.approx(measured.rtt_ms[places[a]][places[b]])
    near.sort()
    assert quantile(near, 0.5) == pytest.approx(METRO_RTT_MS, rel=0.1)
    assert near[0] < 0.7 * METRO_RTT_MS < 1.5 * METRO_RTT_MS < near[-1]
    assert measured.median_ms == 20.0


def test_models_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, "0 10 20\n10 0 40\n20 40 0\n")
    assert latency_model("constant", random.Random(1), rtt_median_ms=80.0).one_way_s(0, 1) == pytest.approx(0.04)
    stretched = latency_model("planetlab", random.Random(1), file=path, rtt_median_ms=200.0)
    assert {round(2000 * stretched.one_way_s(0, b)) for b in range(1, 99)} & {100, 200, 400}
    model = latency_model("synthetic", random.Random(1), rtt_median_ms=80.0)
    assert quantile(round_trips_ms(model), 0.5) == pytest.approx(80.0, rel=0.1)
    for arguments, why in [
        (("nearby", None, None), "no latency model 'nearby'"),
        (("planetlab", None, None), "needs the measured round trips"),
        (("constant", path, None), "reads no file"),
        (("constant", None, 0.0), "a round trip of 0.0 ms"),
    ]:
        with pytest.raises(CallerError, match=why):
            latency_model(arguments[0], random.Random(1), file=arguments[1], rtt_median_ms=arguments[2])


def test_the_same_in_another_process_with_another_order_of_hashes() -> None:
    source = (
        "import random; from mediadht_sim.latency import Synthetic; m = Synthetic(random.Random(7)); "
        "print([m.one_way_s(a, a + 1 + a % 5) for a in range(200)])"
    )
    told = set()
    for hash_seed in ("0", "12345"):
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        made = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60, env=environment
        )
        told.add(made.stdout)
    model = Synthetic(random.Random(7))
    assert told == {f"{[model.one_way_s(a, a + 1 + a % 5) for a in range(200)]}\n"}


# --- Files -------------------------------------------------------------------------------------------------------

SQUARE = "0\t10.5\t20\n12.5\t0\t40\n20\t40\t0\n"


@pytest.mark.parametrize("packed", [False, True])
def test_a_planetlab_file_is_read(tmp_path: Path, packed: bool) -> None:
    path = written(tmp_path, gzip.compress(SQUARE.encode()) if packed else SQUARE)
    measured = load_planetlab(path)
    assert measured.rtt_ms == ((METRO_RTT_MS, 11.5, 20.0), (11.5, METRO_RTT_MS, 40.0), (20.0, 40.0, METRO_RTT_MS))
    assert measured.gaps_filled == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there are 0 places; name a file with 2 to 2000"),
        ("0\n", "line 1: there are 1 places"),
        ("0 1 2\n1 0\n2 1 0\n", "line 2: holds 2 numbers, but the file has 3 rows"),
        ("0 1\n\n1 x\n1 0\n", "line 1: holds 2 numbers, but the file has 3 rows"),
        ("0 1\n\nx 0\n", "line 3: value 1 is 'x'; write a number from 0 to 60000"),
        ("0 nan\n1 0\n", "line 1: value 2 is 'nan'"),
        ("0 -1\n1 0\n", "line 1: value 2 is '-1'"),
        ("0 1e9\n1 0\n", "line 1: value 2 is '1e9'"),
        ("0 0\n1 0\n", "line 1: value 2 is 0; no round trip is"),
        (b"0 1\n1 \xff\n", "line 2: is not UTF-8 text"),
        (gzip.compress(b"0 1\n1 0\n")[:-9], "is damaged"),
        (b"\x1f\x8bnothing of the kind", "is damaged"),
        ("1\n" * (PLACES_MAX + 1), "there are 2001 places"),
    ],
)
def test_a_file_that_is_no_square_of_numbers_is_refused(tmp_path: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load_planetlab(written(tmp_path, text))


def test_a_file_that_is_not_there_is_the_machines_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(EnvironmentFault, match="cannot be read"):
            load_planetlab(path)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b" " * (64 * 1024 * 1024 + 1), compresslevel=1))
    with pytest.raises(ConfigurationError, match="is larger than"):
        load_planetlab(path)


CITIES = 'city,"A, X",B,C\n"A, X",,10,\nB,14,,40\nC,,40,\n'


def test_a_wondernetwork_file_is_read_and_its_gaps_filled(tmp_path: Path) -> None:
    measured = load_wondernetwork(written(tmp_path, CITIES))
    assert measured.names == ("A, X", "B", "C")
    # A to C was not measured: the mean of A's median (12) and C's (40).
    assert measured.rtt_ms[0] == (METRO_RTT_MS, 12.0, 26.0)
    assert measured.rtt_ms[2] == (26.0, 40.0, METRO_RTT_MS)
    assert measured.gaps_filled == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there are 0 places"),
        ("city,A\nA,\n", "line 1: there are 1 places"),
        ("city,A,A\nA,,1\nA,1,\n", "line 1: a city has no name, or two have the same"),
        ("city,A,B\nA,,1\n", "line 2: is the last of 1 rows, but there are 2 columns"),
        ("city,A,B\nB,,1\nA,1,\n", "line 2: begins with 'B'; the columns' order wants 'A' here"),
        ("city,A,B\nA,,1\nB,1\n", "line 3: holds 1 values; write 2"),
        ("city,A,B\nA,,fast\nB,1,\n", "line 2: value 2 is 'fast'"),
        ('city,A,B\nA,,1\nB,"1"2,\n', "line 3: is no CSV"),
        ("city,A,B,C\nA,,1,\nB,1,,\nC,,,\n", "line 4: nothing is measured"),
    ],
)
def test_a_file_that_is_no_table_of_cities_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load_wondernetwork(written(tmp_path, text))


@needs_planetlab
def test_the_planetlab_matrix_itself() -> None:
    measured = load_planetlab(PLANETLAB)
    assert len(measured.names) == 490
    assert measured.median_ms == pytest.approx(135.0, abs=0.5)
    ordered = round_trips_ms(Matrix(random.Random(1), measured))
    assert quantile(ordered, 0.5) == pytest.approx(135.0, rel=0.1)
    assert quantile(ordered, 0.95) == pytest.approx(330.0, rel=0.1)


@needs_wondernetwork
def test_the_wondernetwork_table_itself() -> None:
    measured = load_wondernetwork(WONDERNETWORK)
    assert len(measured.names) == 242
    assert measured.median_ms == pytest.approx(143.0, abs=1.5)
    ordered = round_trips_ms(Matrix(random.Random(1), measured))
    assert quantile(ordered, 0.95) == pytest.approx(330.0, rel=0.1)
