"""Put the study's numbers into the tables of the READMEs: python tools/study_tables.py [--check]

A row is found by its table's heading and its label; what a table says beside its numbers stays as it is. ``--check``
changes nothing and fails where a table is not what the results.json of the studies say.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sr_cli.studies import read_spec

ROOT = Path(__file__).parent.parent
Arm = dict[str, Any]

# a study's declaration and its records
STUDIES = {"benchmarks/study/paper.toml": "benchmarks/study", "benchmarks/study/steps.toml": "benchmarks/steps"}
MAIN = {
    "naive REINFORCE": "naive",
    "GRPO": "grpo",
    "CARE v1": "care_v1",
    "CARE v2, as the paper deployed it": "care_v2",
    "CARE v3, the full mechanism": "care_v3",
    "CARE v3 with the memory of three other seeds": "care_v3_taught",
    "early stopping (ES), the paper's best control": "es",
    "weight averaging": "average",
    "**guard**": "guard",
    "**measured steps**": "measured",
}
CARE = {
    "no planner": "naive",
    "`v2`, as the paper deployed it": "care_v2",
    "`v1`": "care_v1",
    "`v3`": "care_v3",
    "`v3` with the memory of three other seeds": "care_v3_taught",
}


def percent(arm: Arm, usual: int) -> str:
    low, high = arm["ci"]
    seeds = len(arm["per_seed"])
    return f"{100 * arm['end']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" + ("" if seeds == usual else f" ({seeds})")


def span(values: list[float]) -> str:
    low, high = (f"{round(value):,}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


TABLES: dict[str, tuple[str, dict[str, str], Callable[[list[Arm]], list[str]]]] = {
    "README.md": (
        "| end of the chain | rich | fragile | evaluation samples |",
        MAIN,
        lambda arms: [*(percent(arm, 5) for arm in arms), span([arm["evaluation_samples"] for arm in arms])],
    ),
    "packages/sr-care/README.md": (
        "| | rich | fragile | gradient steps |",
        CARE,
        lambda arms: [*(percent(arm, 5) for arm in arms), ", ".join(f"{arm['steps']:.0f}" for arm in arms)],
    ),
}


def measured(regime: str) -> dict[str, Arm]:
    """The arms of a regime, of all studies; evaluations that steer nothing are for the record, and count 0."""
    found = {}
    for declared, records in STUDIES.items():
        spec = read_spec(ROOT / declared)
        for name, arm in json.loads((ROOT / records / "results.json").read_text())["regimes"][regime]["arms"].items():
            found[name] = arm if spec.decides(name) else {**arm, "evaluation_samples": 0}
    return found


def filled(text: str, heading: str, labels: dict[str, str], cells: Callable[[list[Arm]], list[str]]) -> str:
    regimes = [measured("rich"), measured("fragile")]
    before, found, after = text.partition(heading + "\n")
    if not found:
        raise SystemExit(f"no table {heading!r}")
    rule, *rows = after.split("\n\n")[0].split("\n")
    table = [rule]
    for row in rows:
        label = row.split("|")[1].strip()
        table.append(f"| {' | '.join([label, *cells([arms[labels[label]] for arms in regimes])])} |")
    return before + found + after.replace("\n".join([rule, *rows]), "\n".join(table), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    options = parser.parse_args()
    stale = []
    for name, table in TABLES.items():
        text = (ROOT / name).read_text()
        new = filled(text, *table)
        if new != text:
            stale.append(name)
            if not options.check:
                (ROOT / name).write_text(new)
    print(f"{'out of date' if options.check else 'rewritten'}: {', '.join(stale) or 'none'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
