"""Graders as they are often written, for the positive controls: program, tests and verdict share a process, or the
grader trusts what comes back. Run as a script: a request on standard input, a verdict as the exit code or text.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import time

ANSWERED_S = 30.0
BUSY_S = 0.2  # as in attacks.model


def attack_succeeds(request: dict[str, object], style: str, interpreter: str, folder: str) -> bool:
    """Run one attack against the naive grader of that style, in a process of its own. A grader that breaks, or is
    kept busy for a second over a few bytes, has lost too."""
    try:
        done = subprocess.run(
            [interpreter, "-S", "-s", os.path.abspath(__file__), style],
            input=json.dumps(request).encode(),
            capture_output=True,
            cwd=folder,
            timeout=ANSWERED_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False  # no answer proves nothing
    if style == "extracts":
        return done.returncode != 0 or float(done.stdout) > BUSY_S
    if style == "exit code":
        return done.returncode == 0
    if style in ("same interpreter", "marker"):
        return done.stdout.split()[:1] == [b"passed"]
    started = time.perf_counter()
    try:
        if style == "pickle":
            pickle.loads(done.stdout)
            return True
        rows = json.loads(done.stdout, object_pairs_hook=_build)
        right = rows[0][1] == 4
    except Exception:  # noqa: BLE001  # a naive grader does not expect this: it breaks
        return True
    return right or len(rows) != 2 or time.perf_counter() - started > 0.5


def _build(pairs: list[tuple[str, list[object]]]) -> object:
    tag, content = pairs[0]
    return {"t": tuple, "s": set, "d": dict}[tag](content)


def _extract(text: str) -> str:
    """The program in a text, as graders often look for it: by expressions, and by compiling what they find."""
    blocks: list[tuple[str, str]] = re.findall(r"(```+)\w*\n(.*?)\1", text, re.DOTALL)
    re.search(r"^class Solution\b.*?^ +def f\b", text, re.DOTALL | re.MULTILINE)
    lines = text.splitlines(keepends=True)[:400]
    for found in (*(body for _, body in blocks), *("".join(lines[:end]) for end in range(len(lines), 0, -1))):
        try:
            compile(found, "<sample>", "exec")
        except SyntaxError:
            continue
        return found
    return text


def main(style: str) -> None:
    """The naive grader itself; what is global here is what attackers look for."""
    global expected, results
    request = json.load(sys.stdin)
    if style == "extracts":
        began = time.process_time()
        _extract(request["program"])
        print(time.process_time() - began)
        return
    names: dict[str, object] = {}
    for program in request["before"]:
        exec(program, names)
        names["f"](1)  # type: ignore[operator]
    if style in ("pickle", "naive json"):
        os.dup2(1, 3)
        exec(request["program"], names)
        names["f"](*request["args"])  # type: ignore[operator]
    elif style == "exit code" or request["asserts"]:
        results = []
        exec(request["prompt"] and request["prompt"] + "    pass\n", names)
        exec(request["program"], names)
        exec(request["asserts"], names)
        if style != "exit code":
            print("passed")
    else:
        expected, results = [4, 9], []
        exec(request["program"], names)
        for given, want in zip((2, 3), expected):  # noqa: B905
            got = names["f"](given)  # type: ignore[operator]
            if not (got == want):  # noqa: SIM201  # as such graders are written: __eq__ decides
                results.append("failed")
        results.append("passed")
        print(results[0])


expected: list[int] = []
results: list[str] = []

if __name__ == "__main__":
    main(sys.argv[1])
