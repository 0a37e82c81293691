"""Lengths of sessions against closed forms and published figures; traces from files; churn by a small fake network."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from mediadht.core.errors import CallerError, ConfigurationError, EnvironmentFault
from mediadht_sim import lives_file
from mediadht_sim.engine import Engine
from mediadht_sim.lives import (
    BITCOIN_CONNECTION,
    IPFS_SESSION,
    LENGTH_S_MIN,
    PHONE_ABSENCE,
    PHONE_SESSION,
    Churn,
    ChurnSettings,
    Exponential,
    Lengths,
    LogNormal,
    Never,
    Trace,
    Weibull,
    availability,
)
from mediadht_sim.lives_file import load_trace

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "data" / "churn"
HOUR_S, DAY_S = 3600.0, 86_400.0
DRAWS = 40_000

LENGTHS = [
    Exponential(100.0),
    Weibull(0.6, 100.0),
    Weibull(2.0, 100.0),
    LogNormal(100.0, 0.8),
    Trace([5.0, 10.0, 10.0, 100.0, 400.0]),
]


# --- Distributions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", LENGTHS, ids=repr)
def test_draws_have_the_mean_and_the_survival_that_are_told(lengths: Lengths) -> None:
    stream = random.Random(1)
    drawn = [lengths.draw(stream) for _ in range(DRAWS)]
    assert sum(drawn) / DRAWS == pytest.approx(lengths.mean_s, rel=0.04)
    for length_s in (1.0, 10.0, 50.0, 100.0, 300.0):
        assert sum(x > length_s for x in drawn) / DRAWS == pytest.approx(lengths.survival(length_s), abs=0.01)
    assert lengths.survival(0.0) == 1.0


@pytest.mark.parametrize("lengths", LENGTHS, ids=repr)
def test_residuals_are_those_of_the_steady_state(lengths: Lengths) -> None:
    """Their density is the survival over the mean, so their distribution is its integral (by the trapezium rule)."""
    stream = random.Random(2)
    drawn = [lengths.draw_residual(stream) for _ in range(DRAWS)]
    for length_s in (10.0, 50.0, 100.0, 300.0):
        steps = 2000
        heights = [lengths.survival(length_s * i / steps) for i in range(steps + 1)]
        area = (sum(heights) - (heights[0] + heights[-1]) / 2) * length_s / steps
        assert sum(x <= length_s for x in drawn) / DRAWS == pytest.approx(area / lengths.mean_s, abs=0.012)


def test_closed_forms() -> None:
    assert Weibull(1.0, 70.0).mean_s == pytest.approx(70.0)
    assert Weibull(0.5, 70.0).mean_s == pytest.approx(140.0)
    assert LogNormal(70.0, 1.0).mean_s == pytest.approx(70.0 * math.exp(0.5))
    assert LogNormal(70.0, 1.0).survival(70.0) == pytest.approx(0.5)
    assert LogNormal(70.0, 0.0).draw(random.Random(1)) == 70.0
    assert (LogNormal(70.0, 0.0).survival(69.0), LogNormal(70.0, 0.0).survival(70.0)) == (1.0, 0.0)
    trace = Trace([30.0, 10.0, 20.0, 40.0])
    assert trace.lengths_s == (10.0, 20.0, 30.0, 40.0)
    assert [trace.quantile_s(share) for share in (0.0, 0.25, 0.26, 0.5, 1.0)] == [10.0, 10.0, 20.0, 20.0, 40.0]


def test_never_never_ends() -> None:
    never = Never()
    stream = random.Random(1)
    assert never.draw(stream) == never.draw_residual(stream) == never.mean_s == math.inf
    assert never.survival(1e12) == 1.0
    assert availability(never, Exponential(5.0)) == availability(never, never) == 1.0
    assert availability(Exponential(5.0), never) == 0.0
    assert availability(Exponential(30.0), Exponential(10.0)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Exponential(0.0), "mean_s is 0.0; write a number above 0"),
        (lambda: Exponential(math.inf), "mean_s is inf"),
        (lambda: Exponential(math.nan), "mean_s is nan"),
        (lambda: Weibull(0.01, 5.0), "shape is 0.01"),
        (lambda: Weibull(0.5, -5.0), "scale_s is -5.0"),
        (lambda: LogNormal(0.0, 1.0), "median_s is 0.0"),
        (lambda: LogNormal(1.0, 10.1), "sigma is 10.1"),
        (lambda: Trace([]), "a trace of 0 lengths"),
        (lambda: Trace([0.0, 0.0]), "a trace of 2 lengths"),
        (lambda: Trace([-1.0, 5.0]), "out of range"),
        (lambda: ChurnSettings(Never(), Never(), graceful_share=1.1), "graceful_share is 1.1"),
        (lambda: ChurnSettings(Never(), Never(), keep_state_share=-0.1), "keep_state_share is -0.1"),
        (lambda: ChurnSettings(Never(), Never(), leave_deadline_s=0.0), "leave_deadline_s is 0.0"),
    ],
)
def test_what_cannot_be_is_refused(make: object, why: str) -> None:
    with pytest.raises(CallerError, match=why):
        make()  # type: ignore[operator]


# --- Calibrations ------------------------------------------------------------------------------------------------


def test_ipfs_sessions_meet_the_published_quantiles() -> None:
    assert 1 - IPFS_SESSION.survival(2 * HOUR_S) == pytest.approx(0.5, abs=0.001)
    assert 1 - IPFS_SESSION.survival(8 * HOUR_S) == pytest.approx(0.8, abs=0.001)


def test_bitcoin_connections_meet_the_published_survival() -> None:
    for length_s, share in ((60.0, 0.994), (HOUR_S, 0.963), (DAY_S, 0.647), (7 * DAY_S, 0.251)):
        assert BITCOIN_CONNECTION.survival(length_s) == pytest.approx(share, abs=0.016)


def test_phones_are_online_as_observed() -> None:
    assert availability(PHONE_SESSION, PHONE_ABSENCE) == pytest.approx(0.2326, abs=0.001)
    assert PHONE_SESSION.survival(400.3) == pytest.approx(0.5, abs=0.06)
    assert PHONE_SESSION.survival(37_823.7) == pytest.approx(0.01, abs=0.003)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the files of published figures are not on this machine")
def test_the_calibrations_are_those_of_the_files() -> None:
    figures = json.loads((PUBLISHED / "published_calibration.json").read_text())
    for hours, share in figures["ipfs_dht_servers_2022"]["session_hours_cdf"].items():
        assert 1 - IPFS_SESSION.survival(float(hours) * HOUR_S) == pytest.approx(share, abs=0.001)
    bitcoin = figures["bitcoin_connection_survival_median_2024_12..2025_10"]
    for name, length_s in (("gt_1h", HOUR_S), ("gt_1d", DAY_S), ("gt_7d", 7 * DAY_S)):
        assert BITCOIN_CONNECTION.survival(length_s) == pytest.approx(bitcoin[name], abs=0.016)
    phones = json.loads((PUBLISHED / "derived_session_quantiles.json").read_text())["szeged_100"]
    assert [PHONE_SESSION.shape, PHONE_SESSION.scale_s] == phones["weibull"]
    for level, on_s, off_s in zip(phones["q_levels"], phones["on_q"], phones["off_q"], strict=True):
        assert PHONE_SESSION.survival(on_s) == pytest.approx(1 - level, abs=0.07)
        assert PHONE_ABSENCE.survival(off_s) == pytest.approx(1 - level, abs=0.25)  # two humps: a poor fit


# --- Traces ------------------------------------------------------------------------------------------------------

CSV = "node,up_s,down_s\na,3600,120.5\n\na,60,\nb,0,30\n"
JSON_LINES = (
    '{"node": "a", "up_s": 3600, "down_s": 120.5}\n{"node": "a", "up_s": 60, "down_s": null}\n\n'
    '{"node": 7, "up_s": 0, "down_s": 30}\n'
)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "trace"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("text", [CSV, JSON_LINES, gzip.compress(CSV.encode()), "\ufeff" + CSV])
def test_a_trace_is_read(tmp_path: Path, text: str | bytes) -> None:
    intervals = load_trace(written(tmp_path, text))
    assert intervals.nodes == 2
    assert intervals.sessions.lengths_s == (0.0, 60.0, 3600.0)
    assert intervals.absences.lengths_s == (30.0, 120.5)
    assert intervals.sessions.mean_s == pytest.approx(1220.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1: is not the header node,up_s,down_s"),
        ("a,1,2\n", "line 1: is not the header"),
        ("node,up_s,down_s\n", "no up_s is above 0"),
        ("node,up_s,down_s\na,1,\n", "no down_s is above 0"),
        ("node,up_s,down_s\na,1,2\na,1\n", "line 3: holds 2 values"),
        ("node,up_s,down_s\na,1,2\na,x,2\n", "line 3: up_s is 'x'; write a number from 0 to"),
        ("node,up_s,down_s\na,,2\n", "line 2: up_s is ''"),
        ("node,up_s,down_s\na,1,-2\n", "line 2: down_s is '-2'"),
        ("node,up_s,down_s\na,inf,2\n", "line 2: up_s is 'inf'"),
        ("node,up_s,down_s\n,1,2\n", "line 2: has no node"),
        ('node,up_s,down_s\n"a"b,1,2\n', "line 2: is no CSV"),
        ('{"node": "a", "up_s": 1, "down_s": 2}\n{"node"\n', "line 2: is no JSON"),
        ('{"node": "a"}\n', "line 1: up_s is ''"),
        ('{"up_s": 1}\n', "line 1: names no node"),
        ('{"node": true, "up_s": 1}\n', "line 1: names no node"),
        ('{"node": "a", "up_s": "1"}\n', "line 1: up_s is no number"),
        ('{"node": "a", "up_s": NaN}\n', "line 1: up_s is 'nan'"),
        ('{"node": "a", "up_s": 1, "off": 2}\n', "line 1: is no object of these names"),
        ('{"node": "a", "up_s": 1, "down_s": 2}\n[1]\n', "line 2: is no object of these names"),
        ("{" + '"a":[' * 50_000, "line 1: is no JSON"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load_trace(written(tmp_path, text))


def test_a_trace_of_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives_file, "ROWS_MAX", 2)
    with pytest.raises(ConfigurationError, match="line 5: is row 3; name a file of at most 2 sessions"):
        load_trace(written(tmp_path, CSV))


def test_a_trace_that_is_not_there_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        load_trace(tmp_path / "none")


# --- Churn -------------------------------------------------------------------------------------------------------


@dataclass
class FakeNode:
    is_up: bool = True


class FakeNetwork:
    """Nodes that are up or down, and a log of what was done to them."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        self.engine = Engine(seed)
        self.nodes = [FakeNode() for _ in range(nodes)]
        self.log: list[tuple[float, str, int]] = []

    def note(self, what: str, index: int) -> None:
        self.log.append((self.engine.now, what, index))

    def crash(self, index: int) -> None:
        assert self.nodes[index].is_up
        self.nodes[index].is_up = False
        self.note("crash", index)

    def shut_down(self, index: int, deadline_s: float = 5.0) -> None:
        assert self.nodes[index].is_up
        self.note("leave", index)
        self.engine.after(deadline_s, setattr, self.nodes[index], "is_up", False)

    def restart(self, index: int, *, keep_state: bool = True) -> None:
        assert not self.nodes[index].is_up
        self.nodes[index].is_up = True
        self.note("restart" if keep_state else "restart empty", index)

    def add(self) -> int:
        self.nodes.append(FakeNode())
        self.note("add", len(self.nodes) - 1)
        return len(self.nodes) - 1

    @property
    def up(self) -> int:
        return sum(node.is_up for node in self.nodes)


