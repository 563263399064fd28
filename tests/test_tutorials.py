"""The tutorials: each was run from top to bottom; those that take seconds run here, cell by cell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = sorted((Path(__file__).parent.parent / "docs" / "tutorials").glob("*.ipynb"))
BY_NAME = {path.stem: json.loads(path.read_text()) for path in TUTORIALS}


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_five() -> None:
    assert len(BY_NAME) == 5


@pytest.mark.parametrize("name", BY_NAME)
def test_a_tutorial_holds_the_outputs_of_one_run_from_top_to_bottom(name: str) -> None:
    cells = code(BY_NAME[name])
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell["outputs"] for cell in cells)
    outputs = json.dumps([cell["outputs"] for cell in cells])
    assert '"output_type": "error"' not in outputs
    assert '"name": "stderr"' not in outputs
    assert not re.search(r"(/home/|/root/|/work/|/tmp/|/Users/)", outputs)


@pytest.mark.parametrize(
    "name", [name for name, notebook in BY_NAME.items() if notebook["metadata"]["self_regress"]["gate"]]
)
def test_a_short_tutorial_gives_what_it_shows(name: str, tmp_path: Path) -> None:
    cells = code(BY_NAME[name])
    program = "\n".join("".join(cell["source"]) for cell in cells)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = "".join("".join(output.get("text", [])) for cell in cells for output in cell["outputs"])
    assert done.stdout == shown
