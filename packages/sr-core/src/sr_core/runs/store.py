"""A run on disk: ``run.json``, append-only ``metrics.jsonl`` and ``samples.jsonl``, whole directories as checkpoints.

A checkpoint is written to a temporary directory, its manifest (sizes and SHA-256) last, then renamed; it notes how long
the append-only files were. Loading takes the newest checkpoint whose manifest holds, and cuts the files back to it, so
a run killed at any moment goes on as if it had not been. Nothing is cut or deleted before a checkpoint has been loaded.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.errors import RunError
from sr_core.runs.atomic_io import DamageError, reporting, verify, write_file, write_folder, write_json
from sr_core.runs.checkpoint import Checkpoint, Weights
from sr_core.runs.pace import Pace
from sr_core.runs.run_dir import RUN, check_new, read_run, to_resume
from sr_core.runs.stop import Stop

__all__ = ["RunStore"]

APPENDED = ("metrics.jsonl", "samples.jsonl")


class RunStore:
    """The directory of one run. ``create`` starts it, ``open`` continues it; ``lock`` keeps others out.

    Of several processes (``ranks``) the first one writes; the others read, so all must see the same folder.
    """

    def __init__(self, folder: Path, ranks: Ranks = ALONE) -> None:
        self.folder = folder
        self.ranks = ranks
        self.checkpoints = folder / "checkpoints"
        self.notices: list[str] = []
        self.pace = Pace()
        self.stop = Stop()

    @classmethod
    def create(cls, folder: Path, run: Mapping[str, Any], ranks: Ranks = ALONE) -> RunStore:
        """Start a run in ``folder``, which must be absent or empty. Raises RunError otherwise."""
        store = cls(folder, ranks)
        with store.ranks.sync_errors():
            if store.ranks.first:
                store._create(run)
        return store

    def _create(self, run: Mapping[str, Any]) -> None:
        check_new(self.folder)
        with reporting(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # first, so that a run killed here is either none at all or one that can be resumed
            write_file(self.folder / RUN, (json.dumps(run, indent=2) + "\n").encode())
            self._furnish()

    def _furnish(self) -> None:
        self.checkpoints.mkdir(exist_ok=True)
        for name in APPENDED:
            (self.folder / name).touch()

    @classmethod
    def open(cls, folder: Path, ranks: Ranks = ALONE) -> RunStore:
        """Continue the run in ``folder``. Raises RunError when there is none."""
        read_run(folder)
        store = cls(folder, ranks)
        if store.ranks.first:
            with reporting(folder):
                store._furnish()
        return store

    def run(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        return read_run(self.folder)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for these processes. Raises RunError while another run of them has it."""
        if not self.ranks.first:
            yield
            return
        with (self.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"the run in {str(self.folder)!r} is being written by another process") from None
            yield

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to an append-only file; on disk when this returns."""
        data = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
        if not data or not self.ranks.first:
            return
        with reporting(self.folder), (self.folder / name).open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def rows(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The rows of an append-only file; a half-written last one is left out."""
        text = (self.folder / name).read_text()
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file of the run directory, whole or not at all."""
        if self.ranks.first:
            write_json(self.folder / name, value)

    def end_step(self, make: Callable[[], Checkpoint], *, due: bool) -> bool:
        """Write the checkpoint of a complete step if it is ``due`` (the first process says) or if the run is to stop.

        Returns whether it is to stop. Otherwise ``make`` has to give the same checkpoint until ``stop.moved_on``.
        Collective.
        """
        answers = self.ranks.gather([(due, self.stop.asked)])
        stops = any(asked for _, asked in answers)
        if answers[0][0] or stops:
            with self.pace.writing():
                self.save(make())
            self.stop.saved()
        else:  # several processes make a checkpoint together, so only where all of them are
            self.stop.unsaved(make if self.ranks.count == 1 else None)
        return stops

    def save_pending(self) -> None:
        """Write the checkpoint of the last complete step if it has none and can still be made."""
        if self.stop.pending is not None:
            self.save(self.stop.pending())
            self.stop.saved()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and delete those that neither this nor the previous one needs."""
        if not self.ranks.first:
            return
        with reporting(self.folder):
            for step, weights in checkpoint.retained.items():
                position = checkpoint.positions.get(step, {})
                fill_retained = functools.partial(_save_retained, weights=weights, position=position)
                write_folder(self.checkpoints / _held(checkpoint.campaign, step), fill_retained)
            for campaign, policy in checkpoint.earlier.items():
                write_folder(self.checkpoints / _kept(campaign), functools.partial(_save_weights, weights=policy))
            appended = {name: (self.folder / name).stat().st_size for name in APPENDED}
            state = {
                "state": checkpoint.state,
                "appended": appended,
                "held": sorted(checkpoint.retained),
                "earlier": sorted(checkpoint.earlier),
            }

            def fill(folder: Path) -> None:
                _save_weights(folder, checkpoint.weights)
                torch.save(checkpoint.trainer, folder / "trainer.pt")
                (folder / "state.json").write_text(json.dumps(state, allow_nan=False))

            write_folder(self.checkpoints / _name(checkpoint.campaign, checkpoint.step), fill)
            self._prune()

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint, None when none was ever written; the append-only files are cut back to it.

        A checkpoint that is damaged, that is, not what its manifest says, is passed over for the one before and
        deleted, and ``notices`` says so. Tensors come to host memory, wherever they were saved from. Raises RunError,
        and leaves everything as it is, when all are damaged or when a whole one cannot be loaded.
        """
        found: Checkpoint | None = None
        with self.ranks.sync_errors():
            if self.ranks.first:
                found = self._newest()
        place = self.ranks.broadcast(None if found is None else _name(found.campaign, found.step))
        with self.ranks.sync_errors():
            if place is not None and found is None:
                found, _ = self._read(self.checkpoints / place)
        return found

    def saved(self) -> tuple[int, int] | None:
        """Campaign and step of the newest checkpoint, None before the first one."""
        saved = self._saved()
        return _place(saved[-1]) if saved else None

    def _newest(self) -> Checkpoint | None:
        damaged: dict[Path, DamageError] = {}
        for path in reversed(self._saved()):
            try:
                found, appended = self._read(path)
            except DamageError as error:
                damaged[path] = error
                continue
            self._cut(appended)
            self._drop(damaged)
            return found
        if damaged:
            which = ", ".join(f"{path.name} is damaged ({error})" for path, error in damaged.items())
            raise RunError(
                f"a run goes on from a whole checkpoint, and {str(self.checkpoints)!r} has none: {which}. Nothing was "
                "changed: put a copy of one back, or start a new run with another --out"
            )
        self._cut(dict.fromkeys(APPENDED, 0))
        return None

    def _read(self, path: Path) -> tuple[Checkpoint, dict[str, int]]:
        """A checkpoint, and how long the append-only files were. Raises DamageError for one that does not verify."""
        with _loading(path):
            campaign, step = _place(path)
            verify(path)
            saved = json.loads((path / "state.json").read_text())
            retained = {s: self.checkpoints / _held(campaign, s) for s in saved["held"]}
            earlier = {c: self.checkpoints / _kept(c) for c in saved["earlier"]}
            for folder in (*retained.values(), *earlier.values()):
                _verify_part(folder)
            checkpoint = Checkpoint(
                campaign=campaign,
                step=step,
                state=saved["state"],
                trainer=_load(path / "trainer.pt"),
                weights=load_file(path / "weights.safetensors"),
                retained={s: load_file(folder / "weights.safetensors") for s, folder in retained.items()},
                positions={s: _load(folder / "position.pt") for s, folder in retained.items()},
                earlier={c: load_file(folder / "weights.safetensors") for c, folder in earlier.items()},
            )
            return checkpoint, saved["appended"]

    def _cut(self, sizes: Mapping[str, int]) -> None:
        with reporting(self.folder):
            for name, size in sizes.items():
                path = self.folder / name
                if not path.exists() or path.stat().st_size < size:
                    raise RunError(f"{name} of {str(self.folder)!r} is shorter than its checkpoint says: it was edited")
            for name, size in sizes.items():
                os.truncate(self.folder / name, size)

    def _drop(self, damaged: Mapping[Path, DamageError]) -> None:
        """Delete checkpoints that were passed over: they would count as newer than those the run writes now."""
        with reporting(self.folder):
            for path, error in damaged.items():
                self.notices.append(f"checkpoint {path.name} is damaged ({error}); the one before it is used")
                shutil.rmtree(path)

    def _saved(self) -> list[Path]:
        return sorted(p for p in self.checkpoints.glob("c*-step-*") if p.suffix != ".tmp")

    def _prune(self) -> None:
        saved = self._saved()
        needed = set(saved[-2:])
        for path in saved[-2:]:
            with contextlib.suppress(OSError, ValueError, KeyError):  # a damaged one needs nothing
                campaign = int(path.name.split("-")[0][1:])
                saved_state = json.loads((path / "state.json").read_text())
                needed |= {self.checkpoints / _held(campaign, s) for s in saved_state["held"]}
                needed |= {self.checkpoints / _kept(c) for c in saved_state["earlier"]}
        for path in self.checkpoints.glob("c*"):
            if path not in needed:
                shutil.rmtree(path)


def _name(campaign: int, step: int) -> str:
    return f"c{campaign:04d}-step-{step:06d}"


def _place(path: Path) -> tuple[int, int]:
    """Campaign and step of a checkpoint called by ``_name``."""
    campaign, step = path.name.removeprefix("c").split("-step-")
    return int(campaign), int(step)


def _held(campaign: int, step: int) -> str:
    """The folder of a retained step; runs of older versions have it under this name."""
    return f"c{campaign:04d}-held-{step:06d}"


def _kept(campaign: int) -> str:
    return f"c{campaign:04d}-kept"


@contextlib.contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Turn what keeps a checkpoint from being loaded, other than damage, into a RunError that says what to do."""
    try:
        yield
    except (
        *(OSError, ValueError, LookupError, TypeError, EOFError, RuntimeError, MemoryError),
        *(SafetensorError, pickle.UnpicklingError),
    ) as error:
        raise RunError(
            f"a run goes on from its newest whole checkpoint, and {str(path)!r} cannot be loaded here "
            f"({type(error).__name__}: {error}). Nothing was changed: give it the access, the memory or the versions "
            f"(see {RUN}) that it wants, then: {to_resume(path.parent.parent)}"
        ) from error


def _verify_part(folder: Path) -> None:
    """``verify`` a folder that checkpoints share; the error names it."""
    try:
        verify(folder)
    except DamageError as error:
        raise DamageError(f"of {folder.name}, {error}") from error


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _save_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")


def _save_retained(folder: Path, weights: Weights, position: dict[str, Any]) -> None:
    _save_weights(folder, weights)
    torch.save(position, folder / "position.pt")