def story(seed: int) -> str:
    network = FakeNetwork(30, seed)
    churn = Churn(network, ChurnSettings(PHONE_SESSION, PHONE_ABSENCE, graceful_share=0.3, keep_state_share=0.5))
    churn.start()
    network.engine.run_until(5000.0)
    return repr((network.log, churn.counts))


def test_churn_keeps_the_share_of_nodes_up_that_its_lengths_say() -> None:
    network = FakeNetwork(500)
    churn = Churn(network, ChurnSettings(Exponential(300.0), Exponential(100.0), 0.25, 0.5, frozenset({0, 1})))
    churn.start()
    ups = []
    for time_s in range(1000, 6000, 50):
        network.engine.run_until(time_s)
        ups.append(network.up)
    assert sum(ups) / len(ups) == pytest.approx(500 * 0.75, rel=0.03)
    counts = churn.counts
    assert counts.leaves / (counts.leaves + counts.crashes) == pytest.approx(0.25, abs=0.03)
    assert counts.restarts_empty / counts.restarts == pytest.approx(0.5, abs=0.03)
    assert counts.crashes + counts.leaves == counts.restarts + churn.absent
    assert counts.crashes + counts.leaves == pytest.approx(500 * 6000 / 400, rel=0.05)
    assert counts.gone == 0
    assert {index for _, _, index in network.log} == set(range(2, 500))
    assert counts.leaves == sum(what == "leave" for _, what, _ in network.log)


