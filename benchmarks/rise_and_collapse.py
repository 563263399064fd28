"""Does the shipped policy rise and collapse, at which learning rate, and does the guard keep its peak?

Three arms over seeds: unguarded REINFORCE at the preset's learning rate, the same at a tenth of it, and guarded at the
preset's. Every number is measured on the audit set, which no decision sees. Resumable: runs that are complete are not
run again.

    uv run python benchmarks/rise_and_collapse.py [--json] [--preset NAME] [--seeds 0-4] [--out DIR] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sr_cli.config import load_config

FALL = 0.20  # points of audit pass@1 that count as a rise and as a fall
CLOSE = 0.05  # the guarded policy must stay within this of its run's peak
RESULTS = Path(__file__).parent / "results" / "rise_and_collapse.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--preset", default="testbed")
    parser.add_argument("--seeds", default="0-4", help="first-last")
    parser.add_argument("--out", type=Path, default=Path("runs/rise_and_collapse"), help="where the runs are kept")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(RESULTS.parents[2])}")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    lr = load_config(None, options.preset, []).train.optim.lr
    arms = {
        "unguarded": {"optim.lr": lr, "guard.name": "none"},
        "unguarded, a tenth": {"optim.lr": lr / 10, "guard.name": "none"},
        "guarded": {"optim.lr": lr, "guard.name": "collapse", "guard.budget": 1},
    }
    began = time.monotonic()
    jobs = [(arm, seed) for seed in range(int(first), int(last or first) + 1) for arm in arms]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        summaries = list(pool.map(lambda job: run(options, arms[job[0]], *job), jobs))
    table: dict[str, Any] = {
        arm: {
            "lr": arms[arm]["optim.lr"],
            "seeds": {s: judge(m) for (a, s), m in zip(jobs, summaries, strict=True) if a == arm},
        }
        for arm in arms
    }
    for arm in table.values():
        seeds = list(arm["seeds"].values())
        arm["collapsed"] = sum(s["rise"] >= FALL and s["fall"] >= FALL for s in seeds)
        arm["kept_close"] = sum(s["peak"] - s["kept"] <= CLOSE for s in seeds)
        arm["runs"] = len(seeds)
    result = {"preset": options.preset, "minutes": round((time.monotonic() - began) / 60, 1), "arms": table}
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if options.json else render(result))


def run(options: argparse.Namespace, settings: dict[str, Any], arm: str, seed: int) -> dict[str, Any]:
    """Run (or continue, or read) one arm and seed on one thread; return its audit."""
    folder = options.out / options.preset / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    if not (folder / "summary.json").exists():
        command = [sys.executable, "-m", "sr_cli"]
        if (folder / "run.json").exists():
            command += ["resume", str(folder)]
        else:
            command += ["run", "--preset", options.preset, "--seed", str(seed), "--out", str(folder)]
            command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        # as many single-threaded runs as cores: policies this small do not fill two
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        print(f"{arm}, seed {seed}: done", file=sys.stderr)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def judge(summary: dict[str, Any]) -> dict[str, Any]:
    """Rise and fall of one run, on the audit set."""
    audit = summary["audit"]
    values = {key: audit[key] for key in ("start", "peak", "end", "kept", "tasks", "samples")}
    return values | {
        "peak_step": summary["peak_step"],
        "steps": summary["campaigns"][0]["steps"],
        "rise": audit["peak"] - audit["start"],
        "fall": audit["peak"] - audit["end"],
    }


def render(result: dict[str, Any]) -> str:
    """The result as Markdown tables, one per arm."""
    parts = []
    for name, arm in result["arms"].items():
        parts.append(f"{name} (learning rate {arm['lr']:g})\n")
        parts.append("| seed | start | peak (step) | end | kept |\n|---|---|---|---|---|")
        for seed, s in arm["seeds"].items():
            peak = f"{100 * s['peak']:.1f} ({s['peak_step']})"
            parts.append(f"| {seed} | {100 * s['start']:.1f} | {peak} | {100 * s['end']:.1f} | {100 * s['kept']:.1f} |")
        parts.append(f"rose and fell by 20 points: {arm['collapsed']} of {arm['runs']};  ")
        parts.append(f"kept within 5 points of the peak: {arm['kept_close']} of {arm['runs']}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
