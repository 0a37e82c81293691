"""`docs/simulation.md` holds what the code holds: its tables are made of it. Run this file to write them again."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mediadht_sim.cli.exit_codes import EXIT_CODE_MEANINGS
from mediadht_sim.columns import TABLES
from mediadht_sim.metrics import METRICS
from mediadht_sim.scenario_file import scenario_from_toml
from mediadht_sim.scenario_reference import markdown, reference

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "simulation.md"


def exit_codes() -> str:
    rows = ((f"{code:d}", meaning) for code, meaning in EXIT_CODE_MEANINGS.items())
    return "| exit code | meaning |\n| --- | --- |\n" + _rows(rows)


def columns() -> str:
    parts = []
    for table in TABLES:
        rows = ((f"`{c.name}`", c.kind + (", or null" if c.nullable else ""), c.unit, c.meaning) for c in table.columns)
        heading = "| column | type | unit | meaning |\n| --- | --- | --- | --- |\n"
        parts.append(f"### `{table.name}.parquet`\n\nA row is {table.row}.\n\n{heading}{_rows(rows)}")
    return "\n\n".join(parts)


def metrics() -> str:
    rows = ((f"`{m.name}`", m.unit, m.better, m.meaning) for m in METRICS)
    return "| metric | unit | better | meaning |\n| --- | --- | --- | --- |\n" + _rows(rows)


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


PARTS: dict[str, Callable[[], str]] = {
    "exit codes": exit_codes,
    "columns": columns,
    "metrics": metrics,
    "reference": lambda: markdown().rstrip("\n"),
}


def written(name: str) -> str:
    """What the document has after the mark of that name, until its end."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- end -->", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None, f"docs/simulation.md has no part <!-- {name} --> ... <!-- end -->"
    return found.group(1)


@pytest.mark.parametrize("name", PARTS)
def test_the_document_is_as_the_code_is(name: str) -> None:
    assert written(name) == PARTS[name](), f"run python {Path(__file__).name} to write docs/simulation.md again"


def test_every_key_is_in_the_document() -> None:
    text = DOCUMENT.read_text()
    assert [row.key for row in reference() if f"| `{row.key}` |" not in text] == []


def test_the_scenarios_in_the_document_are_right() -> None:
    texts = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(texts) == 2
    for text in texts:
        assert scenario_from_toml(text).name == tomllib.loads(text)["name"]


def test_the_python_in_the_document_that_makes_a_scenario_is_right() -> None:
    source = next(
        text for text in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "harsher" in text
    )
    names: dict[str, object] = {}
    exec(source, names)
    assert "REQUEST_TIMEOUT_S" in names["harsher"].constants  # type: ignore[attr-defined]


if __name__ == "__main__":
    text = DOCUMENT.read_text()
    for part, made in PARTS.items():
        begin, end = text.index(f"<!-- {part} -->\n"), text.index("<!-- end -->", text.index(f"<!-- {part} -->"))
        text = f"{text[:begin]}<!-- {part} -->\n{made()}\n{text[end:]}"
    DOCUMENT.write_text(text)
