"""Scenarios from files: what is taken, and that every mistake is told with its line and the nearest right key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediadht.core import constants
from mediadht.core.errors import ConfigurationError
from mediadht_sim.scenario import Exponential, Lives, Network, Scenario
from mediadht_sim.scenario_constants import changeable
from mediadht_sim.scenario_events import Partition
from mediadht_sim.scenario_file import (
    SCENARIO_BYTES_MAX,
    ScenarioError,
    load_scenario,
    scenario_from_toml,
    scenario_paths,
    scenario_to_toml,
)
from mediadht_sim.scenario_reference import reference
from mediadht_sim.scenario_workloads import Mix, Zipf

MINIMAL = 'name = "x"\n[network]\nnodes = 100\n'


def fault(text: str, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        scenario_from_toml(text, overrides, origin="x.toml")
    return str(caught.value)


def test_a_name_and_a_number_of_nodes_are_a_scenario() -> None:
    scenario = scenario_from_toml(MINIMAL)
    assert scenario == Scenario(name="x", network=Network(nodes=100))
    assert scenario.workloads == (Mix(),)


def test_the_scenarios_that_come_with_it() -> None:
    expected = "baseline churn cold-restart flash-crowd lossy mass-republish partition-heal sybil-eclipse"
    assert sorted(scenario_paths()) == expected.split()
    for name, path in scenario_paths().items():
        scenario = load_scenario(name)
        assert scenario == load_scenario(path) == load_scenario(str(path))
        assert scenario.name == name
        assert len(scenario.about.split()) > 30, "it must explain itself to somebody who was not there"


@pytest.mark.parametrize("name", sorted(scenario_paths()))
def test_a_scenario_as_run_is_read_back_the_same(name: str) -> None:
    scenario = load_scenario(name, ["network.nodes=12", "constants.ALPHA=5"] if name == "baseline" else [])
    assert scenario_from_toml(scenario_to_toml(scenario)) == scenario
    assert Scenario.model_validate_json(scenario.model_dump_json()) == scenario


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'name = "x"\n[network]\nnods = 5',
            r"x.toml:3: unknown key nods in \[network\]: the nearest known one is nodes",
        ),
        ('name = "x"\nnodse = 5', r"x.toml:2: unknown key nodse: nodes stands below \[network\]"),
        ('name = "x"\n[netwrk]\nnodes = 5', r"x.toml:2: unknown key netwrk: the nearest known one is network"),
        (
            'name = "x"\n\n[network]\nnodes = 1',
            r"x.toml:4: network.nodes = 1: .*greater than or equal to 2; allowed: wh",
        ),
        ('name = "x"\n[network]\nnodes = "1"', r"x.toml:3: network.nodes = \"1\": .*valid integer"),
        ('name = "x"\n[network]\nnodes = true', r"x.toml:3: network.nodes = true"),
        ('name = "x"\n[network]\nstart = "setled"', r"x.toml:3: network.start = .*the nearest known one is settled"),
        ('name = "x"\nnetwork = 5', r"x.toml:2: network = 5: it must be a table"),
        ('name = "x"\nworkloads = 5', r"x.toml:2: workloads = 5: it must be a list"),
        ('name = "x"\n[links]\nloss = nan', r"x.toml:3: links.loss = NaN: .*finite"),
        ('name = "../x"', r"x.toml:1: name = "),
        ("[network]\nnodes = 5", r"x.toml:1: name is missing: write name = "),
        (
            'name = "x"\n[[workloads]]\nkind = "mxi"',
            r"x.toml:3: workloads.0.kind = \"mxi\": .*nearest known one is mix",
        ),
        ('name = "x"\n[[workloads]]\nsubjects = 5', r"x.toml:2: workloads.0.kind is missing: write one of mix, "),
        (
            'name = "x"\n[[workloads]]\nkind = "mix"\n[[workloads]]\nkind = "zipf"\nexponnt = 1',
            r"x.toml:6: unknown key exponnt in \[workloads.1\] of zipf: the nearest known one is exponent",
        ),
        (
            'name = "x"\n[lives]\nsession = {kind = "weibull", shape = 0.5}',
            r"x.toml:3: lives.session.scale_s is missing",
        ),
        ('name = "x"\n[latency]\nmodel = "planetlab"', r"x.toml:2: latency.file is missing"),
        ('name = "x"\n[latency]\nmodel = "planetlab"\nfile = "no"', r"x.toml:4: latency.file = 'no': there is no such"),
        ('name = "x"\n[constants]\nALHPA = 5', r"x.toml:3: constants.ALHPA: unknown constant: .*ALPHA"),
        ('name = "x"\n[constants]\nK = 5', r"x.toml:3: constants.K: .*network.k"),
        ('name = "x"\n[constants]\nID_BYTES = 5', r"x.toml:3: constants.ID_BYTES: .*form of messages"),
        ('name = "x"\n[constants]\nALPHA = 2.5', r"x.toml:3: constants.ALPHA: .*whole number, like 3"),
        ('name = "x"\n[constants]\nTICK_S = 0', r"x.toml:3: constants.TICK_S: .*above 0"),
        ('name = "x"\n[constants]\nTICK_S = "5"', r"x.toml:3: constants.TICK_S"),
        ('name = "x"\n[constants]\nNEIGHBOURHOOD_DELAYS_S = 5', r"x.toml:3: constants.NEIGHBOURHOOD_DELAYS_S: .*list"),
        ('name = "x"\nduration_s = 60\ninterval_s = 61', r"x.toml:3: interval_s: longer than duration_s"),
        ('name = "x"\n[[events]]\nkind = "heal"\nat_s = 5', r"x.toml:4: events.0.at_s: nothing is cut"),
        ('name = "x"\n[[events]]\nkind = "crash"\nat_s = 5', r"x.toml:2: events.0: how many\?"),
        ('name = "x"\n[[events]]\nkind = "crash"\nat_s = 5\ncount = 101', r"x.toml:5: events.0.count: more than"),
        (
            'name = "x"\n[[events]]\nkind = "crash"\nat_s = 601\nshare = 0.5',
            r"x.toml:4: events.0.at_s: ends at 601 s, af",
        ),
        (
            'name = "x"\n[[events]]\nkind = "crash"\nat_s = 599\nover_s = 2\nshare = 0.5',
            r"x.toml:4: events.0.at_s: ends at 601 s",
        ),
        (
            'name = "x"\n[[events]]\nkind = "crash"\nat_s = 5\ncount = 1\nshare = 0.5',
            r"x.toml:5: events.0.count: share says it already",
        ),
        (
            'name = "x"\n[[events]]\nkind = "partition"\nat_s = 5\nshares = [0.5, 0.6]',
            r"x.toml:5: events.0.shares: they add up to 1.1",
        ),
        (
            'name = "x"\n[[events]]\nkind = "partition"\nat_s = 5\nshare = 0.5\ngroups = 2',
            r"x.toml:5: events.0.share: groups says it already",
        ),
        (
            'name = "x"\n[[workloads]]\nkind = "mix"\nstarts_at_s = 600',
            r"x.toml:4: workloads.0.starts_at_s: not before",
        ),
        (
            'name = "x"\n[[workloads]]\nkind = "mix"\nstarts_at_s = 60\nends_at_s = 60',
            r"x.toml:5: workloads.0.ends_at_s: write more than",
        ),
        (
            'name = "x"\n[[workloads]]\nkind = "flash-crowd"\nstarts_at_s = 595',
            r"x.toml:4: workloads.0.starts_at_s: its last start is 10 s later",
        ),
        (
            'name = "x"\n[network]\nnodes = 9\n[[workloads]]\nkind = "flash-crowd"\nseeders = 10',
            r"x.toml:6: workloads.0.seeders: more than network.nodes = 9",
        ),
        ('name = "x"\n[network]\nnodes = 9\nk = 10', r"x.toml:4: network.k: more than network.nodes = 9"),
        (
            'name = "x"\n[[adversaries]]\nstrategy = "eclipse"\ncount = 5\ntarget = 100',
            r"x.toml:5: adversaries.0.target: there is no node 100",
        ),
        ("a = 1\nb = \nc = 2", r"x.toml:2: not TOML: Invalid value, column 5"),
        ('a = 1\nb = """', r"x.toml:2: not TOML"),
        ("a = 1\na = 2", r"x.toml:2: not TOML"),
        ("a = " + "[" * 5_000, r"x.toml: not a scenario: nested too deeply"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    assert re.match(said, fault(text)), fault(text)


def test_all_mistakes_are_told_at_once_each_in_a_line() -> None:
    lines = fault("name = 5\nseed = -1\n[network]\nnodes = 1\nk = 0").splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["x.toml:1", "x.toml:2", "x.toml:4", "x.toml:5"]
    many = "".join(f"key{number} = 1\n" for number in range(100))
    assert fault(f'name = "x"\n{many}').splitlines()[-1] == "and 80 more"


def test_a_scenario_error_is_a_configuration_error() -> None:
    assert issubclass(ScenarioError, ConfigurationError)


@pytest.mark.parametrize(
    ("override", "of"),
    [
        ("seed=7", lambda s: s.seed == 7),
        ("network.nodes=50", lambda s: s.network.nodes == 50),
        ("network.start=joined", lambda s: s.network.start == "joined"),
        ('network.start="joined"', lambda s: s.network.start == "joined"),
        ("about=it is [so", lambda s: s.about == "it is [so"),
        ("about=a=b", lambda s: s.about == "a=b"),
        ("workloads.0.lookups_per_s=50", lambda s: s.workloads == (Mix(lookups_per_s=50.0),)),
        ("workloads.1={kind='zipf'}", lambda s: s.workloads == (Mix(), Zipf())),
        ("workloads.1.kind=zipf", lambda s: s.workloads == (Mix(), Zipf())),
        ("workloads=[]", lambda s: s.workloads == ()),
        ("events=[{kind='partition', at_s=5}]", lambda s: s.events == (Partition(at_s=5.0),)),
        ("latency.median_ms=30", lambda s: s.latency.median_ms == 30),
        ("lives.absence.mean_s=30", lambda s: s.lives == Lives(absence=Exponential(mean_s=30.0))),
        ("lives.session={kind='exponential', mean_s=30}", lambda s: s.lives.session == Exponential(mean_s=30.0)),
        ("constants.TICK_S=2", lambda s: s.constants == {"TICK_S": 2.0}),
        ("constants.NEIGHBOURHOOD_DELAYS_S=[0, 1]", lambda s: s.constants["NEIGHBOURHOOD_DELAYS_S"] == (0.0, 1.0)),
    ],
)
def test_settings(override: str, of: Any) -> None:
    assert of(scenario_from_toml(MINIMAL, [override]))
    assert of(scenario_from_toml(MINIMAL).with_settings([override]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nodes", "--set nodes: write key=value"),
        ("=5", "--set =5: write key=value"),
        ("network.nods=5", "--set network.nods=5: unknown key nods in [network]: the nearest known one is nodes"),
        ("network.nodes=many", '--set network.nodes=many: network.nodes = "many"'),
        ("network={nodes=1}", "--set network={nodes=1}: network.nodes = 1"),
        ("workloads.2.kind=zipf", "--set workloads.2.kind=zipf: workloads is a list of 1"),
        ("workloads.kind=zipf", "--set workloads.kind=zipf: workloads is a list of 1"),
        ("network.0=1", "--set network.0=1: network is no list"),
        ("name.x=1", "--set name.x=1: name is no table"),
        ("latency={model='planetlab', file='no'}", "--set latency={model='planetlab', file='no'}: latency.file"),
    ],
)
def test_mistakes_in_settings_name_the_setting(override: str, said: str) -> None:
    assert fault(MINIMAL, override).startswith(said)


def test_values_of_a_sweep() -> None:
    scenario = scenario_from_toml(MINIMAL, ["lives.session={kind='exponential', mean_s=30}"])
    varied = scenario.with_values({"network.nodes": 50, "lives.session.mean_s": 60.0, "constants.ALPHA": 5})
    assert (varied.network.nodes, varied.lives.session, varied.constants) == (
        50,
        Exponential(mean_s=60.0),
        {"ALPHA": 5},
    )
    assert scenario.with_values({}) == scenario
    with pytest.raises(ScenarioError, match=r"--set network.nodse=3: unknown key"):
        scenario.with_values({"network.nodse": 3})


def test_paths_are_relative_to_the_file_and_in_settings_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "trace.txt").write_text("60\n")
    file = tmp_path / "a" / "scenario.toml"
    file.write_text('name = "x"\n[lives]\nsession = {kind = "trace", file = "trace.txt"}\n')
    monkeypatch.chdir(tmp_path / "b")
    assert load_scenario(file).lives.session.file == str(tmp_path / "a" / "trace.txt")  # type: ignore[union-attr]
    there = load_scenario(file, ["lives.session.file=trace.txt"])
    assert there.lives.session.file == str(tmp_path / "b" / "trace.txt")  # type: ignore[union-attr]
    assert load_scenario(tmp_path / "a") == load_scenario(file)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"chrn: neither a file nor .* nearest known one is churn"):
        load_scenario("chrn")
    with pytest.raises(ScenarioError, match=r"no/churn.toml: there is no such file; the nearest known one is churn"):
        load_scenario("no/churn.toml")
    file = tmp_path / "x.toml"
    file.write_bytes(b'name = "x"\nabout = "\xff"')
    with pytest.raises(ScenarioError, match=r"x.toml:2: byte 20 is not UTF-8"):
        load_scenario(file)
    file.write_bytes(b"#" * SCENARIO_BYTES_MAX)
    with pytest.raises(ScenarioError, match="name is missing"):
        load_scenario(file)
    file.write_bytes(b"#" * (SCENARIO_BYTES_MAX + 1))
    with pytest.raises(ScenarioError, match="larger than 1 MiB"):
        load_scenario(file)


