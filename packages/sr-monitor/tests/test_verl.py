"""What verl itself writes, made by its own functions: the reader and the example read it.

Needs verl and what its trainer imports, beside the bench group: ``uv pip install --no-deps verl tensordict pyvers
orjson hydra-core "omegaconf<2.4" "antlr4-python3-runtime<4.10" codetiming torchdata cloudpickle cachetools uvicorn
fastapi starlette``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_examples import run

from sr_monitor import read_runs

ray_trainer = pytest.importorskip(
    "verl.trainer.ppo.ray_trainer", reason="needs verl, see the head of this file", exc_type=ImportError
)

PROMPTS, SAMPLES = 30, 16
TRUTH = [0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.2, 0.1]
LOGGED = TRUTH[-3:]


def scored(rate: float, step: int) -> list[tuple[str, float]]:
    """(prompt, score) of every sample of a validation."""
    rng = np.random.default_rng(step)
    return [(f"task {task}", float(rng.random() < rate)) for task in range(PROMPTS) for _ in range(SAMPLES)]


def metrics(samples: list[tuple[str, float]]) -> dict[str, float]:
    """What verl logs of them, under the names it gives them."""
    prompts, scores = map(list, zip(*samples, strict=True))
    infos = {"reward": scores, "score": scores, "infra_error": [0.0] * len(scores)}
    trainer = ray_trainer.RayPPOTrainer
    found: dict[str, float] = trainer._val_metrics_update(None, np.array(["code"] * len(scores)), prompts, infos, [])
    return found


@pytest.mark.parametrize("logger", ["file", "console"])
def test_what_verls_loggers_write_is_read(
    logger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from verl.utils.logger.aggregate_logger import LocalLogger
    from verl.utils.tracking import FileLogger

    path = tmp_path / ("run.jsonl" if logger == "file" else "train.log")
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(path))
    theirs = FileLogger("project", "run") if logger == "file" else LocalLogger()
    capsys.readouterr()
    for step, rate in enumerate(LOGGED):
        theirs.log(metrics(scored(rate, step)) | {"critic/score/mean": rate / 2}, step)
    if logger == "console":
        path.write_text(capsys.readouterr().out)
    (found,) = read_runs(path)
    assert found.format == "verl"
    expected = {step: np.mean([score for _, score in scored(rate, step)]) for step, rate in enumerate(LOGGED)}
    assert {record.step: record.heldout for record in found.records} == pytest.approx(expected)
    assert [record.signals["train_reward"] for record in found.records] == pytest.approx([rate / 2 for rate in LOGGED])


def test_the_example_reads_verls_validations(tmp_path: Path) -> None:
    for step, rate in enumerate(TRUTH):
        prompts, scores = map(list, zip(*scored(rate, step), strict=True))
        blank = [""] * len(prompts)
        ray_trainer.RayPPOTrainer._write_generations(prompts, blank, blank, scores, {}, str(tmp_path / "val"), step)
    for step in (0, 2, 4, 6):
        (tmp_path / "ckpt" / f"global_step_{step}").mkdir(parents=True)
    done = run("verl_guard.py", str(tmp_path / "val"), "--checkpoints", str(tmp_path / "ckpt"))
    assert done.returncode == 3, done.stderr
    assert done.stdout.strip().endswith(("global_step_2", "global_step_4"))
