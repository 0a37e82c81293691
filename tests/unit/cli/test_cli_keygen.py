"""`mediadht keygen`: makes the node key once, and never shows it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mediadht.cli.exit_codes import ExitCode

pytest.importorskip("mediadht.daemon.identity", exc_type=ImportError)

Cli = Callable[..., Any]


def test_keygen_is_idempotent(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first = cli("keygen", "--data-dir", folder)
    assert (first.code, first.err) == (ExitCode.OK, "")
    assert len(bytes.fromhex(first.out.strip())) == 32
    key = folder / "node.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    again = cli("keygen", "--data-dir", folder, "--json")
    assert again.json() == {"node_id": first.out.strip()}
    assert key.read_bytes() == before


def test_two_folders_have_two_nodes(cli: Cli, tmp_path: Path) -> None:
    assert cli("keygen", "--data-dir", tmp_path / "a").out != cli("keygen", "--data-dir", tmp_path / "b").out


def test_a_key_that_others_can_read_is_refused(cli: Cli, tmp_path: Path) -> None:
    cli("keygen", "--data-dir", tmp_path)
    (tmp_path / "node.key").chmod(0o644)
    told = cli("keygen", "--data-dir", tmp_path)
    assert (told.code, told.out) == (ExitCode.ENVIRONMENT, "")
    assert "node.key" in told.err
    assert "Traceback" not in told.err
