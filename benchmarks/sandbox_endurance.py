"""20,000 programs of which a tenth time out, a twentieth crash and a fortieth exhaust memory: nothing may be left.

Run: uv run --group bench python benchmarks/sandbox_endurance.py [--json] [--programs N]

Checks after every batch that no zombie is left, that descriptors and resident memory of the grader and its workers
do not grow, and that every program gets the verdict it got before. Exit code 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from pathlib import Path

from sr_reward import CallCase, CallTests, CodeGrader, Task

TASK = Task(
    task_id="t",
    prompt="def f(x):\n",
    entry_point="f",
    tests=CallTests(cases=(CallCase(args=(1,), expected=2), CallCase(args=(5,), expected=6))),
)
KINDS = {
    "timeout": "    while True: pass\n",
    "crashed": "    import os\n    os.abort()\n",
    "memory": "    return [0] * 10**9\n",
    "failed": "    return x\n",
    "passed": "    return x + 1\n",
}


def expected_kind(number: int) -> str:
    """2 of 20 time out, 1 crashes, half a one exhausts memory, 1 is wrong, the rest is right."""
    place = number % 40
    return {0: "timeout", 10: "timeout", 20: "timeout", 30: "timeout", 5: "crashed", 25: "crashed", 15: "memory"}.get(
        place, "failed" if place in (3, 23) else "passed"
    )


def process_tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += process_tree(int(child))
    return found


def state() -> tuple[int, int, int]:
    """Zombies, open descriptors of this process, resident KiB of it and its workers."""
    zombies = resident = 0
    for pid in process_tree(os.getpid()):
        try:
            fields = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
        except FileNotFoundError:
            continue
        zombies += fields["State"].split()[0] == "Z"
        resident += int(fields.get("VmRSS", "0 kB").split()[0])
    return zombies, len(os.listdir("/proc/self/fd")), resident


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--timeout", type=float, default=0.1, help="CPU seconds per program")
    options = parser.parse_args()
    batch = 1000
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    states = []
    began = time.monotonic()
    with CodeGrader(timeout_s=options.timeout, memory_mb=256, deduplicate=False) as grader:
        for start in range(0, options.programs, batch):
            numbers = range(start, min(start + batch, options.programs))
            kinds = [expected_kind(number) for number in numbers]
            grades = grader.grade(
                [TASK] * len(kinds), [f"{KINDS[kind]}    # {n}\n" for n, kind in zip(numbers, kinds, strict=True)]
            )
            outcomes.update(grade.outcome for grade in grades)
            wrong += [f"{k}: {g}" for k, g in zip(kinds, grades, strict=True) if g.outcome != k]
            states.append(state())
            print(f"\r{len(grades) + start}/{options.programs}", end="", file=sys.stderr)
        level = grader.isolation
    print(file=sys.stderr)
    after = [pid for pid in process_tree(os.getpid()) if pid != os.getpid()]
    # the first batches warm up; from then on nothing may grow
    settled, last = states[min(2, len(states) - 1)], states[-1]
    result = {
        "programs": options.programs,
        "outcomes": dict(outcomes),
        "wrong_verdicts": len(wrong),
        "zombies": max(zombies for zombies, _, _ in states),
        "descriptor_growth": last[1] - settled[1],
        "resident_growth_kib": last[2] - settled[2],
        "left_behind": len(after),
        "isolation": level,
        "seconds": round(time.monotonic() - began, 1),
        "load_average": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
    }
    print(json.dumps(result) if options.json else "\n".join(f"{key:>20}: {value}" for key, value in result.items()))
    for line in wrong[:10]:
        print(f"wrong verdict: {line}", file=sys.stderr)
    good = (
        not wrong
        and result["zombies"] == 0
        and result["descriptor_growth"] == 0
        and last[2] - settled[2] < 4096
        and not after
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
