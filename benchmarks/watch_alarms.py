"""How often is `sr watch` wrong? On the recorded runs of benchmarks/traces.

    uv run python benchmarks/watch_alarms.py [--json] [--part test|calibration|all] [--data DIR]

Every run is written as a CSV of held-out pass@1 (16 samples of each task a step) and judged after every second
evaluation, as with --follow, and at its end. Once the log states the size of the evaluations, once it does not, and
the noise is read off the curve. Alarm: `at_risk` or `collapsed`. False alarm: one at any of these times before the
audited fall, or in a run without a fall; a verdict tests one curve, so asking again and again adds up. At the end: an
alarm on the whole log of a run that does not end below its audited peak by more than the tolerance. Falls found:
alarms on the whole log of the runs that do. 95% Wilson intervals.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tracekit.data import DATA

from sr_monitor import judge, read_runs, wilson
from sr_monitor.analysis.margin import margin_at
from sr_monitor.tracebench import Trace, load, split
from sr_monitor.tracebench.truth import audited, onset

SAMPLES = 16
EVERY = 2
FEWEST = 3
ALARMS = ("at_risk", "collapsed")


def verdicts(trace: Trace, *, sized: bool, folder: Path) -> dict[int, str]:
    """Step -> the verdict after it."""
    rates = trace.passed_ETS[:, :, :SAMPLES].mean(axis=(1, 2))
    size = f",{trace.passed_ETS.shape[1]},{SAMPLES}" if sized else ""
    head = "step,heldout_pass1" + (",tasks,samples_per_task" if sized else "")
    lines = [f"{step},{rate}{size}" for step, rate in enumerate(rates.tolist())]
    found = {}
    for last in sorted({*range(FEWEST, trace.last, EVERY), trace.last}):
        path = folder / f"{last}.csv"
        path.write_text("\n".join([head, *lines[: last + 1]]) + "\n")
        found[last] = judge(read_runs(path)[0]).verdict
    return found


def score(traces: Sequence[Trace], *, sized: bool) -> dict[str, Any]:
    false = found = falls = false_at_end = 0
    for trace in traces:
        with tempfile.TemporaryDirectory() as folder:
            told = verdicts(trace, sized=sized, folder=Path(folder))
        begin = onset(trace)
        false += any(verdict in ALARMS and (begin is None or step < begin) for step, verdict in told.items())
        curve_E = audited(trace).mean(axis=1)
        smooth_E = np.convolve(np.pad(curve_E, 1, mode="edge"), np.ones(3) / 3, mode="valid")
        if smooth_E.max() - curve_E[-3:].mean() > margin_at(float(smooth_E.max())):
            falls += 1
            found += told[trace.last] in ALARMS
        else:
            false_at_end += told[trace.last] in ALARMS
    rate, at_end = wilson(false, len(traces)), wilson(false_at_end, len(traces) - falls)
    return {
        "runs": len(traces),
        "false_alarms": rate.estimate,
        "false_alarms_ci": [rate.low, rate.high],
        "false_at_end": at_end.estimate,
        "false_at_end_ci": [at_end.low, at_end.high],
        "falls": falls,
        "falls_found": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", choices=("test", "calibration", "all"), default="test")
    parser.add_argument("--data", type=Path, default=DATA, help="where the traces are")
    options = parser.parse_args()
    calibration, test = split(load(options.data))
    traces = {"test": test, "calibration": calibration, "all": [*calibration, *test]}[options.part]
    rows = {name: score(traces, sized=sized) for name, sized in (("size in the log", True), ("size unknown", False))}
    if options.json:
        print(json.dumps({"part": options.part, "logs": rows}, indent=1))
        return
    for name, row in rows.items():
        low, high = row["false_alarms_ci"]
        print(
            f"{name:<16} false alarms {row['false_alarms']:.1%} ({low:.1%} to {high:.1%}) of {row['runs']} runs, "
            f"at the end {row['false_at_end']:.1%} of {row['runs'] - row['falls']}, "
            f"falls found {row['falls_found']} of {row['falls']}"
        )


if __name__ == "__main__":
    main()
