"""The tree keeps its shape: budgets of configuration, of sr-cli and of parameter lists, measured by tools/shape.py."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import shape  # noqa: E402


def test_the_tree_stays_within_its_budgets() -> None:
    assert shape.fields(ROOT) <= 90
    assert shape.lines_of(ROOT, "sr_cli") <= 1900
    assert shape.longest_parameters(ROOT)[0] <= 8


def test_a_tree_is_measured_as_it_is(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "sr-core" / "src" / "sr_core"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A package."""\n')
    (package / "room" / "__init__.py").write_text("")
    (package / "room" / "long.py").write_text("def f(self, a, *, b=1): ...\n\n\ndef _g(a, b, c, d): ...\n")
    config = "class OneConfig:\n    name: ClassVar[str]\n    a: int = 1\n    b: int = 2\n\n\n"
    (package / "config.py").write_text(config + "class TrainConfig:\n    one: OneConfig\n")
    assert shape.rooms(tmp_path) == {"sr_core": 2, "sr_core/room": 2}
    assert shape.largest(tmp_path) == (8, "sr_core.config")
    assert shape.longest_parameters(tmp_path) == (2, "sr_core.room.long.f")
    assert shape.fields(tmp_path) == 2
    assert shape.lines_of(tmp_path, "sr_core") == 13
    assert "configuration fields" in shape.rows(tmp_path, step=False)
