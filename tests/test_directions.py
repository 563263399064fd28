"""Imports point down: the libraries know only themselves, and the light ones load nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = ("sr_core", "sr_reward", "sr_monitor", "sr_care")
ALL = (*LIBRARIES, "sr_cli")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / "packages" / package.replace("_", "-") / "src" / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("package", LIBRARIES)
def test_a_library_imports_no_other_member(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        assert not imported(path) & (set(ALL) - {package}), path


@pytest.mark.parametrize("package", LIBRARIES)
def test_importing_a_library_loads_no_torch(package: str) -> None:
    assert not modules_after(f"import {package}") & {"torch", "transformers", "matplotlib"}


def test_help_loads_no_torch() -> None:
    statement = "from click.testing import CliRunner; from sr_cli.main import sr; CliRunner().invoke(sr, ['--help'])"
    assert not modules_after(statement) & {"torch", "transformers"}


def test_only_sr_core_may_use_torch_outright() -> None:
    for package in ("sr_reward", "sr_monitor", "sr_care"):
        for path in sources(package):
            if "integrations" not in path.parts:
                assert not imported(path) & {"torch", "transformers"}, path


@pytest.mark.parametrize("package", ALL)
def test_every_package_is_typed_and_documented(package: str) -> None:
    folder = ROOT / "packages" / package.replace("_", "-")
    assert (folder / "src" / package / "py.typed").exists()
    assert len((folder / "README.md").read_text()) > 200
    for path in sources(package):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_no_file_of_the_tree_is_too_large() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    weights = [p for p in tracked if p.endswith(".safetensors")]
    assert sum((ROOT / p).stat().st_size for p in weights) <= 12 * 2**20
    for path in set(tracked) - set(weights):
        if (ROOT / path).exists():
            assert (ROOT / path).stat().st_size <= 2**20, path
