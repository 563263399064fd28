"""A training state whose tensors are sharded: this process's rows of each, and the whole tensors they make up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sr_core.distributed.process_group import Ranks, exchanging

__all__ = ["full_state", "local_rows", "local_state"]


def local_rows(tensor: Tensor) -> Tensor:
    """This process's rows of a weight or gradient, not copied; a tensor that is not sharded, unchanged."""
    rows: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return rows


def full_state(tree: Any, ranks: Ranks) -> Any:
    """A nest of dicts and lists of this process's rows, with the whole tensors in host memory on the first process.

    Collective; the other processes get empty tensors. A tensor without dimensions is nobody's part.
    """
    return _mapped(tree, lambda tensor: _join(tensor, ranks))


def local_state(tree: Any, ranks: Ranks) -> Any:
    """The same nest of whole tensors, with this process's rows of each."""

    def rows(tensor: Tensor) -> Tensor:
        parts = tensor.chunk(ranks.count)  # as fully_shard does
        return parts[ranks.rank].contiguous() if ranks.rank < len(parts) else tensor[:0]

    return _mapped(tree, rows)


def _mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_mapped(value, change) for value in tree)
    return change(tree) if isinstance(tree, Tensor) and tree.dim() else tree


def _join(rows: Tensor, ranks: Ranks) -> Tensor:
    counts = ranks.gather([len(rows)])
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    with exchanging():
        dist.all_gather(parts, padded)
    if not ranks.first:
        return rows.new_empty(0)
    return torch.cat([part[:count].cpu() for part, count in zip(parts, counts, strict=True)])
