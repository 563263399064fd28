"""Running the chains of a study, several at a time, and keeping of each what can be looked at later.

A chain runs as ``sr run`` in a folder under ``running/``; killed, it is resumed. When it is done, its record is written
(``records``) and the folder goes away. What has a record is not run again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_care import CapabilityMemory, Entry
from sr_cli.study.arms import ARMS, REGIMES, TEACHERS, Settings, copied_settings, settings_of
from sr_cli.study.records import Record, Records
from sr_core.errors import RunError
from sr_core.runs.atomic_io import write_json

SIGNALS = (
    *("train_reward", "entropy", "length", "truncated", "unique_share", "zero_std_groups", "grad_norm", "lr"),
    *("step_kl", "step_scale", "step_shortened"),
)
COUNTS = {"heldout": "heldout_passes", "unique": "heldout_unique", "well_formed": "heldout_well_formed"}


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

    @property
    def after(self) -> Chain | None:
        """The chain whose budgets this one copies."""
        other = ARMS[self.arm].after
        return None if other is None else Chain(regime=self.regime, arm=other, seed=self.seed)

    @property
    def teachers(self) -> list[Chain]:
        """The chains whose memories this one begins with."""
        other = ARMS[self.arm].taught_by
        return [] if other is None else [Chain(regime=self.regime, arm=other, seed=seed) for seed in TEACHERS]


def plan(regimes: Iterable[str], arms: Sequence[str], seeds: Sequence[int]) -> list[Chain]:
    """All chains, seed by seed, so that a study cut short compares the same seeds; ``arms`` in their order."""
    return [
        Chain(regime=regime, arm=arm, seed=seed)
        for place, seed in enumerate(seeds)
        for regime in regimes
        for arm in arms
        if place < ARMS[arm].seeds and not ARMS[arm].retired and not (ARMS[arm].taught_by and seed in TEACHERS)
    ]


class Study:
    """The folder of a study: which chains it has, and running those that it lacks."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder, self.quick, self.records = folder, quick, Records(folder)
        self._going: set[subprocess.Popen[str]] = set()
        self._stopped = False
        description = {"quick": quick, "regimes": {name: vars(regime) for name, regime in REGIMES.items()}}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            known = folder / "study.json"
            if known.exists() and json.loads(known.read_text()) != description:
                raise RunError(
                    f"{str(folder)!r} holds a study with other settings (see its study.json): choose another --out"
                )
            write_json(known, description)
        except (OSError, ValueError) as error:
            raise RunError(f"the study's folder {str(folder)!r} cannot be used: {error}") from error

    def done(self, chain: Chain) -> bool:
        """Whether the chain has a record."""
        return chain.record in self.records

    def by_arm(self) -> dict[str, dict[str, dict[int, Record]]]:
        """The records of all chains, by regime, arm and seed."""
        found: dict[str, dict[str, dict[int, Record]]] = {}
        for regime in REGIMES:
            kept = self.records.under("chains", regime)
            for arm in ARMS:
                seeds = {record["seed"]: record for record in kept.values() if record["arm"] == arm}
                if seeds:
                    found.setdefault(regime, {})[arm] = dict(sorted(seeds.items()))
        return found

    def run(self, chains: Sequence[Chain], *, workers: int, on_done: Callable[[Chain], None]) -> None:
        """Run what is missing, ``workers`` chains at a time, a thread each. Raises RunError if one fails.

        Interrupted, it ends the chains that are going; they have saved their state and go on next time.
        """
        pending: dict[Chain, Future[None]] = {}
        with ThreadPoolExecutor(workers) as pool:
            try:
                for chain in chains:
                    if not self.done(chain):
                        # submitted after those it waits for, so never before free workers have taken them
                        needed = (chain.after, *chain.teachers)
                        before = [pending[other] for other in needed if other in pending]
                        pending[chain] = pool.submit(self._run, chain, before)
                for chain, future in pending.items():
                    future.result()
                    on_done(chain)
            finally:
                self._stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._going):
                    process.terminate()

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
                preset, settings = settings_of(chain.regime, chain.arm, self.quick, self._copied(chain))
                command = ["run", "--preset", preset, "--seed", str(chain.seed), "--out", str(folder)]
                command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
            self._call(chain, command)
        if self._stopped:
            return
        self.records.put(chain.record, condense(chain, folder))
        shutil.rmtree(folder)
        for part in folder.parent.glob(f"{folder.name}.memory*"):
            part.unlink()

    def _copied(self, chain: Chain) -> Settings:
        if chain.teachers:
            return {"planner.memory": str(self._taught(chain))}
        if chain.after is None:
            return {}
        other = self._needed(chain, chain.after)
        steps = [campaign["steps"] for campaign in other["summary"]["campaigns"]]
        most = other["config"]["campaign"]["steps"]
        return copied_settings(chain.arm, steps, sum(other["evaluated"]), chain.seed, most)

    def _taught(self, chain: Chain) -> Path:
        """A memory file of its own for ``chain`` that holds what its teachers remember."""
        path = self.folder / "running" / f"{chain}.memory"
        path.parent.mkdir(parents=True, exist_ok=True)
        for part in path.parent.glob(f"{path.name}*"):  # of a chain that was killed before it had begun
            part.unlink()
        entries = [Entry.from_dict(entry) for other in chain.teachers for entry in self._needed(chain, other)["memory"]]
        with CapabilityMemory(path) as memory:
            memory.append_many(entries)
        return path

    def _needed(self, chain: Chain, other: Chain) -> Record:
        record = self.records.get(other.record)
        if record is None:
            raise RunError(f"{chain} needs what {other} did, which has not been run: add that arm and seed")
        return record

    def _call(self, chain: Chain, command: Sequence[str]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "sr_cli", *command],
            env=one_thread(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._going.add(process)
        errors = process.communicate()[1]
        self._going.discard(process)
        if process.returncode and not self._stopped:
            last = [text for text in errors.splitlines() if text.strip()][-1:]
            raise RunError(f"the chain {chain} failed ({' '.join(last).removeprefix('sr: ')}); run the study again")


def one_thread() -> dict[str, str]:
    """The environment of a process with one thread: policies this small do not fill two, and a sum must not depend on
    the machine's cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def condense(chain: Chain, folder: Path) -> Record:
    """What is kept of a finished run: description, summary, and its rows as columns, signals to three digits."""
    run = json.loads((folder / "run.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    acted = [row for row in rows if row["decision"]["action"] != "continue"]
    training = sum(row["seconds"][phase] for row in rows for phase in ("rollout", "grade", "update"))
    return {
        "regime": chain.regime,
        "arm": chain.arm,
        "seed": chain.seed,
        **{key: run[key] for key in ("config", "versions", "device", "threads", "isolation")},
        "summary": _rounded(summary),
        "memory": _memory(folder / "memory.sqlite"),
        "campaign": [row["campaign"] for row in rows],
        "step": [row["step"] for row in rows],
        **{name: [row[key] and sum(row[key]) for row in rows] for name, key in COUNTS.items()},
        "samples": [row["heldout_samples"] for row in rows],
        "se": [_short(row["heldout_se"]) for row in rows],
        "evaluated": [int(row["heldout_passes"] is not None) for row in rows],
        "evaluation_samples": sum(row["evaluation_samples"] for row in rows)
        + sum(campaign.get("ood_samples", 0) for campaign in summary.get("campaigns", [])),
        "training_samples": sum(row["sampled_tokens"] is not None for row in rows)
        * run["config"]["sampling"]["prompts"]
        * run["config"]["sampling"]["group_size"],
        "signals": {name: [_short(row.get(name)) for row in rows] for name in SIGNALS},
        "seconds": {"training": round(training, 1), "evaluate": round(sum(r["seconds"]["evaluate"] for r in rows), 1)},
        "decisions": [
            {"campaign": row["campaign"], "step": row["step"]}
            | {key: row["decision"][key] for key in ("action", "rule", "to_step", "reason")}
            for row in acted
        ],
    }


def _memory(path: Path) -> list[dict[str, Any]]:
    """What a chain with a memory of its own remembers."""
    if not path.exists():
        return []
    with CapabilityMemory(path, read_only=True) as memory:
        return [entry.to_dict() for entry in memory.entries()]


def _rounded(value: Any) -> Any:
    """Numbers to six digits: an audited share of 1,600 samples has four, and covariances of capabilities fill room."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
