"""A guard beside a verl run: reads each validation as verl writes it, and says when to go back, and to what.

    python packages/sr-monitor/examples/verl_guard.py VALIDATIONS --checkpoints DIR [--follow --steps N] [--solved X]

Start verl with ``trainer.validation_data_dir=VALIDATIONS``, ``trainer.test_freq=1``, a ``trainer.save_freq`` that
divides the steps you would go back to, ``trainer.default_local_dir=DIR`` and several samples per prompt
(``actor_rollout_ref.rollout.val_kwargs.n=16``, ``do_sample=True``). verl writes VALIDATIONS/STEP.jsonl with a row
``{"input", "output", "gts", "score", "step"}`` per sample. A sample counts as solved from ``--solved`` on (1.0), so
that partial credit, such as 0.1 for the format, does not pass; ``--score acc`` takes another column. The exit code is 3
when the guard wants the run ended; the last line on stdout is then how to start verl again, with a new folder for its
validations, on which to start the guard. verl cannot evaluate an older policy while it trains, so the guard works
without fresh samples: its false-alarm rate holds, but a fall must be larger to count.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from sr_monitor import CollapseGuard, Decision, MonitorError
from sr_monitor.integrations.samples import SOLVED, passes_per_task, read_samples, scores_in_words

POLL_S = 5.0
ENDED = 3


def watch(options: argparse.Namespace, guard: CollapseGuard) -> tuple[int, Decision] | None:
    """Judge every validation in the order of its step; returns (step, decision) for the first one to act on."""
    folder: Path = options.validations
    judged = -1
    while True:
        steps = sorted(int(file.stem) for file in folder.glob("*.jsonl") if file.stem.isdigit())
        # while verl is running the newest file may be half-written
        for step in [s for s in (steps[:-1] if options.follow else steps) if s > judged]:
            # the answer belongs to the task: one prompt may stand for several
            tasks, scores = read_samples([folder / f"{step}.jsonl"], ("input", "gts"), options.score)
            passes, samples = passes_per_task(tasks, scores, options.solved)
            if judged < 0:
                print(scores_in_words(scores, options.solved), file=sys.stderr)
            decision = guard.step(step, passes, samples)
            rate = sum(passes) / (samples * len(passes))
            print(f"step {step}: pass@1 {rate:.1%}. {decision.reason}", file=sys.stderr)
            judged = step
            if decision.action != "continue":
                return step, decision
        if not options.follow:
            return None
        time.sleep(POLL_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("validations", type=Path)
    parser.add_argument("--checkpoints", type=Path, required=True, help="verl's trainer.default_local_dir")
    parser.add_argument("--follow", action="store_true", help="keep reading while verl runs")
    parser.add_argument("--steps", type=int, help="verl's trainer.total_training_steps; default: the newest there is")
    parser.add_argument("--solved", type=float, default=SOLVED, help="the score from which a sample counts as solved")
    parser.add_argument("--score", default="score", help="the column that holds it, e.g. acc")
    options = parser.parse_args()
    guard = CollapseGuard(max_rollbacks=1)
    newest = max((int(file.stem) for file in options.validations.glob("*.jsonl") if file.stem.isdigit()), default=0)
    guard.begin(campaign=0, steps=options.steps or newest)  # the last one may be the peak, too
    try:
        wanted = watch(options, guard)
    except MonitorError as error:
        raise SystemExit(str(error)) from error
    if wanted is None:
        print(f"no alarm; the policy to keep is that of step {guard.kept()}")
        return
    print(how_to_go_on(options, guard))
    sys.exit(ENDED)


def how_to_go_on(options: argparse.Namespace, guard: CollapseGuard) -> str:
    """verl's settings for a run from the newest checkpoint that is not after the policy to keep.

    Its validations go to a folder of their own: those after that step are of the policy that fell.
    """
    kept = guard.kept()
    saved = [int(p.name.removeprefix("global_step_")) for p in options.checkpoints.glob("global_step_*")]
    target = max((step for step in saved if step <= kept), default=None)
    if target is None:
        print(
            f"{options.checkpoints}: no checkpoint at or before step {kept}; lower trainer.save_freq", file=sys.stderr
        )
        resume = "trainer.resume_mode=disable"
    else:
        path = options.checkpoints / f"global_step_{target}"
        resume = f"trainer.resume_mode=resume_path trainer.resume_from_path={path}"
    folder = options.validations.with_name(f"{options.validations.name}_from_{target or 0}")
    print(
        f"go on with {guard.lr_scale:g} times actor_rollout_ref.actor.optim.lr and this guard on {folder}",
        file=sys.stderr,
    )
    return f"trainer.validation_data_dir={folder} {resume}"


if __name__ == "__main__":
    main()
