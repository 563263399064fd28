"""What the guard itself costs: a decision late in a long campaign, and the import.

    python packages/sr-monitor/benchmarks/speed.py [--json]

decision: seconds of ``step`` with 30 tasks after 10,000 rows, mean of 1,000. import: seconds that a fresh interpreter
takes for ``import sr_monitor`` beyond its own start, median of 5. What a guard adds to a training step is measured by
``benchmarks/guard_cost.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from sr_monitor import CollapseGuard

ROWS, TIMED, REPEATS = 10_000, 1_000, 5
MOST_DECISION_S, MOST_IMPORT_S = 1e-3, 0.3


def decision_s() -> float:
    guard = CollapseGuard()
    rows = np.random.default_rng(0).binomial(16, 0.5, (ROWS + TIMED, 30)).tolist()
    for step, row in enumerate(rows[:ROWS]):
        guard.step(step, row, 16)
    began = time.perf_counter()
    for step, row in enumerate(rows[ROWS:], start=ROWS):
        guard.step(step, row, 16)
    return (time.perf_counter() - began) / TIMED


def import_s() -> float:
    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return statistics.median(seconds("import sr_monitor") - seconds("") for _ in range(REPEATS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = {"decision_s": decision_s(), "import_s": import_s()}
    if options.json:
        print(json.dumps(results))
        return
    print(f"decision after {ROWS} rows {results['decision_s'] * 1e3:.2f} ms (at most {MOST_DECISION_S * 1e3:g})")
    print(f"import {results['import_s']:.2f} s (at most {MOST_IMPORT_S:g})")


if __name__ == "__main__":
    main()
