"""The house itself: what packages export, who imports whom, what a wheel holds, and that nothing points outside."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mediadht

ROOT = Path(__file__).resolve().parents[2]
EXPORTS_FILE = Path(__file__).with_name("exports.txt")
SOURCES = {"mediadht": ROOT, "mediadht_bridge": ROOT / "bridge", "mediadht_sim": ROOT / "simulations"}
CORE_MAY_IMPORT = {"mediadht", "msgpack", "nacl"}
CORE_MUST_NOT_IMPORT = {
    "asyncio", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random", "secrets", "select",
    "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
"""Modules of the standard library that do I/O, tell the time, or make randomness."""


def packages() -> Iterator[str]:
    """Every package of the house, by its dotted name."""
    for name, folder in SOURCES.items():
        for init in sorted((folder / name).rglob("__init__.py")):
            yield ".".join(init.parent.relative_to(folder).parts)


def modules(package: str) -> list[Path]:
    return sorted((SOURCES[package.partition(".")[0]] / Path(*package.split("."))).rglob("*.py"))


def exported(package: str) -> list[str]:
    """What the package exports; one without `__all__` is a folder of modules and exports nothing."""
    return sorted(getattr(importlib.import_module(package), "__all__", ()))


def exports() -> list[str]:
    """`package: name`, one a line, as the packages say themselves."""
    return [f"{package}: {name}" for package in packages() for name in exported(package)]


def test_packages_export_what_is_listed() -> None:
    """A change of the public surface shows in `exports.txt`; `python tests/packaging/test_house.py` writes it anew."""
    assert exports() == EXPORTS_FILE.read_text().splitlines()


@pytest.mark.parametrize("package", list(packages()))
def test_exported_names_exist(package: str) -> None:
    loaded = importlib.import_module(package)
    assert [name for name in exported(package) if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("package", list(packages()))
def test_packages_only_export(package: str) -> None:
    """`__init__.py` imports, lists and documents; it does nothing else."""
    file = importlib.import_module(package).__file__
    assert file is not None
    for statement in ast.parse(Path(file).read_text()).body:
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        is_name = isinstance(statement, ast.Assign | ast.AnnAssign) and ast.unparse(statement).startswith("__")
        assert is_text or is_name or isinstance(statement, ast.ImportFrom), ast.unparse(statement)


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 broken" in told.stdout


def test_the_core_imports_nothing_but_what_it_may() -> None:
    for path in modules("mediadht.core"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    imported = {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module=str(module), level=0):
                    imported = {module.partition(".")[0]}
                case ast.ImportFrom():
                    pytest.fail(f"{path}: a relative import")
                case _:
                    continue
            assert not imported & CORE_MUST_NOT_IMPORT, f"{path}: {imported}"
            assert imported <= CORE_MAY_IMPORT | sys.stdlib_module_names, f"{path}: {imported}"


def test_the_version_is_said_once_and_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == mediadht.__version__
    assert f"## [{mediadht.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_a_wheel_holds_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        [entry_points] = [archive.read(name).decode() for name in held if name.endswith("/entry_points.txt")]
        assert any(name.endswith("/LICENSE") for name in held)
    for package in SOURCES:
        assert f"{package}/py.typed" in held
        for path in modules(package):
            assert str(path.relative_to(SOURCES[package])) in held
    assert "mediadht = mediadht.cli.main:main" in entry_points
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == set(SOURCES)


def test_nothing_points_outside_the_repository() -> None:
    """A clone stands alone. Only a test that skips where the place is missing may name it."""
    outside = re.compile(r"(?<![\w./~-])/" + r"work(?=/|\b(?![\w-]))|\.\./" + r"shared\b")
    found = []
    for path in _tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        is_test_that_skips = "tests" in path.parts and "skip" in text
        if outside.search(text) and not is_test_that_skips:
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def _tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


if __name__ == "__main__":
    EXPORTS_FILE.write_text("\n".join(exports()) + "\n")
