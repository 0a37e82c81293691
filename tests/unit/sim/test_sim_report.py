"""The report and the terminal's summary: what a reader is told, whatever a scenario contains."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sim_synthetic import FakeRun, FakeScenario, empty_run, made_up_run, scenario_values

from mediadht_sim.happenings import happenings, phases
from mediadht_sim.report import write_report
from mediadht_sim.report.page import render
from mediadht_sim.report.setting import setting
from mediadht_sim.summary import show
from mediadht_sim.tables import Violated, results_of, write_results
from mediadht_sim.wording import plain, said

HOSTILE = '</style></svg><script>alert(1)</script><img src="http://evil.example/x">{{ 7*7 }} \x1b[31m \u202e $x^2$'


class Page(HTMLParser):
    """Tags, identifiers, and text; fails on anything that would be fetched or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action")
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href"):
                assert (value or "").startswith("#")
            if tag == "svg" and name == "aria-label":
                self.labels.append(value or "")


@pytest.fixture(scope="module")
def page() -> str:
    return render(results_of(made_up_run()))


def shown(run: FakeRun, folder: Path | None = None) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        show(run, console, folder)
    return capture.get()


def test_the_page_stands_alone(page: str) -> None:
    parsed = Page(page)
    assert parsed.tags.count("svg") == len(parsed.labels) == 12
    assert all(len(label) > 30 for label in parsed.labels)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert len(page.encode()) < 500_000
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(svg)
        used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg))
        assert {first or second for first, second in used} <= set(re.findall(r'id="([^"]*)"', svg))


def test_the_verdict_comes_first_and_the_story_is_told(page: str) -> None:
    order = ["Failed: one violation", "What was simulated", "What happened when", "Over time", "The same run again"]
    assert sorted(order, key=page.index) == order
    assert "500 honest nodes" in page
    assert "mediadht-sim run scenario.toml --seed 7" in page
    assert "while cut apart" in page


def test_equal_results_give_equal_pages(page: str, tmp_path: Path) -> None:
    slower = made_up_run()
    slower.wall_s = 99.0
    path = write_report(write_results(slower, tmp_path))
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == page


def test_an_empty_run_has_a_page_and_a_summary() -> None:
    page = render(results_of(empty_run()))
    assert "Nothing was measured" in page
    assert Page(page).tags.count("svg") == 0
    assert "Nothing was measured" in shown(empty_run())


def test_lookups_only_and_announcements_only_have_pages() -> None:
    for kind in ("lookup", "announce"):
        run = made_up_run(nodes=5)
        run.lookups = [row for row in run.lookups if row[1] == kind]
        assert "<svg" in render(results_of(run))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    values: dict[str, Any] = scenario_values()
    values["name"] = values["about"] = HOSTILE
    values["events"] = [{"at_s": 5.0, "kind": HOSTILE}]
    values["workloads"] = [{"kind": HOSTILE}]
    values["adversaries"] = [{"strategy": HOSTILE, "share": 0.1, "starts_at_s": 9.0}]
    values["latency"] = {"model": HOSTILE, "file": HOSTILE}
    values["constants"] = {HOSTILE: HOSTILE}
    run = made_up_run(nodes=5)
    run.scenario = FakeScenario(values)
    run.violations = [Violated(HOSTILE, 5.0, None, HOSTILE)] * 60
    page = write_report(write_results(run, tmp_path)).read_text(encoding="utf-8")
    assert "script" not in Page(page).tags
    assert "img" not in Page(page).tags
    assert "49" not in re.sub(r"<svg.*?</svg>|<table.*?</table>", "", page[: page.index("What was simulated")])
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "And 10 more" in page
    text = shown(run, tmp_path)
    assert "\x1b" not in text
    assert "and 50 more" in text


def test_a_scenario_of_wrong_types_is_told_without_a_fault() -> None:
    odd: dict[str, Any] = {"events": 3, "network": [], "workloads": [7, {"kind": None}], "checks": 1, "duration_s": 5.0}
    assert setting(odd)
    assert happenings(odd) == []


def test_every_event_and_workload_has_words() -> None:
    kinds = ("crash", "freeze", "thaw", "leave", "restart", "join", "slow", "partition", "heal")
    told = happenings({"duration_s": 99.0, "events": [{"at_s": 1.0, "kind": kind, "count": 1} for kind in kinds]})
    assert len(told) == len(kinds)
    works = ("mix", "flash-crowd", "zipf", "uploads", "joins", "mass-republish")
    [(_, words)] = setting({"workloads": [{"kind": kind} for kind in works]})
    assert "of the kind" not in words


def test_phases_are_cut_where_something_happens() -> None:
    found = phases(results_of(made_up_run()))
    assert [(one.from_s, one.to_s, one.words) for one in found] == [
        (0.0, 200.0, "before anything happens"),
        (200.0, 350.0, "while cut apart"),
        (350.0, 450.0, "after healing"),
        (450.0, 600.0, "after the crash"),
    ]
    assert (found[1].figures["success_share"] or 0) < 0.8 < (found[2].figures["success_share"] or 0)


def test_the_summary_says_what_to_do_next(tmp_path: Path) -> None:
    text = shown(made_up_run(), tmp_path)
    assert "violation findable, node 42 at 355 s" in text
    assert "mediadht-sim report" in text
    assert f"mediadht-sim run {tmp_path / 'scenario.toml'} --seed 7" in text


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "ms", "-"),
        (0.99999, "share", "99.999 %"),
        (0.9999999, "share", "over 99.999 %"),
        (1e-9, "share", "under 0.001 %"),
        (1.0, "share", "100 %"),
        (0.1, "share", "10 %"),
        (0.123, "share", "12.3 %"),
        (4.26, "ms", "4.3 ms"),
        (1234, "ms", "1.23 s"),
        (2345, "B/s", "2.3 kB/s"),
        (4412, "", "4,412"),
        (86400, "s", "24 h"),
    ],
)
def test_numbers_are_said_with_their_units(value: float | None, unit: str, words: str) -> None:
    assert said(value, unit) == words


def test_control_characters_are_not_passed_on() -> None:
    assert plain("a\x1b[0m\x00\u202eb\tc\n") == "a\ufffd[0m\ufffd\ufffdb\tc\n"
