"""What this machine offers a run, and what to do where that is too little.

Versions, threads, memory, GPU, disk and optional packages. Control groups and memory are read on Linux only.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["Extra", "Finding", "Status", "check_machine", "usable_cores"]

Status = Literal["ok", "note", "problem"]
DISK_MIB = 2048  # one checkpoint of 135M parameters in float32 with two moments of Adam takes 1.5 GiB
MEMORY_MIB = 2048  # twice what torch, transformers, a shipped policy and its sandbox hold
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One part of the machine. ``ok``: nothing to do; ``note``: something optional is missing; ``problem``: runs fail
    or suffer. ``advice`` says what to do, and is empty where the status is ok."""

    name: str
    status: Status
    found: str
    advice: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok", "note": "-", "problem": "NO"}[self.status]
        advice = f"\n{'':5}→ {self.advice}" if self.advice else ""
        return f"  {mark:<2} {self.name:<10} {self.found}{advice}"


class Extra(NamedTuple):
    """Distributions that are not needed: what they are for, and how to get them."""

    distributions: tuple[str, ...]
    purpose: str
    how: str


def check_machine(folder: Path, extras: Mapping[str, Extra]) -> list[Finding]:
    """Everything but the sandbox. folder: where runs would be written. extras: name -> what it needs."""
    return [
        _versions(),
        _threads(),
        *_memory(),
        _gpu(),
        _disk(folder),
        *(_extra(name, extra) for name, extra in extras.items()),
    ]


def usable_cores() -> float:
    """CPU cores that this process may use: those it may be scheduled on, and no more than its control group's quota."""
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        cores = float(os.cpu_count() or 1)
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


def _versions() -> Finding:
    from packaging.requirements import Requirement

    found, wrong = [f"Python {platform.python_version()}"], []
    for text in metadata.requires("sr-core") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        version = _version(need.name)
        found.append(f"{need.name} {version}")
        if version is None or not need.specifier.contains(version, prereleases=True):
            wrong.append(f"{need.name}{need.specifier} is needed, {version or 'none'} is installed")
    if wrong:
        return Finding(name="versions", status="problem", found="; ".join(wrong), advice="install again with: uv sync")
    return Finding(name="versions", status="ok", found=", ".join(found))


def _threads() -> Finding:
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"{threads} torch threads on {cores:g} usable cores"
    if threads > max(1, round(cores)):
        advice = f"more threads than cores make every step slower: set OMP_NUM_THREADS={max(1, int(cores))}"
        return Finding(name="threads", status="problem", found=found, advice=advice)
    if cores < 2:
        advice = "sr demo trains two runs side by side and takes longer here"
        return Finding(name="threads", status="note", found=found, advice=advice)
    return Finding(name="threads", status="ok", found=found)


def _memory() -> Iterator[Finding]:
    free = _available_mib()
    if free is None:
        return
    found = f"{free / 1024:.1f} GiB available"
    if free < MEMORY_MIB:
        advice = f"{MEMORY_MIB // 1024} GiB are advised: end other programs, or lower sandbox.workers"
        yield Finding(name="memory", status="problem", found=found, advice=advice)
    else:
        yield Finding(name="memory", status="ok", found=found)


def _available_mib() -> float | None:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
        free = int(rows["MemAvailable"].split()[0]) / 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no limit, or another kind of control group
        return free
    return min(free, (limit - used) / 2**20)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        found = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
        return Finding(name="GPU", status="ok", found=found)
    if Path("/proc/driver/nvidia/version").exists():
        built = (
            f"torch {torch.__version__} is built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPU'}"
        )
        advice = "install a torch for this driver's CUDA; `nvidia-smi` shows its version"
        return Finding(name="GPU", status="problem", found=f"a driver, but torch cannot use it; {built}", advice=advice)
    advice = "the shipped policies need none; a model of a billion parameters does"
    return Finding(name="GPU", status="note", found="none", advice=advice)


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**20
    found = f"{free / 1024:.1f} GiB free where runs are written"
    if not os.access(there, os.W_OK):
        return Finding(name="disk", status="problem", found=f"{folder} cannot be written", advice="give another --out")
    if free < DISK_MIB:
        advice = f"at least {DISK_MIB // 1024} GiB are advised: free some, or give --out on another disk"
        return Finding(name="disk", status="problem", found=found, advice=advice)
    return Finding(name="disk", status="ok", found=found)


def _extra(name: str, extra: Extra) -> Finding:
    versions = {name: _version(name) for name in extra.distributions}
    if missing := [name for name, version in versions.items() if version is None]:
        text, advice = f"without {', '.join(missing)}", f"only for {extra.purpose}: {extra.how}"
        return Finding(name=name, status="note", found=text, advice=advice)
    return Finding(name=name, status="ok", found=", ".join(f"{name} {version}" for name, version in versions.items()))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
