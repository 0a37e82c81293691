"""`docs/operating.md` lists every key and every exit code, as they are: its tables are made of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mediadht.cli.config import load_configuration
from mediadht.cli.exit_codes import EXIT_CODE_MEANINGS
from mediadht.cli.logs import LogConfig
from mediadht.cli.settings import variable_of
from mediadht.daemon.config import DaemonConfig
from mediadht_bridge.api import ApiConfig
from mediadht_bridge.front import FrontConfig
from mediadht_bridge.matrix import FeedConfig

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "operating.md"
SECTIONS: dict[str, tuple[type[BaseModel], str]] = {
    "": (DaemonConfig, "At the top of the file: the node"),
    "api": (ApiConfig, "`[api]`: the HTTP API"),
    "front": (FrontConfig, "`[front]`: the join front, off while nothing names it"),
    "feed": (FeedConfig, "`[feed]`: the room feed, off while nothing names it"),
    "log": (LogConfig, "`[log]`: the log"),
}


def keys_table() -> str:
    parts = []
    for name, (model, title) in SECTIONS.items():
        rows = [f"### {title}", "", "| key | variable | default | |", "| --- | --- | --- | --- |"]
        for field, info in model.model_fields.items():
            default = info.get_default(call_default_factory=True)
            shown = (
                "(needed)" if default is PydanticUndefined else f"`{_toml(default)}`" if default is not None else "none"
            )
            rows.append(f"| `{field}` | `{variable_of(name, field)}` | {shown} | {info.description} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple | set | frozenset) else value, default=str)


def exit_codes_table() -> str:
    return "\n".join(
        [
            "| code | meaning |",
            "| --- | --- |",
            *(f"| {code:d} | {text} |" for code, text in EXIT_CODE_MEANINGS.items()),
        ]
    )


TABLES = {"keys": keys_table, "exit codes": exit_codes_table}


def written_anew(text: str, mark: str) -> str:
    """The document with the table between the marks made anew."""
    pattern = re.compile(rf"(<!-- {mark}: .*? -->\n).*?(<!-- end of {mark} -->)", re.DOTALL)
    assert len(pattern.findall(text)) == 1, mark
    return pattern.sub(lambda found: f"{found[1]}\n{TABLES[mark]()}\n\n{found[2]}", text)


@pytest.mark.parametrize("mark", TABLES)
def test_the_document_says_what_the_code_says(mark: str) -> None:
    text = DOCUMENT.read_text()
    assert written_anew(text, mark) == text, "write it anew with: python tests/unit/cli/test_cli_docs.py"


def test_the_example_configuration_is_one(tmp_path: Path) -> None:
    match = re.search(r"<!-- tried: configuration -->\n```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert match is not None
    (tmp_path / "mediadht.toml").write_text(match[1])
    configuration = load_configuration(tmp_path / "mediadht.toml", environ={})
    assert configuration.front is not None
    assert configuration.feed is not None
    assert configuration.node.peer_url == ("wss://matrix.example.org/_mediadht/",)


if __name__ == "__main__":
    document = DOCUMENT.read_text()
    for each in TABLES:
        document = written_anew(document, each)
    DOCUMENT.write_text(document)
