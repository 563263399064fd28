"""Score a rule on recorded training runs, beside the guard of this package.

    python -m sr_monitor.tracebench --detector MODULE:NAME    # a Detector or Guard, made once per run
    python -m sr_monitor.tracebench --decisions FILE.csv      # run,alarm,kept[,drawn], made on exported logs
    python -m sr_monitor.tracebench --export DIR              # the logs, without what is audited

Tune on --part calibration (even seeds) only; the result is of --part test (odd seeds). Exit code 2: bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sr_monitor.errors import MonitorError
from sr_monitor.guard.collapse_guard import CollapseGuard
from sr_monitor.tracebench.play import guarded
from sr_monitor.tracebench.score import Score, table
from sr_monitor.tracebench.submit import decisions, entry_point, export
from sr_monitor.tracebench.trace import load, split

OURS = "CollapseGuard, full"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sr_monitor.tracebench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--detector", metavar="MODULE:NAME", help="callable that makes a Detector or a Guard")
    what.add_argument("--decisions", metavar="FILE", type=Path, help="CSV: run,alarm,kept[,drawn]")
    what.add_argument("--export", metavar="DIR", type=Path, help="write the runs as CSV logs, and score nothing")
    parser.add_argument("--name", help="the name of the row (default: what was given)")
    parser.add_argument("--part", choices=("test", "calibration"), default="test")
    parser.add_argument("--data", type=Path, default=Path("benchmarks/traces/data"), help="the folder of the traces")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    sys.path.insert(0, "")  # a module in the working directory, however this was started
    try:
        calibration, test = split(load(options.data))
        traces = test if options.part == "test" else calibration
        if options.export:
            export(traces, options.export)
            print(f"{len(traces)} runs of the {options.part} part written to {options.export}")
            return
        rule = entry_point(options.detector) if options.detector else decisions(options.decisions, traces)
        ours = Score.of(guarded(lambda trace: CollapseGuard()), traces)
        theirs = Score.of(rule, traces)
    except MonitorError as error:
        print(f"tracebench: {error}", file=sys.stderr)
        sys.exit(2)
    name = options.name or options.detector or options.decisions.name
    methods = {OURS: ours.row(ours), name: theirs.row(ours)}
    if options.json:
        print(json.dumps({"part": options.part, "runs": len(traces), "methods": methods}, allow_nan=False))
        return
    print(f"{len(traces)} runs, {options.part} part")
    print(table(methods))


if __name__ == "__main__":
    main()
