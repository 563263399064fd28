"""How often the guard acts on a policy that never fell, and how soon and how well it acts on one that did.

    python packages/sr-monitor/benchmarks/false_alarms.py [--campaigns N] [--json]

Simulated campaigns: tasks of mixed difficulty with known pass rates, evaluations drawn from them. ``flat`` never
changes, ``rising`` improves all the time, both are the null; ``collapse`` rises from 0.3 to 0.9 and loses it within
four steps, ``low`` does so from 0.03 to 0.09, of tasks that are seldom solved. margin is 0 for the null, which is the
hardest case the stated rate covers, and the default otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from sr_monitor import CollapseGuard, wilson

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scripted_campaigns import FINITE, Played, curve, play, tasks_of

DESIGNS = ((30, 16, 20), (30, 1, 20), (30, 16, 60), (100, 4, 20), (200, 16, 20))
MODES = ("full", "budget", "rewards", "step only")  # rewards: on a budget, and hearing the training reward
STATED = 0.05


def means_of(shape: str, steps: int) -> list[float]:
    if shape == "flat":
        return [0.4] * (steps + 1)
    if shape == "rising":
        return list(np.linspace(0.3, 0.9, steps + 1))
    rise = [*np.linspace(0.3, 0.9, 11), 0.85, 0.65, 0.4, 0.2, *[0.1] * steps][: steps + 1]
    return [0.1 * (rate - 0.1 * (step > 10)) if shape == "low" else rate for step, rate in enumerate(rise)]


def campaign(mode: str, shape: str, tasks: int, samples: int, steps: int, seed: int) -> Played:
    rng = np.random.default_rng(seed)
    means = means_of(shape, steps)
    start_M = tasks_of(tasks, rng, means[0])
    options = {"margin": 0.0} if shape in ("flat", "rising") else {"max_rollbacks": 0}
    evaluation = "budget" if mode in ("budget", "rewards") else "full"
    guard = CollapseGuard(
        false_alarm=STATED, samples=samples, evaluation=evaluation, watch_reward=mode == "rewards", **options
    )
    evolve = curve(means, start_M)
    if mode != "step only":
        return play(guard, evolve, start_M, steps, rng, campaign=seed, heard=mode == "rewards")
    played = Played({0: start_M})
    guard.begin(seed, steps)
    for step in range(steps + 1):
        played.truth[step] = evolve(step, start_M, 1.0) if step else start_M
        decision = guard.step(step, rng.binomial(samples, played.truth[step]).tolist(), samples, **FINITE)
        played.decisions.append(decision)
        played.samples += samples * tasks
        if decision.action == "stop":
            break
    played.kept = guard.kept()
    return played


def measure(mode: str, shape: str, design: tuple[int, int, int], campaigns: int) -> dict[str, object]:
    runs = [campaign(mode, shape, *design, seed) for seed in range(campaigns)]
    row: dict[str, object] = {"mode": mode, "shape": shape, "design": design}
    row["samples"] = round(float(np.mean([run.samples for run in runs])))
    if shape in ("collapse", "low"):
        delays = [len(run.decisions) - 1 - 11 for run in runs if run.alarms]
        row["found"] = len(delays) / campaigns
        row["delay"] = float(np.median(delays)) if delays else None
        best = max(means_of(shape, design[2]))
        row["regret"] = float(np.mean([best - run.truth[run.kept].mean() for run in runs]))
        return row
    rate = wilson(sum(run.alarms > 0 for run in runs), campaigns)
    return row | {"false_alarms": rate.estimate, "upper": rate.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for design in DESIGNS:
        for mode in MODES:
            for shape in ("flat", "rising", "collapse", "low"):
                row = measure(mode, shape, design, options.campaigns)
                rows.append(row)
                told = {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}
                print(" ".join(f"{key}={value}" for key, value in told.items()), file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"stated": STATED, "campaigns": options.campaigns, "rows": rows}))
        return
    print(
        f"{'tasks x samples x steps':<26}{'mode':<11}{'flat':>7}{'rising':>8}{'found':>7}{'delay':>7}{'regret':>8}"
        f"{'low found':>11}{'delay':>7}"
    )
    for flat, rising, fell, low in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True):
        name = " x ".join(map(str, flat["design"]))  # type: ignore[call-overload]
        print(
            f"{name:<26}{flat['mode']:<11}{flat['false_alarms']:>7.1%}{rising['false_alarms']:>8.1%}"
            f"{fell['found']:>7.0%}{fell['delay'] or 0:>7.0f}{fell['regret']:>8.3f}"
            f"{low['found']:>11.0%}{low['delay'] or 0:>7.0f}"
        )


if __name__ == "__main__":
    main()
