"""Attention for the next token of many samples, with their prompts' keys and values stored once per prompt.

Axes: P prompts, G samples of each, N = P*G lines, L longest prompt, H heads of keys and values, E queries for each of
them, D their size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sr_core.attention import SharedPrompts, additive

__all__ = ["Decoding"]


class Decoding:
    """The next tokens of ``group`` samples for each prompt that ``read`` has kept, at most ``room`` tokens each.

    Samples stay in a rectangle of P x G lines, prompt by prompt. ``inputs`` go to the decoder for every next token,
    ``advance`` after it.
    """

    def __init__(self, read: SharedPrompts, group: int, room: int) -> None:
        assert read.kept is not None, "the prompts must have been read with keep=True"
        self.prompts = [read.kept[layer] for layer in sorted(read.kept)]
        self.group = group
        self.lengths = read.prompts.lengths
        self.room = room
        self.length = 0  # tokens of each sample so far
        self.own: dict[int, tuple[Tensor, Tensor]] = {}
        self._mask: dict[int | None, Tensor] = {}

    def inputs(self, drawn: Tensor) -> dict[str, Any]:
        """What the decoder reads: the N x 1 tokens last drawn."""
        return {
            "input_ids": drawn,
            "position_ids": (self.lengths + self.length).repeat_interleave(self.group)[:, None],
            "use_cache": False,
            "plan": self,
        }

    def advance(self) -> None:
        """The tokens read last now belong to their samples."""
        self.length += 1

    def shrink(self, alive: Tensor) -> Tensor | None:
        """Drop samples that are not ``alive`` (N, bool); returns the lines that stay, or None if too few would go."""
        alive_PG = alive.view(-1, self.group)
        counts = alive_PG.sum(1)
        prompts = counts.nonzero()[:, 0]
        group = int(counts.max())
        # copying the caches costs as much as a token, so it waits until it frees a good part of them
        if group == 0 or len(prompts) * group > 0.8 * len(alive):
            return None
        samples = torch.argsort(alive_PG[prompts], dim=1, descending=True, stable=True)[:, :group]
        if len(prompts) < len(counts):
            self.prompts = [(k[prompts], v[prompts]) for k, v in self.prompts]
            self.lengths = self.lengths[prompts]
        self.own = {
            layer: (self._keep(k, prompts, samples), self._keep(v, prompts, samples))
            for layer, (k, v) in self.own.items()
        }
        lines = (prompts[:, None] * self.group + samples).flatten()
        self.group = group
        self._mask.clear()
        return lines

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
        k_p, v_p = self.prompts[layer]  # P x H x D x L and P x H x L x D
        prompts, heads, size, longest = k_p.shape
        group, now = self.group, self.length + 1
        if layer not in self.own:
            shape = (prompts, heads, group, self.room, size)
            self.own[layer] = (k.new_empty(shape), v.new_empty(shape))
        for buffer, new in zip(self.own[layer], (k, v), strict=True):
            buffer[..., self.length, :] = new.view(prompts, group, heads, size).transpose(1, 2)
        keys, values = (buffer[..., :now, :] for buffer in self.own[layer])
        q = (q.view(prompts, group, heads, -1, size) * scaling).transpose(1, 2)  # P x H x G x E x D
        each = q.shape[3]
        scores_p = (q.reshape(prompts, heads, group * each, size) @ k_p).view(prompts, heads, group, each, longest)
        scores_p += self._masked(window, q)
        scores = q @ keys.transpose(3, 4)
        if window is not None and now > window:
            scores[..., : now - window] = -torch.inf
        weights = (
            torch.cat([scores_p, scores], dim=4)
            .softmax(dim=4, dtype=torch.promote_types(q.dtype, torch.float32))
            .to(q.dtype)
        )
        out = (weights[..., :longest].reshape(prompts, heads, group * each, longest) @ v_p).view_as(q)
        out = out + weights[..., longest:] @ values
        return out.transpose(1, 2).reshape(prompts * group, 1, heads * each, size)

    def _keep(self, buffer: Tensor, prompts: Tensor, samples: Tensor) -> Tensor:
        """A buffer of only these samples, in the memory of the old one: fresh pages cost more than the copy."""
        kept = buffer[prompts[:, None], :, samples, : self.length].transpose(1, 2)
        smaller = (*kept.shape[:3], *buffer.shape[3:])
        new = buffer.view(-1)[: math.prod(smaller)].view(smaller)
        new[..., : self.length, :] = kept
        return new

    def _masked(self, window: int | None, like: Tensor) -> Tensor:
        """0 or -inf for each place of a prompt: P x 1 x 1 x 1 x L."""
        if window is not None or window not in self._mask:
            place = torch.arange(self.prompts[0][1].shape[2], device=like.device)
            seen = place < self.lengths[:, None]
            if window is not None:
                seen &= self.lengths[:, None] + self.length - place < window
            self._mask[window] = additive(seen, like)[:, None, None, None]
        return self._mask[window]
