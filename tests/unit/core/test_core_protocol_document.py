"""`docs/protocol.md` and the code say the same: sections, codes, constants."""

from __future__ import annotations

import re
from pathlib import Path

from mediadht.core import constants
from mediadht.core.errors import Code

REPOSITORY = Path(__file__).parents[3]
DOCUMENT = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^##+ (.+)$", DOCUMENT, re.MULTILINE)


def section(name: str) -> str:
    return DOCUMENT.split(f"\n## {name}\n")[1].split("\n## ")[0]


def test_every_section_that_a_module_cites_is_there() -> None:
    cited: dict[str, str] = {}
    for folder in ("mediadht", "simulations", "bridge"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            text = " ".join(path.read_text(encoding="utf-8").split())
            for names in re.findall(r"protocol\.md`, sections? ((?:\"[^\"]+\"(?:, | and )?)+)", text):
                cited |= dict.fromkeys(re.findall(r'"([^"]+)"', names), path.name)
    assert len(cited) >= 15
    assert {name: where for name, where in cited.items() if name not in SECTIONS} == {}


def test_every_error_code_is_in_the_table_and_no_other() -> None:
    rows = [line.split("|")[1] for line in section("Error codes").splitlines() if line.startswith("| `")]
    named = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(code.value for code in Code)


def test_every_constant_named_in_capitals_exists_and_the_table_has_each_that_the_text_uses() -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", DOCUMENT))
    assert {name for name in named if not hasattr(constants, name)} == set()
    table = set(re.findall(r"`([A-Z][A-Z_]*)`", section("Constants")))
    assert named - table == set()


def test_the_values_in_the_table_are_those_of_the_code() -> None:
    units = {"h": 3_600.0, "ms": 0.001, "s": 1.0, "": 1.0}
    for line in section("Constants").splitlines():
        names = re.findall(r"`([A-Z][A-Z_]*)`", line.split("|")[1]) if line.startswith("|") else []
        if not names:
            continue
        found = re.findall(r"(\d[\d,.]*\d|\d)(?: (h|ms|s)\b)?", line.split("|")[2])
        values = [float(number.replace(",", "")) * units[unit] for number, unit in found][: len(names)]
        assert values == [float(getattr(constants, name)) for name in names], line


def test_links_lead_to_headings() -> None:
    anchors = {re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-") for name in SECTIONS}
    assert set(re.findall(r"\]\(#([^)]+)\)", DOCUMENT)) <= anchors
