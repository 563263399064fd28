"""Tables and figures of the paper's study from its records, and its forks.

    uv run sr study benchmarks/study/paper.toml --out benchmarks/study   # first: runs the chains that have no record
    uv run python benchmarks/paper_study.py [--forks N] [--pack] [--out FOLDER] [--json]

Writes results.json, RESULTS.md (after READING.md) and the figures into the folder. ``--forks N`` also runs what is
missing of N forks per main regime (``study.forks``); ``--pack`` first moves all records into one file.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from study import care_tables, fork_tables
from study.figures import figures
from study.forks import PAPER, judge_forks, read_forks, run_forks

from sr_cli.studies import judged, open_study, read_spec, shown_arms, title_of
from sr_core.runs.atomic_io import write_json
from sr_monitor.report.study import tables

# arXiv 2606.21090, end of chain, percent: 3B (fragile), 7B (rich)
PAPERS: dict[str, dict[str, str]] = {
    "fragile": {
        "naive": "4.9 [2.1, 9.5]",
        "care_v2": "9.5 [6.3, 12.7]",
        "es": "–",
        "grpo": "6.8",
        "grpo_care": "4.7",
        "grpo_es": "–",
    },
    "rich": {
        "naive": "11.8 [5.2, 18.3]",
        "care_v2": "13.8 [2.8, 27.3]",
        "es": "22.2 [14.1, 28.0]",
        "grpo": "20.7 [15.7, 25.1]",
        "grpo_care": "20.4",
        "grpo_es": "17.0 [0.0, 28.1]",
    },
}


def rebuild(folder: Path) -> dict[str, Any]:
    """Results, tables and figures of all the records in ``folder``."""
    spec = read_spec(PAPER)
    study = open_study(spec, folder)
    records, shown = study.by_arm(), shown_arms(spec)
    results = judged(study)
    forks = {regime: found for regime in spec.regimes if (found := read_forks(study.records, regime))}
    results["forks"] = {regime: judge_forks(found) for regime, found in forks.items()}
    write_json(folder / "results.json", results)
    pictures = figures(spec, shown, results, records, folder)
    reading = folder / "READING.md"
    parts = [reading.read_text()] if reading.exists() else []
    for regime, found in results["regimes"].items():
        paper = ("paper", PAPERS.get(regime, {}))
        parts.append(tables(title_of(spec, regime), found["arms"], shown, spec.compare, paper))
        parts.append(care_tables.tables(spec, records[regime]))
    parts += [fork_tables.tables(regime, results["forks"][regime], found) for regime, found in forks.items()]
    parts += [f"![{name[:-4]}]({name})" for name in pictures]
    (folder / "RESULTS.md").write_text("\n".join(parts) + "\n")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forks", type=int, default=0, help="run what is missing of so many forks per main regime")
    parser.add_argument("--pack", action="store_true", help="move all records into one file, half as large")
    parser.add_argument("--out", type=Path, default=PAPER.parent, help="the study's folder")
    parser.add_argument("--json", action="store_true", help="print results.json as one JSON object")
    options = parser.parse_args()
    spec = read_spec(PAPER)
    study = open_study(spec, options.out)
    for regime in spec.choice.default_regimes if options.forks else ():
        run_forks(study.records, regime, range(options.forks), workers=os.cpu_count() or 1, on_done=print)
    if options.pack:
        print(f"{study.records.pack()} records packed")
    results = rebuild(options.out)
    print(json.dumps(results) if options.json else (options.out / "RESULTS.md").read_text())


if __name__ == "__main__":
    main()
