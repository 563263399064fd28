"""A model's trained weights in host memory, their running average, and the few that a guard may return to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sr_monitor.errors import MonitorError

__all__ = ["RetainedWeights", "WeightAverage", "Weights", "copied", "paste", "trainable"]

Weights = dict[str, Tensor]


class WeightAverage:
    """Running mean of a model's trained weights since ``begin``, in host memory, in float32 where they are narrower.

    At a rate that makes a policy rise fast its last iterates scatter around a better policy between them, and their
    mean is near it (Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv 1803.05407).
    """

    def __init__(self) -> None:
        self.weights: Weights = {}
        self.count = 0

    def begin(self, model: Any) -> None:
        """Start anew with what the model is now."""
        self.weights = {name: _wide(tensor) for name, tensor in copied(model).items()}
        self.count = 1

    def add(self, model: Any) -> None:
        """Take in what the model is now."""
        self.count += 1
        for name, tensor in copied(model).items():
            self.weights[name].lerp_(_wide(tensor), 1 / self.count)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights, self.count = dict(state["weights"]), state["count"]


class RetainedWeights:
    """Weights by step, in host memory or as files ``folder/step-N.pt``.

    A file is written once, however many checkpoints refer to it: ``link_into`` gives a checkpoint hard links.
    ``writes``: whether this process is the one that writes files.
    """

    def __init__(self, folder: Path, *, on_disk: bool, writes: bool) -> None:
        self.folder, self.on_disk, self.writes = folder, on_disk, writes
        self._held: dict[int, Weights | None] = {}  # None: as a file

    def __contains__(self, step: int) -> bool:
        return step in self._held

    def __iter__(self) -> Any:
        return iter(sorted(self._held))

    def put(self, step: int, weights: Weights) -> None:
        """Keep ``weights`` as those of ``step``. On disk, other processes must wait before they read them."""
        self._held[step] = None if self.on_disk else weights
        if self.on_disk:
            self._write(step, weights)

    def get(self, step: int) -> Weights:
        if step not in self._held:
            raise MonitorError(f"callback: step {step} is not held; a guard may name steps in {sorted(self._held)}")
        held = self._held[step]
        return _read(self._file(step)) if held is None else held

    def drop(self, steps: Iterable[int]) -> None:
        """Forget ``steps``; checkpoints that link to their files keep them."""
        for step in steps:
            del self._held[step]
            if self.writes:
                self._file(step).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all, and the files that an earlier training left in the folder; checkpoints keep theirs."""
        self.drop(list(self._held))
        if self.writes and self.folder.is_dir():
            for left in self.folder.glob("step-*.*"):
                left.unlink()

    def link_into(self, folder: Path, steps: Iterable[int]) -> None:
        """Let ``folder`` hold the files of ``steps``: as hard links, or as copies where links are not possible."""
        for step in steps:
            if not self._file(step).exists():
                self._write(step, self.get(step))
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / self._file(step).name
            target.unlink(missing_ok=True)
            try:
                os.link(self._file(step), target)
            except OSError:  # another file system, or one without links
                shutil.copy2(self._file(step), target)

    def load_from(self, folder: Path, steps: Iterable[int]) -> None:
        """Keep what ``link_into`` left in ``folder``."""
        for step in steps:
            self.put(step, _read(folder / self._file(step).name))

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step}.pt"

    def _write(self, step: int, weights: Weights) -> None:
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._file(step).with_suffix(".tmp")
        torch.save(weights, unfinished)
        os.replace(unfinished, self._file(step))


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def copied(model: Any) -> Weights:
    """Trainable parameters in host memory. An empty one is refused: it lies in other processes."""
    weights = {name: p.detach().to("cpu", copy=True) for name, p in trainable(model).items()}
    empty = next((name for name, tensor in weights.items() if not tensor.numel()), None)
    if empty is not None:
        raise MonitorError(f"callback: parameter {empty} is empty, as under DeepSpeed ZeRO-3 or FSDP; use DDP")
    return weights


def paste(model: Any, weights: Weights) -> None:
    """Put ``weights`` into the model, in place. Names and shapes must be those of its trainable parameters."""
    parameters = trainable(model)
    differ = parameters.keys() ^ weights.keys() | {
        name for name, p in parameters.items() if name in weights and p.shape != weights[name].shape
    }
    if differ:
        raise MonitorError(
            f"callback: the held weights do not fit the model, {sorted(differ)[0]} differs; resume with the same model "
            "and the same trainable parameters"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _read(file: Path) -> Weights:
    if not file.exists():
        raise MonitorError(f"callback: {file} is missing; the guard cannot return to that step")
    loaded: Weights = torch.load(file, map_location="cpu", weights_only=True)
    return loaded


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
