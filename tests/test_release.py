"""One version in all packages, and a new one is written to wherever it stands."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import check_release  # noqa: E402


def test_all_packages_and_their_pins_have_one_version() -> None:
    assert len(check_release.versions()) == 1


def test_a_new_version_replaces_the_old_one_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path.relative_to(ROOT) for path in check_release.versioned()]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / file)
    ((old, _),) = check_release.versions().items()
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    check_release.set_version("7.8.9")
    assert {version: len(found) for version, found in check_release.versions().items()} == {"7.8.9": len(files)}
    check_release.set_version(old)
    assert all((tmp_path / file).read_text() == (ROOT / file).read_text() for file in files)


def test_archives_that_lack_something_are_found(tmp_path: Path) -> None:
    assert len(check_release.unfit(tmp_path)) == len(check_release.MEMBERS)
