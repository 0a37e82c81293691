"""`mediadht-sim` with a simulator that is none: options, exit codes, what is printed and where."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mediadht import __version__
from mediadht.core.errors import EnvironmentFault
from mediadht_sim.cli import progress as progress_module
from mediadht_sim.cli.exit_codes import EXIT_CODE_MEANINGS, ExitCode
from mediadht_sim.cli.main import main
from mediadht_sim.cli.progress import RunProgress
from mediadht_sim.scenario import Scenario
from mediadht_sim.scenario_file import scenario_to_toml

MINIMAL = 'name = "x"\n[network]\nnodes = 10\n'


@dataclass
class Fake:
    """The modules behind the commands. `trace` and `violations` are what the next run gives; `fault` it raises."""

    runs: list[tuple[Scenario, int | None]] = field(default_factory=list)
    trace: str = "abc"
    violations: tuple[str, ...] = ()
    fault: BaseException | None = None
    calls: list[Any] = field(default_factory=list)
    found: Any = None

    def run(self, scenario: Scenario, seed: int | None = None, progress: Any = None) -> Any:
        self.runs.append((scenario, seed))
        progress(1.0, 10.0, "measuring")
        progress(2.0, 10.0, "measuring", 500)
        if self.fault is not None:
            raise self.fault
        return types.SimpleNamespace(scenario=scenario, seed=seed, trace=self.trace, violations=self.violations)

    def write_results(self, result: Any, folder: Path) -> Path:
        (folder / "scenario.toml").write_text(scenario_to_toml(result.scenario))
        summary = {"seed": result.seed, "trace": result.trace, "version": __version__}
        (folder / "summary.json").write_text(json.dumps(summary) + "\n")
        return folder

    def write_report(self, folder: Path) -> Path:
        (folder / "report.html").write_text("")
        return folder / "report.html"

    def show(self, result: Any, console: Any, folder: Path) -> None:
        console.print("THE SUMMARY")

    def compare(self, a: Path, b: Path) -> str:
        return f"{a.name} against {b.name}"

    def sweep(self, *args: Any, **options: Any) -> Any:
        self.calls.append((args, options))
        return types.SimpleNamespace(points=[], rows=[], resumed=0, failed=0, violations=len(self.violations))

    def fuzz(self, *args: Any, **options: Any) -> Any:
        self.calls.append((args, options))
        return types.SimpleNamespace(seeds=1, failures=self.found or [], virtual_s=1.0, messages=1, wall_s=1.0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    behind = Fake()
    for module, names in {
        "run": ["run"],
        "tables": ["write_results"],
        "report": ["write_report"],
        "summary": ["show"],
        "compare": ["compare"],
        "sweep": ["sweep"],
        "fuzz": ["fuzz"],
    }.items():
        stub = types.ModuleType(f"mediadht_sim.{module}")
        for name in names:
            setattr(stub, name, getattr(behind, name))
        monkeypatch.setitem(sys.modules, f"mediadht_sim.{module}", stub)
        monkeypatch.setattr(f"mediadht_sim.{module}", stub, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text(MINIMAL)
    return behind


def test_run(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x.toml", "--seed", "7", "--set", "network.nodes=20"]) == ExitCode.OK
    [(scenario, seed)] = fake.runs
    assert (scenario.network.nodes, scenario.seed, seed) == (20, 7, 7)
    out = capsys.readouterr().out
    assert "THE SUMMARY" in out
    assert "Written to out/x-7:" in out
    assert {path.name for path in Path("out/x-7").iterdir()} == {"scenario.toml", "summary.json", "report.html"}


def test_run_by_name_quietly_and_without_a_report(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "baseline", "-q", "--no-report", "--out", "there"]) == ExitCode.OK
    assert capsys.readouterr() == ("", "")
    assert not Path("there/report.html").exists()


def test_run_as_json(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x.toml", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"seed": 1, "trace": "abc", "version": __version__}


def test_a_violation_has_an_exit_code(fake: Fake) -> None:
    fake.violations = ("bounds",)
    assert main(["run", "x.toml"]) == ExitCode.VIOLATED


def test_results_are_not_overwritten_silently(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x.toml"]) == ExitCode.OK
    assert main(["run", "x.toml"]) == ExitCode.USAGE
    assert "out/x-1 is not empty: choose another with --out, or overwrite it with --force" in capsys.readouterr().err
    assert len(fake.runs) == 1, "it must be found out before the simulation"
    assert main(["run", "x.toml", "--force", "--no-report"]) == ExitCode.OK
    assert not Path("out/x-1/report.html").exists(), "the old report would tell of other results"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "chrn"], ExitCode.SCENARIO, "the nearest known one is churn"),
        (["run", "x.toml", "--set", "network.nods=5"], ExitCode.SCENARIO, "the nearest known one is nodes"),
        (["run", "x.toml", "--seed", "-1"], ExitCode.USAGE, "--seed"),
        (["run", "x.toml", "--out", "x.toml"], ExitCode.USAGE, "--out"),
        (["run"], ExitCode.USAGE, "SCENARIO"),
        (["rnu"], ExitCode.USAGE, "rnu"),
        (["replay", "nowhere"], ExitCode.USAGE, "neither a folder with results nor a seed"),
        (["replay", "."], ExitCode.USAGE, "holds no results"),
        (["replay", "5", "--set", "network.nodes=5"], ExitCode.USAGE, "--set needs --scenario"),
        (["sweep", "x.toml", "--vary", "network.nodes"], ExitCode.USAGE, "write KEY=V1,V2"),
        (["sweep", "x.toml", "--scheduler", "tcp://a:1", "--workers", "2"], ExitCode.USAGE, "--workers"),
        (["fuzz", "--minutes", "0"], ExitCode.USAGE, "--minutes"),
        (["report", "nowhere"], ExitCode.USAGE, "nowhere"),
    ],
)
def test_mistakes(
    fake: Fake, capsys: pytest.CaptureFixture[str], arguments: list[str], code: ExitCode, said: str
) -> None:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert said in err
    assert (out, fake.runs) == ("", [])
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "mediadht-sim: interrupted"),
        (MemoryError(), ExitCode.ENVIRONMENT, "memory is full: choose fewer nodes"),
        (OSError(28, "No space left on device", "/x"), ExitCode.ENVIRONMENT, "/x: No space left on device"),
        (EnvironmentFault("the disk refuses"), ExitCode.ENVIRONMENT, "the disk refuses"),
        (ModuleNotFoundError("no", name="pyarrow"), ExitCode.ENVIRONMENT, "pip install 'mediadht[sim]'"),
        (ModuleNotFoundError("no", name="mediadht_sim.x"), ExitCode.MISTAKE, "a mistake in mediadht-sim itself"),
        (ZeroDivisionError("oh"), ExitCode.MISTAKE, "a mistake in mediadht-sim itself"),
    ],
)
def test_faults(
    fake: Fake, capsys: pytest.CaptureFixture[str], fault: BaseException, code: ExitCode, said: str
) -> None:
    fake.fault = fault
    assert main(["run", "x.toml"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert ("Traceback" in err) == (code is ExitCode.MISTAKE)


def test_replay_of_a_folder(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x.toml", "--seed", "7", "-q"]) == ExitCode.OK
    assert main(["replay", "out/x-7", "-q"]) == ExitCode.OK
    assert "equal: abc" in capsys.readouterr().out
    assert fake.runs[0] == fake.runs[1]
    fake.trace = "def"
    assert main(["replay", "out/x-7"]) == ExitCode.VIOLATED
    assert "differ: abc and def" in capsys.readouterr().out
    Path("out/x-7/summary.json").write_text("{")
    assert main(["replay", "out/x-7"]) == ExitCode.ENVIRONMENT


def test_replay_of_a_seed_runs_twice(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "9", "--scenario", "x.toml"]) == ExitCode.OK
    assert [seed for _, seed in fake.runs] == [9, 9]
    assert "The traces are equal" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == ExitCode.OK
    assert "partition-heal" in capsys.readouterr().out
    assert main(["list", "--json"]) == ExitCode.OK
    rows = json.loads(capsys.readouterr().out)
    assert all(Path(row["path"]).is_file() and row["about"] for row in rows)


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "clock_skew"]) == ExitCode.OK
    assert "links.clock_skew_s" in capsys.readouterr().out


def test_sweep(fake: Fake) -> None:
    vary = ["--vary", "constants.ALPHA=2,3", "--vary", "network.start=settled,joined"]
    assert main(["sweep", "x.toml", *vary, "--seeds", "3", "--workers", "2", "--json"]) == ExitCode.OK
    [(args, options)] = fake.calls
    _, varied, seeds, out = args
    assert varied == {"constants.ALPHA": [2, 3], "network.start": ["settled", "joined"]}
    assert (seeds, out, options) == (3, Path("out/x-sweep"), {"scheduler": None, "workers": 2})


def test_report_compare_fuzz(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").mkdir()
    Path("b").mkdir()
    assert main(["report", "a"]) == ExitCode.OK
    assert main(["compare", "a", "b"]) == ExitCode.OK
    assert "a against b" in capsys.readouterr().out
    assert main(["fuzz", "--minutes", "0.1", "--seed-start", "5"]) == ExitCode.OK
    assert fake.calls[-1] == ((0.1, 5, 60, None, None), {"only_seed": None, "failures_max": 1})
    assert "nothing found" in capsys.readouterr().out
    fake.found = [types.SimpleNamespace(said=lambda: "seed 7 fails")]
    assert main(["fuzz"]) == ExitCode.VIOLATED
    assert "seed 7 fails" in capsys.readouterr().out


def test_the_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert all(f"{code:>3}  {meaning}" in out for code, meaning in EXIT_CODE_MEANINGS.items())
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 9.0, 10.0, 15.0, 20.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with RunProgress("x", is_quiet=False) as told:
        for step in range(1, 5):
            told(10.0 * step, 80.0, "measuring", 1_000 * step)
    assert capsys.readouterr().err.splitlines() == [
        "x: measuring, 20 of 80 s (25%), 1,000 messages/s, 10 virtual s/s, about 30 s left",
        "x: measuring, 40 of 80 s (50%), 200 messages/s, 2 virtual s/s, about 20 s left",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with RunProgress("x", is_quiet=False) as told:
        told(10.0, 80.0, "measuring [bold]", 1_000)
    assert "of 80 s" not in capsys.readouterr().err
