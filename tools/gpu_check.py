"""Run everything that has never met a GPU, in under ten minutes, and write what came out.

    uv run python tools/gpu_check.py [--out FILE] [--minutes 10] [--device cuda] [--check NAME]

Each check runs in a process of its own, so that one that fails, hangs or takes the device down leaves the others their
turn; its result is written at once. A result is ``ok`` with numbers, ``failed`` with its error, ``skipped`` with the
reason, or ``out of time`` (no check takes more than two fifths of the minutes). With ``--device cpu`` each check goes
as far as a CPU does. The exit code is 1 if a check failed. No GPU has run this script yet.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

CHECKS = (
    "device",
    "tests",
    "cuda_graphs",
    "flex_attention",
    "bfloat16",
    "nccl",
    "step_testbed",
    "step_gpu_0.5b",
    "step_gpu_0.5b_trl",
    "step_gpu_1.5b",
    "step_gpu_3b",
    "step_gpu_7b_lora",
    "engines",
)
SHARE = 0.4  # of all minutes, the most that one check may take


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--check", choices=CHECKS, action="append", help="default: all")
    parser.add_argument("--one", choices=CHECKS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(run_one(options.one, options.device)))
        return 0
    began = time.monotonic()
    table: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": options.device,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "trl", "vllm", "triton")},
        "checks": {},
    }
    for name in options.check or CHECKS:
        left = 60 * options.minutes - (time.monotonic() - began)
        command = [sys.executable, __file__, "--one", name, "--device", options.device]
        result = outcome_of(command, min(left, SHARE * 60 * options.minutes))
        table["checks"][name] = result
        write(options.out, table)
        print(f"{name:<20} {json.dumps(result)}", flush=True)
    return int(any(result["result"] == "failed" for result in table["checks"].values()))


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def outcome_of(command: list[str], limit_s: float) -> dict[str, Any]:
    """What a command prints as JSON in its last line, or why there is none, with its seconds."""
    if limit_s <= 0:
        return {"result": "out of time"}
    began = time.monotonic()
    # a session of its own, so that processes which the command started end with it
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        out, err = process.communicate(timeout=limit_s)
        found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        found = {"result": "out of time"}
    except (IndexError, ValueError):
        last = err.strip().splitlines()[-1:] or ["nothing was printed"]
        found = {"result": "failed", "error": f"exit code {process.returncode}: {last[0]}"}
    return found | {"wall_s": round(time.monotonic() - began, 1)}


def run_one(name: str, device: str) -> dict[str, Any]:
    """A check in this process."""
    checks = importlib.import_module("gpu_checks")
    try:
        found = checks.CHECKS[name](device)
    except checks.Skip as reason:
        return {"result": "skipped", "reason": str(reason)}
    except Exception as error:  # noqa: BLE001 - what a device does wrong is not of few kinds
        said = str(error).strip().splitlines()[-1:] or [""]
        return {"result": "failed", "error": f"{type(error).__name__}: {said[0]}"}
    return {"result": "ok", **found, "peak_mb": peak_mb(device)}


def peak_mb(device: str) -> float:
    """The most memory that this process held, of the GPU's where there is one."""
    if device == "cuda":
        torch = importlib.import_module("torch")
        return float(torch.cuda.max_memory_allocated() / 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(path: Path, table: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(table, indent=1) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
