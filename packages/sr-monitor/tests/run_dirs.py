"""Run directories as the trainer writes them, with a collapse or without."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG: dict[str, dict[str, object]] = {
    "algorithm": {"name": "reinforce"},
    "guard": {"name": "collapse"},
    "planner": {"name": "none"},
    "policy": {"path": "pocket-rich"},
}
COLLAPSE = [6, 9, 12, 14, 15, 15, 9, 2, 1]
RISE = [6, 9, 12, 14, 15, 15, 15, 14, 15]


def write_run(
    folder: Path,
    passes: list[int],
    *,
    campaigns: int = 1,
    roll_back: tuple[int, int] | None = None,
    kept_step: int | None = None,
    config: dict[str, dict[str, object]] = CONFIG,
    seed: int = 0,
) -> Path:
    """``passes``: passing samples of 16 at every step, the same for each of 30 tasks. ``kept_step``: whose policy was
    kept, the last one's if left out.
    """
    rows, samples, told = [], [], []
    for campaign in range(campaigns):
        for step, count in enumerate(passes):
            decision = {"action": "continue", "rule": "fall", "value": 0.01, "limit": 0.05, "reason": "as it was"}
            if roll_back is not None and step == roll_back[0]:
                decision |= {"action": "roll_back", "to_step": roll_back[1], "reason": "it fell <far>"}
            rows.append(
                {
                    "campaign": campaign,
                    "step": step,
                    "train_reward": count / 16,
                    "heldout_pass1": count / 16,
                    "heldout_se": 0.02,
                    "heldout_passes": [count] * 30,
                    "heldout_samples": 16,
                    "entropy": 0.5 / (step + 1),
                    "grad_norm": None,
                    "decision": decision,
                }
            )
            samples.append(
                {
                    "campaign": campaign,
                    "step": step,
                    "task_id": "held/1",
                    "prompt": "def f(a, b):\n",
                    "completion": f"    return a < b and '<script>{step}</script>'\x07\n",
                    "outcome": "passed" if count > 8 else "failed",
                }
            )
        kept = len(passes) - 1 if kept_step is None else kept_step
        audit = {"kept": passes[kept] / 16, "start": passes[0] / 16}
        told.append({"campaign": campaign, "kept": passes[kept] / 16, "kept_step": kept, "audit": audit})
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    (folder / "run.json").write_text(json.dumps({"seed": seed, "config": config}))
    (folder / "summary.json").write_text(json.dumps({**told[-1], "campaigns": told}))
    return folder


def write_demo(folder: Path) -> Path:
    """An unguarded and a guarded run side by side."""
    write_run(folder / "unguarded", COLLAPSE)
    write_run(folder / "guarded", [*COLLAPSE[:7], 15, 15], roll_back=(6, 5))
    (folder / "summary.json").write_text(json.dumps({"unguarded": {}, "guarded": {}}))
    return folder
