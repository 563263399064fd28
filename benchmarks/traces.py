"""Rules that watch training runs, judged on the same recorded real runs (benchmarks/traces).

    uv run --group bench python benchmarks/traces.py [--json] [--part test|calibration] [--data DIR] [--others DIR]

false alarms: runs with an alarm before the audited pass@1 truly fell by more than 10 points from an earlier level (by
more than half of it, where that is less), or without such a fall; 95% Wilson interval. delay: median evaluations from
the onset of a fall to the alarm, over the falls a rule lived to see; "never" where it missed half of them. regret:
points of audited pass@1 below an oracle's choice, which is made and judged on different audit tasks (ten folds); 95%
bootstrap interval over runs. above ours: paired by run. cost: evaluation samples among all samples drawn. What is tuned
was tuned on the even seeds; the test part is the odd ones. Public logs of others are judged apart (tracekit/others.py).
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracekit import others, rules
from tracekit.data import DATA

from sr_monitor import CollapseGuard, EarlyStop
from sr_monitor.analysis.margin import MARGIN, MARGIN_SHARE
from sr_monitor.tracebench import Rule, Score, Trace, guarded, load, split, table

OURS = "CollapseGuard, full"
PATIENCE = {
    "transformers, patience 1": 1,
    "transformers, patience 3": 3,
    "transformers, patience 5": 5,
}
NOT_RUN = {
    "rewardspy": "not to be had from the package index, and it judges single rollouts (texts, reward components), "
    "which a trace does not hold",
}


def fixed_rules() -> dict[str, Rule]:
    """Every rule that runs as it comes."""
    from river.drift import ADWIN, PageHinkley

    return {
        OURS: guarded(lambda trace: CollapseGuard()),
        "CollapseGuard, budget": guarded(
            lambda trace: CollapseGuard(evaluation="budget", train_samples=trace.train_samples)
        ),
        "CollapseGuard, budget, reward": guarded(
            lambda trace: CollapseGuard(evaluation="budget", train_samples=trace.train_samples, watch_reward=True)
        ),
        "ES, next budget": guarded(lambda trace: EarlyStop(mode="next_budget")),
        "ES, 3 steps after peak": guarded(lambda trace: EarlyStop(mode="patience")),
        "patience 5": guarded(lambda trace: EarlyStop(mode="patience", patience=5)),
        **{name: rules.transformers_patience(patience) for name, patience in PATIENCE.items()},
        "river ADWIN": rules.drift(ADWIN),
        "river Page-Hinkley": rules.drift(lambda: PageHinkley(mode="down")),
        "rlwatch": rules.rlwatch(),
        "soup-cli, rewards": rules.soup(from_log=False),
        "soup-cli, logged mean": rules.soup(from_log=True),
        "rldoctor": rules.rldoctor(),
        "rlprobe": rules.rlprobe(),
        "always last": rules.always_last,
        "best training reward": rules.best_training_reward,
        "best held-out": rules.best_heldout,
    }


def tuned_rules(calibration: Sequence[Trace]) -> dict[str, Rule]:
    """Peers with the settings that lose least on the calibration part."""
    from river.drift import ADWIN, PageHinkley

    def adwin(delta: float, grace: int) -> Rule:
        return rules.drift(lambda: ADWIN(delta=delta, clock=1, min_window_length=2, grace_period=grace))

    def page_hinkley(threshold: float, delta: float, grace: int) -> Rule:
        return rules.drift(
            lambda: PageHinkley(min_instances=grace, threshold=threshold, delta=delta, alpha=1.0, mode="down")
        )

    def rlwatch(sigma: float, warmup: int) -> Rule:
        window = {"sigma_multiplier": sigma, "warmup_steps": warmup, "rolling_window": 5}
        hacking = {"variance_multiplier": sigma, "warmup_steps": warmup, "baseline_window": 5}
        drifting = {"consecutive_steps": warmup, "warmup_steps": warmup}
        return rules.rlwatch(
            gradient_norm_spike=window,
            kl_explosion=window,
            reward_hacking=hacking,
            reward_mean_drift=drifting,
            entropy_collapse={"enabled": False},  # its level is in nats of another policy
        )

    grids = {
        "river ADWIN, tuned": [adwin(d, g) for d, g in itertools.product((0.002, 0.05, 0.2, 0.5), (4, 8))],
        "river Page-Hinkley, tuned": [
            page_hinkley(t, d, g)
            for t, d, g in itertools.product((0.1, 0.2, 0.4, 0.8), (0.005, 0.02, 0.05), (3, 5, 10))
        ],
        "rlwatch, tuned": [rlwatch(s, w) for s, w in itertools.product((3.0, 5.0, 8.0), (5, 10))],
        "rldoctor, tuned": [
            rules.rldoctor(min_steps=least, check_every=1, alert_at=level)
            for least, level in itertools.product((8, 12, 16), ("WARNING", "CRITICAL"))
        ],
        "rlprobe, tuned": [
            rules.rlprobe(least=least, severity=level, confidence=sure)
            for least, level, sure in itertools.product((8, 12, 16), ("warn", "critical"), (0.0, 0.7))
        ],
    }
    return {name: min(grid, key=lambda rule: _loss(rule, calibration)) for name, grid in grids.items()}


def _loss(rule: Rule, traces: Sequence[Trace]) -> tuple[bool, float]:
    """Regret among those that keep to 5% false alarms; those first."""
    score = Score.of(rule, traces)
    return score.false_alarms > 0.05 * len(traces), sum(score.regret_R)


def judge(traces: Sequence[Trace], calibration: Sequence[Trace]) -> dict[str, dict[str, Any]]:
    """Name -> row, ours first."""
    scores = {name: Score.of(rule, traces) for name, rule in {**fixed_rules(), **tuned_rules(calibration)}.items()}
    return {name: score.row(scores[OURS]) for name, score in scores.items()}


def table_of_others(rows: dict[str, list[dict[str, Any]]]) -> str:
    """A line per rule: for each log the step of the alarm and the points lost; a star marks a false alarm."""
    first = next(iter(rows.values()))
    heads = [
        f"{row['run'][:3]} (falls at {row['onset']})" if row["onset"] else f"{row['run'][:3]} (no fall)"
        for row in first
    ]
    lines = ["runs of others: alarm at step, points lost", f"{'rule':<34}" + "".join(f"{head:>22}" for head in heads)]
    for name, found in rows.items():
        cells = [f"{row['alarm'] or '-'}{'*' if row['false'] else ''}, {row['lost']:.1f}" for row in found]
        lines.append(f"{name:<34}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", choices=("test", "calibration"), default="test")
    parser.add_argument("--data", type=Path, default=DATA, help="where the traces are")
    parser.add_argument("--others", type=Path, default=others.DATA, help="where the logs of others are")
    options = parser.parse_args()
    calibration, test = split(load(options.data))
    traces = test if options.part == "test" else calibration
    if not calibration or not test:
        raise SystemExit(f"{options.data}: traces of an even and of an odd seed are needed")
    logs = others.load(options.others)
    of_others = others.judged(logs) if logs else {}
    if not logs:
        print(f"{options.others}: no logs of others, that part is left out", file=sys.stderr)
    methods = judge(traces, calibration)
    short = sum(row["short"] for row in methods.values())
    if short:
        print(f"{short} evaluations found fewer recorded samples than they asked for", file=sys.stderr)
    if options.json:
        about = {"date": f"{datetime.date.today()}", "part": options.part, "runs": len(traces)}
        about |= {"margin": MARGIN, "margin_share": MARGIN_SHARE}
        print(json.dumps({**about, "methods": methods, "not_run": NOT_RUN, "runs_of_others": of_others}, indent=1))
        return
    print(f"{len(traces)} runs, {options.part} part")
    print(table(methods))
    print("\n".join(f"{name:<28}not run: {why}" for name, why in NOT_RUN.items()))
    if of_others:
        print(table_of_others(of_others))


if __name__ == "__main__":
    main()
