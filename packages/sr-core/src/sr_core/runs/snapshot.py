"""Copies of a training state in host memory, made while the training goes on.

On CUDA the copy runs on a stream of its own into pinned memory; whoever overwrites the originals waits for it on the
device (``hold_device``), whoever reads the copy waits for it on the host. Elsewhere a copy is a plain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["HostCopy", "Snapshot"]


class HostCopy:
    """A nest of dicts and lists with every tensor in it copied to host memory; ``copied`` takes it as it is."""

    def __init__(self, tree: Any, *, copied: bool = False) -> None:
        self._done: torch.cuda.Event | None = None
        self._stream: torch.cuda.Stream | None = None
        self._tree = tree if copied else self._copy(tree)
        if self._stream is not None:
            self._done = self._stream.record_event()

    def _copy(self, tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: self._copy(value) for key, value in tree.items()}
        if isinstance(tree, (list, tuple)):
            return type(tree)(self._copy(value) for value in tree)
        if not isinstance(tree, Tensor):
            return tree
        tensor = tree.detach()
        if not tensor.is_cuda:
            return tensor.to("cpu", copy=True)
        if self._stream is None:
            self._stream = torch.cuda.Stream(tensor.device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        with torch.cuda.stream(self._stream):
            host.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._stream)  # its memory is not given away while it is read
        return host

    def hold_device(self) -> None:
        """Make what comes next on the device wait until the originals have been read."""
        if self._done is not None:
            torch.cuda.current_stream().wait_event(self._done)

    def read(self) -> Any:
        """The copy, complete."""
        if self._done is not None:
            self._done.synchronize()
        return self._tree


@dataclass(frozen=True)
class Snapshot:
    """What a roll-back returns to: ``weights`` by name, and ``position``, the rest of what a trainer had come to."""

    copy: HostCopy = field(repr=False)

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], position: Mapping[str, Any], *, copied: bool = False) -> Snapshot:
        """A copy of both, or both as they are if ``copied`` already."""
        return cls(HostCopy({"weights": dict(weights), "position": dict(position)}, copied=copied))

    @property
    def weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.copy.read()["weights"]
        return weights

    @property
    def position(self) -> dict[str, Any]:
        position: dict[str, Any] = self.copy.read()["position"]
        return position
