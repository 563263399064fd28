"""The example with TRL's real ``GRPOTrainer``: it collapses without the guard and keeps its peak with it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.nightly  # trains for a minute
for needed in ("trl", "datasets"):
    pytest.importorskip(needed)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[1] / "examples" / "trl_grpo.py"
    spec = importlib.util.spec_from_file_location("trl_grpo_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_grpo_collapses_alone_and_keeps_its_peak_with_the_guard(example: ModuleType, tmp_path: Path) -> None:
    free, _ = example.train(tmp_path / "free", guarded=False, steps=16)
    kept, callback = example.train(tmp_path / "guarded", guarded=True, steps=16)
    assert free < 0.2
    assert kept > 0.5
    assert any(decision.action == "roll_back" for _, decision in callback.decisions)
