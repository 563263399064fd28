"""A guard beside a verl run: reads each validation as verl writes it, and says when to go back, and to what.

    python packages/sr-monitor/examples/verl_guard.py VALIDATIONS --checkpoints DIR [--follow --steps N]

Start verl with ``trainer.validation_data_dir=VALIDATIONS``, ``trainer.test_freq=1``, a ``trainer.save_freq`` that
divides the steps you would go back to, ``trainer.default_local_dir=DIR`` and several samples per prompt
(``actor_rollout_ref.rollout.val_kwargs.n=16``, ``do_sample=True``). verl writes VALIDATIONS/STEP.jsonl with a row
``{"input", "output", "score", "step"}`` per sample. The exit code is 3 when the guard wants the run ended; the last
line on stdout is then how to start verl again. verl cannot evaluate an older policy while it trains, so the guard works
without fresh samples: its false-alarm rate holds, but a fall must be larger to count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

from sr_monitor import CollapseGuard, Decision

POLL_S = 5.0
ENDED = 3


def passes_of(file: Path) -> tuple[list[int], int]:
    """(passing samples of each prompt, in the order of their texts; samples per prompt). A score above 0 passes."""
    scores: dict[str, list[float]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        scores[row["input"]].append(row["score"])
    each = {len(values) for values in scores.values()}
    if len(each) != 1:
        raise SystemExit(f"{file}: as many samples of every prompt are needed, got {sorted(each)}; is it complete?")
    return [sum(score > 0 for score in scores[prompt]) for prompt in sorted(scores)], each.pop()


def watch(folder: Path, guard: CollapseGuard, *, follow: bool) -> tuple[int, Decision] | None:
    """Judge every validation in the order of its step; returns (step, decision) for the first one to act on."""
    judged = -1
    while True:
        steps = sorted(int(file.stem) for file in folder.glob("*.jsonl") if file.stem.isdigit())
        # while verl is running the newest file may be half-written
        for step in [s for s in (steps[:-1] if follow else steps) if s > judged]:
            passes, samples = passes_of(folder / f"{step}.jsonl")
            decision = guard.step(step, passes, samples)
            print(
                f"step {step}: pass@1 {sum(passes) / (samples * len(passes)):.1%}. {decision.reason}", file=sys.stderr
            )
            judged = step
            if decision.action != "continue":
                return step, decision
        if not follow:
            return None
        time.sleep(POLL_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("validations", type=Path)
    parser.add_argument("--checkpoints", type=Path, required=True, help="verl's trainer.default_local_dir")
    parser.add_argument("--follow", action="store_true", help="keep reading while verl runs")
    parser.add_argument("--steps", type=int, help="verl's trainer.total_training_steps; default: the newest there is")
    options = parser.parse_args()
    guard = CollapseGuard(max_rollbacks=1)
    newest = max((int(file.stem) for file in options.validations.glob("*.jsonl") if file.stem.isdigit()), default=0)
    guard.begin(campaign=0, steps=options.steps or newest)  # the last one may be the peak, too
    wanted = watch(options.validations, guard, follow=options.follow)
    if wanted is None:
        print(f"no alarm; the policy to keep is that of step {guard.kept()}")
        return
    saved = sorted(int(p.name.removeprefix("global_step_")) for p in options.checkpoints.glob("global_step_*"))
    target = max((step for step in saved if step <= guard.kept()), default=None)
    if target is None:
        raise SystemExit(
            f"{options.checkpoints}: no checkpoint at or before step {guard.kept()}; lower trainer.save_freq"
        )
    print(f"trainer.resume_mode=resume_path trainer.resume_from_path={options.checkpoints / f'global_step_{target}'}")
    sys.exit(ENDED)


if __name__ == "__main__":
    main()
