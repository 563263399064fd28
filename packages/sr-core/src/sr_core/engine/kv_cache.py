"""Attention for the next token of many samples, with what they share stored once.

Samples of a prompt that have drawn the same tokens so far are one *branch*: they are computed once, and fork where they
part. Keys and values of a prompt are stored once for all of its branches.

Axes: P prompts, N branches, W most branches of a prompt, L longest prompt, T tokens drawn so far, H heads of keys and
values, E queries for each of them, D their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sr_core.engine.shared_prompts import SharedPrompts, additive

__all__ = ["Forks", "KVCache", "find_forks"]

_TOKENS = 2**32  # more than any vocabulary has


@dataclass(frozen=True, kw_only=True)
class Forks:
    """How the branches go on: ``tokens`` (N) is what each reads next, ``branch_S`` the branch of each sample.

    Branch ``targets[i]`` is a fork of branch ``sources[i]``; where ``keep`` is given, only these branches then
    stay, in this order.
    """

    tokens: Tensor
    branch_S: Tensor
    sources: Tensor
    targets: Tensor
    keep: Tensor | None

    @property
    def moves(self) -> bool:
        """Whether any branch forks or goes."""
        return len(self.targets) > 0 or self.keep is not None

    def carry(self, branches: Tensor) -> Tensor:
        """What belongs to each branch (N, before), for the branches there are now."""
        if len(self.targets):
            branches = torch.cat([branches, branches.new_zeros(max(0, int(self.targets.max()) + 1 - len(branches)))])
            branches[self.targets] = branches[self.sources]
        return branches if self.keep is None else branches[self.keep]


def find_forks(branch_S: Tensor, token_S: Tensor, branches: int) -> Forks:
    """Samples on ``branches`` branches, each with the token that it has drawn: those that still agree stay together.

    One of the tokens drawn on a branch goes on there; the others fork to branches that no sample is on, or to new ones.
    """
    nodes, node_S = torch.unique(branch_S * _TOKENS + token_S, return_inverse=True)
    parents = nodes // _TOKENS
    forks = torch.zeros_like(parents, dtype=torch.bool)
    forks[1:] = parents[1:] == parents[:-1]  # nodes are sorted, so those of a branch stand together
    idle = torch.ones(branches, dtype=torch.bool, device=branch_S.device)
    idle[parents] = False
    sources = parents[forks]
    new = torch.arange(branches, branches + len(sources), device=branch_S.device)
    targets = torch.cat([idle.nonzero()[:, 0], new])[: len(sources)]
    places = parents.masked_scatter(forks, targets)
    branches = max(branches, int(places.max()) + 1)
    keep = None
    if (
        len(nodes) < 0.8 * branches
    ):  # copying the caches costs as much as a token, so it waits until it frees many branches
        keep, order = places.sort()
        places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        branches = len(keep)
    tokens = branch_S.new_zeros(branches).scatter_(0, places, nodes % _TOKENS)  # idle branches read anything
    return Forks(tokens=tokens, branch_S=places[node_S], sources=sources, targets=targets, keep=keep)


class KVCache:
    """The next tokens of at most ``samples`` branches, ``room`` tokens each, of the prompts that ``read`` has kept.

    It begins with one branch for each prompt. ``inputs`` go to the decoder for every next token, ``advance`` after it.
    """

    def __init__(self, read: SharedPrompts, samples: int, room: int) -> None:
        assert read.kept is not None, "the prompts must have been read with keep=True"
        self.prompts = [read.kept[layer] for layer in sorted(read.kept)]
        self.lengths = read.prompts.lengths
        self.samples, self.room = samples, room
        self.length: Any = 0  # tokens of each branch so far
        self.own: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # branches x H x room x D, of which the first N branches are used
        self._mask: dict[int | None, Tensor] = {}
        self._stand(torch.arange(len(self.lengths), device=self.lengths.device))

    def fork(self, forks: Forks) -> None:
        """Copy branches that fork, then drop those that are not kept."""
        if not forks.moves:
            return
        owners = forks.carry(self.owners)
        if len(forks.targets):
            self._copy(forks.sources, forks.targets)
        if forks.keep is not None:
            self._copy(forks.keep, torch.arange(len(owners), device=owners.device))
            needed, owners = torch.unique(owners, return_inverse=True)
            if len(needed) < len(self.lengths):
                self.prompts = [(k[needed], v[needed]) for k, v in self.prompts]
                self.lengths = self.lengths[needed]
                self._mask.clear()
        self._stand(owners)

    def inputs(self, tokens: Tensor) -> dict[str, Any]:
        """What the decoder reads: the next token of each branch."""
        return {
            "input_ids": tokens[:, None],
            "position_ids": (self.lengths[self.owners] + self.length)[:, None],
            "use_cache": False,
            "backend": self,
        }

    def advance(self) -> None:
        """The tokens read last now belong to their branches."""
        self.length += 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
        k_p, v_p = self.prompts[layer]  # P x H x D x L and P x H x L x D
        prompts, heads, size, longest = k_p.shape
        branches = len(q)
        keys, values = self._append(layer, k.view(branches, heads, size), v.view(branches, heads, size))
        q = q.view(branches, heads, -1, size) * scaling  # N x H x E x D
        each = q.shape[2]
        scores_p = (self._to_grid(q) @ k_p).view(prompts, heads, self.width, each, longest)
        scores_p = self._from_grid(scores_p + self._prompt_mask(window, q))
        scores = q @ keys.transpose(2, 3)
        mask = self._own_mask(window, q)
        if mask is not None:
            scores = scores + mask
        weights = (
            torch.cat([scores_p, scores], dim=3)
            .softmax(dim=3, dtype=torch.promote_types(q.dtype, torch.float32))
            .to(q.dtype)
        )
        out = (self._to_grid(weights[..., :longest]) @ v_p).view(prompts, heads, self.width, each, size)
        out = self._from_grid(out) + weights[..., longest:] @ values
        return out.reshape(branches, 1, heads * each, size)

    def _append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N x H x T x D) of the branches, with those of their next token (N x H x D)."""
        branches, heads, size = key.shape
        if layer not in self.own:
            shape = (self.samples, heads, self.room, size)
            self.own[layer] = (key.new_empty(shape), key.new_empty(shape))
        keys, values = self.own[layer]
        keys[:branches, :, self.length], values[:branches, :, self.length] = key, value
        return keys[:branches, :, : self.length + 1], values[:branches, :, : self.length + 1]

    def _own_mask(self, window: int | None, like: Tensor) -> Tensor | None:
        """0 or -inf for each place of a branch (T); None where all are seen."""
        now = self.length + 1
        if window is None or now <= window:
            return None
        return additive(torch.arange(now, device=like.device) >= now - window, like)

    def _stand(self, owners: Tensor) -> None:
        """Branches of these prompts, and the place of each in a grid of P x W."""
        self.owners = owners
        counts = owners.bincount(minlength=len(self.lengths))
        self.width = int(counts.max())
        order = owners.argsort(stable=True)
        rank = torch.arange(len(owners), device=owners.device) - (counts.cumsum(0) - counts)[owners[order]]
        self.cells = torch.empty_like(order).scatter_(0, order, owners[order] * self.width + rank)

    def _to_grid(self, x: Tensor) -> Tensor:
        """N x H x E x .. to P x H x W * E x ..; cells without a branch are 0."""
        heads, each, size = x.shape[1:]
        prompts = len(self.lengths)
        grid = x.new_zeros((prompts * self.width, heads, each, size)).index_copy_(0, self.cells, x)
        grid = grid.view(prompts, self.width, heads, each, size).transpose(1, 2)
        return grid.reshape(prompts, heads, self.width * each, size)

    def _from_grid(self, grid: Tensor) -> Tensor:
        """P x H x W x E x .. to N x H x E x .."""
        return grid.transpose(1, 2).flatten(0, 1).index_select(0, self.cells)

    def _copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copy what branches have so far, in the memory that there is: fresh pages cost more than the copy."""
        for buffers in self.own.values():
            for buffer in buffers:
                buffer[targets, :, : self.length] = buffer[sources, :, : self.length]

    def _prompt_mask(self, window: int | None, like: Tensor) -> Tensor:
        """0 or -inf for each place of a prompt: P x 1 x 1 x 1 x L."""
        if window is not None or window not in self._mask:
            place = torch.arange(self.prompts[0][1].shape[2], device=like.device)
            seen = place < self.lengths[:, None]
            if window is not None:
                seen &= self.lengths[:, None] + self.length - place < window
            self._mask[window] = additive(seen, like)[:, None, None, None]
        return self._mask[window]
