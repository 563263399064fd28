"""Attention over shared prompts as one sparse product, for GPUs: torch's flex attention instead of padded grids.

A completion sees its prompt and itself, so of the S x S blocks of a row most are empty; flex attention (Dong et al.
2024, arXiv 2412.05496) leaves them out. It is compiled at the first use, for any number of tokens.
Experimental: no GPU has run it yet; its tests run it uncompiled on a CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from sr_core.engine.shared_prompts import SharedPrompts, shared_attention

__all__ = ["FlexPrompts", "can_flex"]


class FlexPrompts(SharedPrompts):
    """``SharedPrompts`` whose attention is one product over the whole row, blocks that nobody sees left out."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._blocks: dict[int | None, BlockMask] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
        mask = self._block_mask(window)
        out: Tensor = _attention()(q, k, v, block_mask=mask, scale=scaling, enable_gqa=k.shape[1] != q.shape[1])
        return out.transpose(1, 2)

    def _block_mask(self, window: int | None) -> BlockMask:
        """A token sees those of its own prompt or completion, and of its completion's prompt, that are not later."""
        if window not in self._blocks:
            position = self.inputs["position_ids"][0]
            prompts = torch.arange(len(self.prompts.lengths), device=position.device)
            lengths = torch.cat([self.prompts.lengths, self.completions.lengths])
            part = torch.arange(len(lengths), device=position.device).repeat_interleave(lengths)
            prompt = torch.cat([prompts, self.owners])[part]

            def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                del batch, head
                back = position[query] - position[key]
                visible: Tensor = ((part[key] == part[query]) | (part[key] == prompt[query])) & (back >= 0)
                return visible if window is None else visible & (back < window)

            size = len(position)
            self._blocks[window] = create_block_mask(seen, None, None, size, size, device=position.device)
        return self._blocks[window]


@cache
def _attention() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True)


def can_flex(decoder: Any, device: torch.device) -> bool:
    """Whether ``FlexPrompts`` gives the states and gradients of ``SharedPrompts``; where not, a warning says why.

    The tokens compared reach beyond any sliding window that the configuration names, up to 512.
    """
    config = decoder.config
    window = min(getattr(config, "sliding_window", None) or 0, 512)
    ids = [i % min(config.vocab_size, 7) for i in range(window + 8)]

    def computed(kind: type[SharedPrompts]) -> tuple[Tensor, Tensor]:
        batch = kind([ids[:-4], ids[:3]], [ids[-4:], ids[2:]], [0, 1], device=device)
        inputs = dict(batch.inputs)
        read = decoder.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
        with shared_attention(decoder):
            states = batch.states(decoder(inputs_embeds=read, **inputs).last_hidden_state)
            # weighted: the plain sum of squares of normed states has no gradient
            weighted = states.float() @ torch.linspace(-1, 1, states.shape[-1], device=device)
            (gradient,) = torch.autograd.grad(weighted.sum(), read)
        return states.detach(), gradient

    try:
        with torch.enable_grad():
            pairs = list(zip(computed(FlexPrompts), computed(SharedPrompts), strict=True))
    except Exception as error:  # noqa: BLE001 - what a compiler raises is not of few kinds
        return _without(f"it cannot be used here ({type(error).__name__}: {error})")
    tolerance = 1e-4 if pairs[0][0].dtype in (torch.float32, torch.float64) else 5e-2
    for ours, theirs in pairs:
        apart, largest = float((ours - theirs).abs().max()), float(theirs.abs().max())
        if not apart <= tolerance * largest:
            return _without(f"its results differ by {apart:.3g}, where the largest is {largest:.3g}")
    return True


def _without(why: str) -> bool:
    warnings.warn(f"the update goes on without flex attention: {why}", stacklevel=3)
    return False
