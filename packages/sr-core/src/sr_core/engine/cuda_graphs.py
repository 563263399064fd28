"""Decoding with fixed shapes, so that a GPU records the work for one token once and replays it for all others.

For a small model the launches of a token's some thousand kernels take longer than the kernels. A recorded graph repeats
them without Python, at the same addresses. So nothing here may change its shape from token to token: every sample is a
branch of its own, attention reads its keys and values in a fixed width (all its places, half of them, ...), and the
number of the token lies in memory.

Experimental: no GPU has run it yet; its tests replay records on a CPU.

Axes as in ``sr_core.engine.kv_cache``; N samples, numbered prompt by prompt, G of each prompt.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sr_core.engine.kv_cache import KVCache
from sr_core.engine.shared_prompts import SharedPrompts, additive
from sr_core.policy import Policy

__all__ = ["Recorded", "RecordedShapes", "StaticKVCache"]

SHAPES_KEPT = 2
FEWEST_BRANCHES, FEWEST_TOKENS = 8, 64  # below, a smaller shape is not worth recording again


class RecordedShapes:
    """The recorded decodings of the two shapes used last: as a rule, that of training and that of evaluation."""

    def __init__(self) -> None:
        self.caches: dict[object, StaticKVCache] = {}

    def cache(self, policy: Policy, prompts: Sequence[Sequence[int]], group: int, room: int) -> StaticKVCache:
        """The cache kept for samples of this shape, or a new one. Weights that have moved in memory need a new one."""
        longest = max(32, 1 << (max(map(len, prompts)) - 1).bit_length())  # a power of two, so that few shapes occur
        key = (len(prompts), group, longest, room, *(p.data_ptr() for p in policy.model.parameters()))
        cache = self.caches.pop(key, None) or StaticKVCache(policy.read, len(prompts), group, longest, room)
        while len(self.caches) >= SHAPES_KEPT:
            del self.caches[next(iter(self.caches))]
        self.caches[key] = cache
        return cache


class StaticKVCache(KVCache):
    """The next tokens of ``prompts`` x ``group`` samples, ``room`` tokens each, of prompts of at most ``longest``.

    ``begin`` takes the prompts that were read, ``next`` a token of every sample that goes on. ``read`` is the decoder.
    It keeps the keys and values of all samples in memory as long as it lives.
    """

    def __init__(self, read: Callable[..., Any], prompts: int, group: int, longest: int, room: int) -> None:
        self.read, self.group, self.longest, self.room = read, group, longest, room
        self.samples, self.width = prompts * group, group
        self.prompts: list[tuple[Tensor, Tensor]] = []
        self.own: dict[int, tuple[Tensor, Tensor]] = {}
        self.recorded: dict[tuple[int, int], Recorded] = {}

    def begin(self, read: SharedPrompts) -> None:
        """Take the keys and values of prompts; nothing is drawn yet."""
        assert read.kept is not None, "the prompts must have been read with keep=True"
        kept = [read.kept[layer] for layer in sorted(read.kept)]
        if not self.prompts:
            device = read.prompts.lengths.device
            self.lengths = torch.zeros_like(read.prompts.lengths)
            self.length = torch.zeros((), dtype=torch.long, device=device)  # tokens of each branch so far
            self.all_tokens = torch.zeros(self.samples, dtype=torch.long, device=device)
            self.all_cells = torch.zeros_like(self.all_tokens)
            self.prompts = [(_wider(k, 3, self.longest), _wider(v, 2, self.longest)) for k, v in kept]
            for layer, (k, v) in enumerate(self.prompts):
                shape = (self.samples, k.shape[1], self.room)
                self.own[layer] = (k.new_zeros((*shape, k.shape[2])), v.new_zeros((*shape, v.shape[3])))
        self.lengths.copy_(read.prompts.lengths)
        for (keys, values), (k, v) in zip(self.prompts, kept, strict=True):
            keys.copy_(_wider(k, 3, self.longest))
            values.copy_(_wider(v, 2, self.longest))
        for buffers in self.own.values():
            for buffer in buffers:  # places not yet drawn weigh 0, which only finite numbers bear
                buffer.zero_()
        self.length.zero_()
        self.count, self.branches = 0, self.samples
        torch.arange(self.samples, out=self.all_cells)

    def next(self, branch_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (N x hidden) that predict what follows ``token_S`` (S), and the branch of each sample in them.

        ``branch_S``: their branches in the call before; at the first call, the numbers of the samples.
        """
        branches = self.branches
        while branches // 2 >= max(len(branch_S), FEWEST_BRANCHES):
            branches //= 2
        if branches < self.branches:
            branch_S = self._keep(branch_S, branches)
        self.all_tokens[branch_S] = token_S
        places = self.room
        while places // 2 > max(self.count, FEWEST_TOKENS - 1):
            places //= 2
        if (branches, places) not in self.recorded:
            self.recorded[branches, places] = Recorded(lambda: self._step(branches, places))
        hidden = self.recorded[branches, places]()
        self.count += 1
        self.length.add_(1)
        return hidden, branch_S

    def _keep(self, branch_S: Tensor, branches: int) -> Tensor:
        """Move the branches of ``branch_S`` to the front, and as many that have ended as fill up ``branches``."""
        ended = torch.ones(self.branches, dtype=torch.bool, device=branch_S.device)
        ended[branch_S] = False
        stay = torch.cat([branch_S, ended.nonzero()[: branches - len(branch_S), 0]])
        for buffers in self.own.values():
            for buffer in buffers:
                buffer[:branches, :, : self.count] = buffer[stay, :, : self.count]
        self.all_cells[:branches] = self.all_cells[stay]
        self.all_tokens[:branches] = self.all_tokens[stay]
        self.branches = branches
        return torch.arange(len(branch_S), device=branch_S.device)

    def _step(self, branches: int, places: int) -> Tensor:
        """What is recorded: read the tokens of the first branches, of which ``places`` places are in use."""
        self.cells, self.places = self.all_cells[:branches], places
        self.owners = self.cells // self.group
        self._mask = {}
        hidden: Tensor = self.read(**self.inputs(self.all_tokens[:branches])).last_hidden_state
        return hidden[:, 0]

    def _append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[: len(key), :, : self.places] for buffer in self.own[layer])
        place = self.length[None]
        keys.index_copy_(2, place, key[:, :, None])
        values.index_copy_(2, place, value[:, :, None])
        return keys, values

    def _own_mask(self, window: int | None, like: Tensor) -> Tensor:
        back = self.length - torch.arange(self.places, device=like.device)
        return additive((back >= 0) if window is None else (back >= 0) & (back < window), like)