def test_who_is_up_at_the_start_is_within_a_session() -> None:
    """Residual lengths: departures set in at once, at the rate of the steady state."""
    network = FakeNetwork(2000)
    Churn(network, ChurnSettings(Weibull(0.6, 1000.0), Never())).start()
    network.engine.run_until(60.0)
    assert 2000 - network.up == pytest.approx(2000 * 60 / Weibull(0.6, 1000.0).mean_s, rel=0.25)


def test_absent_at_once_takes_down_the_steady_share() -> None:
    network = FakeNetwork(1000)
    churn = Churn(network, ChurnSettings(Exponential(300.0), Exponential(100.0)))
    churn.start(absent_at_once=True)
    assert network.up == pytest.approx(750, abs=50)
    network.engine.run_until(200.0)
    assert network.up == pytest.approx(750, abs=50)
    with pytest.raises(CallerError, match="absences never end"):
        Churn(network, ChurnSettings(Exponential(300.0), Never())).start(absent_at_once=True)


def test_no_session_and_no_absence_is_shorter_than_a_second() -> None:
    network = FakeNetwork(1)
    Churn(network, ChurnSettings(Trace([0.0, 1e-6]), Trace([0.0, 1e-6]), graceful_share=0.5)).start()
    network.engine.run_until(100.0)
    times_s = [time_s for time_s, _, _ in network.log]
    assert len(times_s) > 20
    assert all(b - a >= LENGTH_S_MIN - 1e-9 for a, b in pairwise(times_s))


