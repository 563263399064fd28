"""Runs the chains of a study, several at a time, and keeps a record of each.

A chain runs as ``sr run`` in a folder under ``running/``; killed, it is resumed. When it is done its record is written
and the folder removed. What has a record is not run again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sr_core.errors import RunError
from sr_core.sections import as_options
from sr_core.studies.records import Record, Records, condense
from sr_core.studies.spec import Settings, StudySpec


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One arm under one seed in one regime."""

    regime: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.regime}/{self.arm}-{self.seed}"

    @property
    def record(self) -> str:
        """The name of its record."""
        return f"chains/{self}"


class Memories(Protocol):
    """Memories of planners, as entries of plain values."""

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The entries of the memory at ``path``; none where there is no file."""

    def write(self, path: Path, entries: Sequence[dict[str, Any]]) -> None:
        """A new memory at ``path`` with these entries."""


class Study:
    """The folder of a study: which chains it has, and running those that it lacks.

    ``command`` starts the program that takes ``run`` and ``resume`` as ``sr`` does.
    """

    def __init__(self, spec: StudySpec, folder: Path, command: Sequence[str], memories: Memories) -> None:
        self.spec, self.folder, self.records = spec, folder, Records(folder)
        self._command, self._memories = list(command), memories
        self._going: set[subprocess.Popen[str]] = set()
        self._stopped = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"the study's folder {str(folder)!r} cannot be used: {error}") from error

    def plan(self, regimes: Iterable[str], arms: Sequence[str], seeds: Sequence[int]) -> list[Chain]:
        """All chains, seed by seed, so that a study cut short compares the same seeds; ``arms`` in their order."""
        return [
            Chain(regime=regime, arm=name, seed=seed)
            for place, seed in enumerate(seeds)
            for regime in regimes
            for name in arms
            if (arm := self.spec.arms[name]).retired == "" and place < (arm.seeds or len(seeds))
            if not (arm.memory_from and seed in arm.memory_seeds)
        ]

    def done(self, chain: Chain) -> bool:
        """Whether the chain has a record. Raises RunError where that is of other settings."""
        record = self.records.get(chain.record)
        if record is None:
            return False
        if wrong := self.spec.contradicts(chain.regime, chain.arm, record["config"]):
            raise RunError(
                f"{str(self.folder)!r} has a record of {chain} with other settings ({wrong}): choose another --out, or "
                "remove the record"
            )
        return True

    def by_arm(self) -> dict[str, dict[str, dict[int, Record]]]:
        """The records of all chains, by regime, arm and seed."""
        found: dict[str, dict[str, dict[int, Record]]] = {}
        for regime in self.spec.regimes:
            kept = self.records.under("chains", regime)
            for arm in self.spec.arms:
                seeds = {record["seed"]: record for record in kept.values() if record["arm"] == arm}
                if seeds:
                    found.setdefault(regime, {})[arm] = dict(sorted(seeds.items()))
        return found

    def run(self, chains: Sequence[Chain], *, workers: int, on_done: Callable[[Chain], None]) -> None:
        """Run what is missing, ``workers`` chains at a time, a thread each. Raises RunError if one fails.

        Interrupted, it ends the chains that are going; they have saved their state and continue next time.
        """
        pending: dict[Chain, Future[None]] = {}
        with ThreadPoolExecutor(workers) as pool:
            try:
                for chain in chains:
                    if not self.done(chain):
                        # submitted after those it waits for, so never before free workers have taken them
                        before = [pending[other] for other in self._sources(chain) if other in pending]
                        pending[chain] = pool.submit(self._run, chain, before)
                for chain, future in pending.items():
                    future.result()
                    on_done(chain)
            finally:
                self._stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._going):
                    process.terminate()

    def _sources(self, chain: Chain) -> list[Chain]:
        """The chains that this one copies from."""
        arm = self.spec.arms[chain.arm]
        budgets = [(arm.budget_from, chain.seed)] if arm.budget_from else []
        memories = [(arm.memory_from, seed) for seed in arm.memory_seeds] if arm.memory_from else []
        return [Chain(regime=chain.regime, arm=name, seed=seed) for name, seed in budgets + memories]

    def _run(self, chain: Chain, before: Sequence[Future[None]]) -> None:
        for other in before:
            other.result()
        if self._stopped:
            return
        folder = self.folder / "running" / str(chain)
        if not (folder / "summary.json").exists():
            if (folder / "run.json").exists():
                command = ["resume", str(folder)]
            else:
                shutil.rmtree(folder, ignore_errors=True)  # it was killed before it had begun
                settings = self.spec.settings_of(chain.regime, chain.arm, self._copied(chain))
                command = ["run", "--preset", self.spec.regimes[chain.regime].preset, "--seed", str(chain.seed)]
                command += ["--out", str(folder), *as_options(settings)]
            self._call(chain, command)
        if self._stopped:
            return
        who = {"regime": chain.regime, "arm": chain.arm, "seed": chain.seed}
        self.records.put(
            chain.record, who | condense(folder) | {"memory": self._memories.read(folder / "memory.sqlite")}
        )
        shutil.rmtree(folder)
        for part in folder.parent.glob(f"{folder.name}.memory*"):
            part.unlink()

    def _copied(self, chain: Chain) -> Settings:
        arm = self.spec.arms[chain.arm]
        copied: Settings = {}
        if arm.memory_from:
            copied["planner"] = {"memory": str(self._taught(chain))}
        if arm.budget_from:
            other = self._needed(chain, self._sources(chain)[0])
            steps = [campaign["steps"] for campaign in other["summary"]["campaigns"]]
            most, evaluations = other["config"]["campaign"]["steps"], sum(other["evaluated"])
            copied |= self.spec.copied(chain.arm, steps, evaluations, chain.seed, most)
        return copied

    def _taught(self, chain: Chain) -> Path:
        """A memory file of its own for ``chain``, with what the chains it learns from remember."""
        path = self.folder / "running" / f"{chain}.memory"
        path.parent.mkdir(parents=True, exist_ok=True)
        for part in path.parent.glob(f"{path.name}*"):  # of a chain that was killed before it had begun
            part.unlink()
        teachers = [other for other in self._sources(chain) if other.arm == self.spec.arms[chain.arm].memory_from]
        self._memories.write(path, [entry for other in teachers for entry in self._needed(chain, other)["memory"]])
        return path

    def _needed(self, chain: Chain, other: Chain) -> Record:
        record = self.records.get(other.record)
        if record is None:
            raise RunError(f"{chain} needs what {other} did, which has not been run: add that arm and seed")
        return record

    def _call(self, chain: Chain, command: Sequence[str]) -> None:
        process = subprocess.Popen(
            [*self._command, *command],
            env=one_thread(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._going.add(process)
        errors = process.communicate()[1]
        self._going.discard(process)
        if process.returncode and not self._stopped:
            reason = why_it_failed(process.returncode, errors)
            raise RunError(f"the chain {chain} failed ({reason}); see to that, then the same command goes on")


def why_it_failed(returncode: int, errors: str) -> str:
    """In a line, why a process of ``sr`` ended with ``returncode`` (not 0) after it wrote ``errors``."""
    if returncode == -signal.SIGKILL:
        return "it was killed, as a system does that runs out of memory"
    if returncode < 0:
        return f"it was ended by {signal.Signals(-returncode).name}"
    last = [text for text in errors.splitlines() if text.strip()][-1:]
    return " ".join(last).removeprefix("sr: ")


def one_thread() -> dict[str, str]:
    """The environment of a process with one thread: chains run side by side, and sums must not depend on the cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