def test_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b'name = "x"\r\n# so\r\n[network]\r\nnods = 5\r\n')
    with pytest.raises(ScenarioError, match=r"x.toml:4: unknown key nods"):
        load_scenario(file)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2_000), st.floats(-5, 2_000), st.text("abc.", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text("abc", min_size=1), inner, max_size=2)
    ),
    max_leaves=4,
)
_KEYS = sorted({f"{r.table}.{r.key}".lstrip(".").replace("s.", "s.0.") for r in reference()})


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4))
def test_whatever_is_laid_over_it_a_scenario_is_right_or_refused(values: dict[str, Any]) -> None:
    try:
        scenario = Scenario(name="x").with_values(values)
    except ScenarioError:
        return
    assert scenario_from_toml(scenario_to_toml(scenario)) == scenario


def test_every_constant_can_be_set_to_what_it_is() -> None:
    for name, value in changeable().items():
        scenario = Scenario(name="x", constants={name: value})
        assert scenario.constants == {name: getattr(constants, name)}
        assert type(scenario.constants[name]) is type(value)
    assert "K" not in changeable()


def test_every_key_says_what_it_is() -> None:
    assert [row for row in reference() if not row.description.endswith(".")] == []


def test_what_is_written_is_toml() -> None:
    assert tomllib.loads(scenario_to_toml(Scenario(name="x")))["network"]["nodes"] == 100