def test_after_stop_nothing_happens_and_a_new_start_goes_on() -> None:
    network = FakeNetwork(50)
    churn = Churn(network, ChurnSettings(Exponential(50.0), Exponential(50.0), graceful_share=0.5))
    churn.start()
    network.engine.run_until(200.0)
    churn.stop()
    logged, absent = len(network.log), churn.absent
    network.engine.run_until(1000.0)
    assert len(network.log) == logged
    assert churn.absent == absent == 50 - network.up > 0
    churn.start()
    network.engine.run_until(2000.0)
    assert {index for time_s, _, index in network.log if time_s > 1000} == set(range(50))
    churn.stop(bring_back=True)
    network.engine.run_until(2010.0)
    assert (network.up, churn.absent) == (50, 0)
    logged = len(network.log)
    network.engine.run_until(5000.0)
    assert len(network.log) == logged


@pytest.mark.parametrize("bring_back", [False, True])
def test_stopped_while_a_node_leaves(bring_back: bool) -> None:
    network = FakeNetwork(1)
    churn = Churn(network, ChurnSettings(Exponential(10.0), Exponential(10.0), 1.0, leave_deadline_s=30.0))
    churn.start()
    assert network.engine.run_while(lambda: not network.log, 1000.0)
    churn.stop(bring_back=bring_back)
    if not bring_back:
        churn.start()
    network.engine.run_until(network.engine.now + 500.0)
    assert [what for _, what, _ in network.log[:2]] == ["leave", "restart"]
    assert network.log[1][0] - network.log[0][0] >= 30.0


def test_what_others_stop_or_start_is_left_alone() -> None:
    network = FakeNetwork(2)
    churn = Churn(network, ChurnSettings(Exponential(50.0), Exponential(50.0), exempt=frozenset({1})))
    churn.start()
    network.crash(0)
    network.engine.run_until(1000.0)
    assert [what for _, what, _ in network.log] == ["crash"]
    network.restart(0)
    assert network.engine.run_while(lambda: len(network.log) < 3, 1000.0)  # churn stops it again
    network.restart(0)  # another brings it back before churn does
    network.engine.run_until(3000.0)
    assert churn.counts.crashes > 2
    assert network.nodes[1].is_up


def test_who_is_gone_for_good_is_replaced() -> None:
    network = FakeNetwork(20)
    churn = Churn(network, ChurnSettings(Exponential(50.0), Never()), replace=network.add)
    churn.start()
    network.engine.run_until(1000.0)
    assert network.up == 20
    assert churn.counts.gone == churn.counts.crashes == len(network.nodes) - 20 > 200
    assert (churn.counts.restarts, churn.absent) == (0, 0)
    assert max(index for _, what, index in network.log if what == "crash") > 100  # the new ones go as well


def test_who_joins_has_a_session_of_its_own() -> None:
    network = FakeNetwork(1)
    churn = Churn(network, ChurnSettings(Exponential(50.0), Exponential(50.0), exempt=frozenset({0})))
    churn.added(0)
    churn.start()
    index = network.add()
    churn.added(index)
    churn.added(index)
    network.engine.run_until(500.0)
    assert {i for _, what, i in network.log if what == "crash"} == {index}


def test_never_is_no_churn() -> None:
    network = FakeNetwork(10)
    churn = Churn(network, ChurnSettings(Never(), Exponential(5.0)))
    churn.start(absent_at_once=True)
    network.engine.run_until(1e7)
    assert (network.log, network.engine.events) == ([], 0)


def test_same_seed_same_lives_in_another_process_with_another_order_of_hashes() -> None:
    told = set()
    for hash_seed in ("0", "12345"):
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed, PYTHONPATH=str(Path(__file__).parent))
        made = subprocess.run(
            [sys.executable, "-c", "from test_sim_lives import story; print(story(7))"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment,
        )
        told.add(made.stdout)
    assert told == {story(7) + "\n"}
    assert story(8) != story(7)