def _wider(x: Tensor, dim: int, size: int) -> Tensor:
    """``x`` with zeros behind it along ``dim``, up to ``size``."""
    missing = [*x.shape[:dim], size - x.shape[dim], *x.shape[dim + 1 :]]
    return torch.cat([x, x.new_zeros(missing)], dim=dim)


class Recorded:
    """``step``, which reads and writes tensors that stay where they are: recorded at the first call, then replayed.

    The record is compared with ``step`` itself once; where it cannot be made or differs, that is said in a warning, and
    ``step`` is called every time. Called twice on the same input, ``step`` must give the same.
    """

    def __init__(self, step: Callable[[], Tensor]) -> None:
        self.step = step
        self.replay: Callable[[], Tensor] | None = None

    def __call__(self) -> Tensor:
        if self.replay is not None:
            return self.replay()
        expected = self.step().clone()
        if not torch.isfinite(expected).all():  # there is nothing to compare with
            return expected
        try:
            replay = record(self.step)
            got = replay()
        except RuntimeError as error:
            return self._without(expected, f"recording failed: {error}")
        largest, apart = float(expected.abs().max()), float((got - expected).abs().max())
        tolerance = 1e-4 if expected.dtype in (torch.float32, torch.float64) else 5e-2
        if not apart <= tolerance * largest:
            return self._without(expected, f"the record differs by {apart:.3g}, where the largest is {largest:.3g}")
        self.replay = replay
        return got

    def _without(self, expected: Tensor, why: str) -> Tensor:
        warnings.warn(f"sampling goes on without CUDA graphs, slower but right: {why}", stacklevel=2)
        self.replay = self.step
        return expected


def record(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What replays ``step`` as a CUDA graph, and gives the tensor that it writes its result to."""
    graph = torch.cuda.CUDAGraph()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what is set up at the first call must not be recorded
        step()
    torch.cuda.current_stream().wait_stream(aside)
    with torch.cuda.graph(graph, pool=_pool(), capture_error_mode="thread_local"):  # other threads may copy snapshots
        result = step()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@cache
def _pool() -> Any:
    """The memory that all records share: they are replayed one at a time, each result is used before the next one."""
    return torch.cuda.graph_pool_handle()
