"""How fast CARE's memory is when it is large: batched writes, and recalling a belief.

    uv run --group bench python benchmarks/care_memory.py [--entries N] [--json]

Writes N entries (default 1,000,000) in batches of 10,000, each batch one durable transaction, into a file in
the temporary folder (about 0.4 GB per million, deleted afterwards). The entries are made before the clock
starts. Then recalls beliefs: "fresh" opens the file, recalls and predicts one strategy; "open" does so on an
open memory; "plan" is a whole plan of the full planner for a new run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sr_care import CapabilityDelta, CapabilityMemory, CarePlanner, Context, Entry, Strategy
from sr_care.entry import CAPABILITIES

BATCH = 10_000
REPEATS = 50
GOALS = {"writes_per_s": 10_000, "recall_ms": 10.0}


def make_batch(first: int, size: int, random: np.random.Generator) -> list[Entry]:
    """Entries of ten campaigns per run, every tenth with the whole capability vector."""
    algorithms = ("reinforce", "rloo", "grpo", "dr_grpo", "dapo")
    entries = []
    for number in range(first, first + size):
        names = CAPABILITIES if number % 10 == 0 else CAPABILITIES[:1]
        entries.append(
            Entry(
                strategy=Strategy(
                    algorithm=algorithms[number % 5],
                    lr=float(10 ** random.uniform(-4, -2.5)),
                    steps=int(random.integers(1, 40)),
                ),
                context=Context(
                    family=f"family-{number % 8}",
                    model_parameters=1.1e6,
                    pass1=float(random.uniform(0, 0.6)),
                    entropy=float(random.uniform(0, 1)),
                ),
                delta=CapabilityDelta.from_errors(
                    {name: float(random.normal(0, 0.1)) for name in names}, dict.fromkeys(names, 0.03)
                ),
                run=f"run-{number // 10}",
                campaign=number % 10,
            )
        )
    return entries


def milliseconds(call: Callable[[], object]) -> dict[str, float]:
    """Median and 95th percentile of REPEATS calls, after one that warms the caches of the machine, and the
    processor time of one, which other work on the machine does not change."""
    call()
    times, processor = [], time.process_time()
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    processor = (time.process_time() - processor) * 1e3 / REPEATS
    return {"median": statistics.median(times), "p95": statistics.quantiles(times, n=20)[-1], "cpu": processor}


def measure(path: Path, count: int) -> dict[str, object]:
    random = np.random.default_rng(0)
    asked = [Strategy(algorithm="grpo", lr=1e-3, steps=20)], Context(family="family-1", pass1=0.3)
    writing = processor = 0.0
    with CapabilityMemory(path) as memory:
        for first in range(0, count, BATCH):
            batch = make_batch(first, min(BATCH, count - first), random)
            start, busy = time.perf_counter(), time.process_time()
            memory.append_many(batch)
            writing += time.perf_counter() - start
            processor += time.process_time() - busy
            print(f"\r{first + len(batch):,} entries", end="", file=sys.stderr)
        print(file=sys.stderr)
        memory.append_many(make_batch(count + 10, 250, random))  # a tail that no summary covers yet

        def fresh() -> None:
            with CapabilityMemory(path, read_only=True) as reader:
                reader.recall().predict(*asked)

        context = {
            "strategy": {"algorithm": "grpo", "lr": 1e-3, "steps": 20},
            "state": {"task_family": "family-1", "pass1": 0.3, "model_parameters": 1.1e6},
        }
        planner = CarePlanner(memory, version="v3", run="new")
        return {
            "date": f"{datetime.date.today()}",
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "sqlite": sqlite3.sqlite_version,
            "entries": len(memory),
            "bytes": sum(file.stat().st_size for file in path.parent.iterdir()),
            "writes_per_s": count / writing,
            "writes_per_processor_s": count / processor,
            "recall_fresh_ms": milliseconds(fresh),
            "recall_open_ms": milliseconds(lambda: memory.recall().predict(*asked)),
            "plan_ms": milliseconds(lambda: planner.plan(0, context)),
            "goals": GOALS,
        }


def show(result: dict[str, object]) -> None:
    print(f"{'entries':<28}{result['entries']:>12,}")
    print(f"{'file':<28}{int(str(result['bytes'])) / 1e6:>10,.0f} MB")
    print(f"{'batched writes':<28}{result['writes_per_s']:>10,.0f}/s   goal {GOALS['writes_per_s']:,}/s")
    print(f"{'  per processor second':<28}{result['writes_per_processor_s']:>10,.0f}/s")
    for name, key in (("recall, fresh process", "fresh"), ("recall, open memory", "open")):
        times = result[f"recall_{key}_ms"]
        assert isinstance(times, dict)
        print(f"{name:<28}{_times(times)}   goal {GOALS['recall_ms']} ms")
    plan = result["plan_ms"]
    assert isinstance(plan, dict)
    print(f"{'a whole plan':<28}{_times(plan)}")


def _times(times: dict[str, float]) -> str:
    return f"{times['median']:>10.2f} ms   95%: {times['p95']:.2f} ms   processor: {times['cpu']:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "memory.db", options.entries)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
