"""The make targets and the CI script, as far as they can be tried without installing anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("demo", "test", "test-slow", "bench", "lint", "format", "wheel", "clean")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False, env=environ)


def test_help_names_every_target() -> None:
    told = make("help").stdout
    assert {target for target in TARGETS if f"make {target}" in told} == set(TARGETS)
    assert set(TARGETS) < set(
        re.findall(r"[\w-]+", (ROOT / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0])
    )


@pytest.mark.parametrize("target", ["demo", "test", "test-slow", "bench", "lint"])
def test_a_fresh_clone_creates_its_environment_first(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    told = make("--dry-run", target, folder=tmp_path)
    assert told.returncode == 0, told.stderr
    steps = [
        told.stdout.index(step) for step in ("-m venv .venv", "pip --disable-pip-version-check install", "touch .venv/")
    ]
    assert steps == sorted(steps)


def test_nothing_is_installed_twice(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python", ".installed-demo", ".installed-test"):
        (tmp_path / ".venv" / name).touch()
    for target in ("demo", "test"):
        assert "pip" not in make("--dry-run", target, folder=tmp_path).stdout
    later = (tmp_path / "pyproject.toml").stat().st_mtime + 10
    os.utime(tmp_path / "pyproject.toml", (later, later))
    assert "pip" in make("--dry-run", "test", folder=tmp_path).stdout


def test_the_demo_takes_a_file(tmp_path: Path) -> None:
    script = make("--dry-run", "demo", "FILE=it's a b.png").stdout.splitlines()[-1]
    words = subprocess.run(
        ["sh", "-c", script.replace(".venv/bin/mediadht", "printf '%s|'")],
        env={"FILE": "it's a b.png"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert words == "demo|it's a b.png|"


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    told = make("test", f"PYTHON={old}", folder=tmp_path)
    assert told.returncode != 0
    assert "mediadht needs Python 3.11 or newer" in told.stderr


def test_the_ci_script_is_executable_and_parses() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert text.index("make lint") < text.index("make test 2>&1") < text.index("make test-slow")
