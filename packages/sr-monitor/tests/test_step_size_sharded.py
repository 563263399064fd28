"""``StepSizeCallback`` on weights that FSDP2 shards over two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

HERE = Path(__file__).parent


@pytest.mark.nightly
def test_sharded_weights_take_the_steps_of_whole_ones(tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    run = subprocess.run(
        [*launch, str(HERE / "fsdp2_steps.py"), str(out)],
        env=environment,
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    made = json.loads(out.read_text())
    assert made["whole"][0]["shortened"] > 0
    for name in ("resharded", "kept whole after a forward pass"):
        assert made[name] == made["whole"]
        assert made[f"{name}, apart"] < 1e-6
