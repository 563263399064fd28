"""Attention over prompts that their samples share: a prompt is read, and stored, once for all of them.

``SharedPrompts`` is a whole batch in one row of tokens, prompts first, then completions; every completion sees its own
prompt and itself (a tree mask with restarted positions). ``KVCache`` continues such prompts token by token.
Both take the place of a transformers model's attention function, so that everything else of the model runs as it is.

Axes: P prompts, U completions, S tokens in the row, L longest prompt, T longest completion, H heads, D their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot, scaled_dot_product_attention
from transformers import AttentionInterface

__all__ = ["SharedPrompts", "additive", "shared_attention"]

_NAME = "sr_shared_prompts"
# what transformers' models may ask of an attention function that would change its result, and that no backend computes
_BEYOND = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")


class AttentionBackend(Protocol):
    """Stands in for attention: queries, keys, values (1 x H x S x D or N x H x 1 x D) to 1 x S x H x D (N x 1 x ..)."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor: ...


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    backend: AttentionBackend,
    scaling: float,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer.

    Raises ValueError where the layer asks for more than a plain softmax, such as Gemma-2's soft-capped scores.
    """
    for name in _BEYOND:
        if others.get(name) is not None:
            raise ValueError(f"attention over shared prompts is a plain softmax, {type(module).__name__} wants {name}")
    return backend.attend(module.layer_idx, query, key, value, scaling, sliding_window), None


AttentionInterface.register(_NAME, _attend)


@contextmanager
def shared_attention(decoder: Any) -> Iterator[None]:
    """Within it, ``decoder(..., backend=backend)`` attends through ``backend``; a backward pass belongs inside, too."""
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = _NAME
    try:
        yield
    finally:
        decoder.config._attn_implementation = before


class SharedPrompts:
    """``prompts`` and ``completions`` (token ids) in one row; completion u continues prompt ``owners[u]``.

    ``inputs`` go to the decoder; ``states(hidden)`` picks the hidden states that predict the completions' tokens. With
    ``keep``, keys (P x H x D x L) and values (P x H x L x D) of the prompts are kept, layer by layer, for ``KVCache``.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]] = (),
        owners: Sequence[int] = (),
        *,
        device: torch.device,
        keep: bool = False,
    ) -> None:
        self.prompts = _Grid([len(p) for p in prompts], device)
        # a completion's last token predicts nothing, so it is not read
        self.completions = _Grid([len(c) - 1 for c in completions], device)
        self.owners = torch.tensor(owners, dtype=torch.long, device=device)
        ids = [token for p in prompts for token in p] + [token for c in completions for token in c[:-1]]
        positions = [torch.arange(len(p)) for p in prompts]
        positions += [
            torch.arange(len(prompts[o]), len(prompts[o]) + len(c) - 1)
            for c, o in zip(completions, owners, strict=True)
        ]
        self.inputs: dict[str, Any] = {
            "input_ids": torch.tensor([ids], device=device),
            "position_ids": torch.cat(positions)[None].to(device),
            "use_cache": False,
            "backend": self,
        }
        self.kept: dict[int, tuple[Tensor, Tensor]] | None = {} if keep else None
        self._masks: dict[tuple[str, int | None], Tensor | None] = {}

    def last_states(self, hidden: Tensor) -> Tensor:
        """Hidden state of each prompt's last token (P x hidden), from 1 x S x hidden."""
        return hidden[0].index_select(0, self.prompts.ends)

    def states(self, hidden: Tensor) -> Tensor:
        """Hidden states that predict the completions' tokens, completion after completion, from 1 x S x hidden."""
        flat = hidden[0]
        first = self.prompts.ends.index_select(0, self.owners)
        # a completion of n tokens: its prompt's end, then its own n - 1 places
        starts = self.completions.starts + torch.arange(len(self.owners), device=flat.device)
        places = torch.arange(len(self.owners) + self.completions.total, device=flat.device)
        own = torch.ones_like(places, dtype=torch.bool)
        own[starts] = False
        places[starts] = first
        places[own] = self.prompts.total + torch.arange(self.completions.total, device=flat.device)
        return flat.index_select(0, places)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int | None) -> Tensor:
        q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))  # S x H x D
        cut = self.prompts.total
        grid = self.prompts
        q_p, k_p, v_p = (grid.pad(x[:cut]) for x in (q, k, v))  # P x L x H x D
        if self.kept is not None:
            self.kept[layer] = (k_p.permute(0, 2, 3, 1).contiguous(), v_p.transpose(1, 2).contiguous())
        out = [grid.unpad(_sdpa(q_p, k_p, v_p, self._prompt_mask(window, q), scaling))]
        if self.completions.total:
            grid = self.completions
            q_c, k_c, v_c = (grid.pad(x[cut:]) for x in (q, k, v))  # U x T x H x D
            k_c = torch.cat([self._of_owners(k_p), k_c], dim=1)
            v_c = torch.cat([self._of_owners(v_p), v_c], dim=1)
            out.append(grid.unpad(_sdpa(q_c, k_c, v_c, self._completion_mask(window, q), scaling)))
        return torch.cat(out)[None]

    def _of_owners(self, grid: Tensor) -> Tensor:
        """P x ... to U x ...: a product, because the gradient of indexing adds up number by number."""
        chosen = one_hot(self.owners, len(grid)).to(grid.dtype)
        return (chosen @ grid.flatten(1)).view(len(chosen), *grid.shape[1:])

    def _prompt_mask(self, window: int | None, like: Tensor) -> Tensor | None:
        """None is causal: padding stands on the right, so no real token attends to it."""
        key = ("prompt", window)
        if key not in self._masks:
            longest = self.prompts.width
            mask = None
            if window is not None and window < longest:
                place = torch.arange(longest, device=like.device)
                ahead = place[:, None] - place
                mask = additive((ahead >= 0) & (ahead < window), like)
            self._masks[key] = mask
        return self._masks[key]

    def _completion_mask(self, window: int | None, like: Tensor) -> Tensor:
        """U x 1 x T x (L + T)."""
        key = ("completion", window)
        if key not in self._masks:
            length = self.prompts.lengths.index_select(0, self.owners)[:, None, None]  # U x 1 x 1
            t = torch.arange(self.completions.width, device=like.device)
            j = torch.arange(self.prompts.width, device=like.device)
            in_prompt = (j < length).expand(-1, len(t), -1)
            in_own = (t[:, None] >= t).expand(len(length), -1, -1)
            if window is not None:
                in_prompt = in_prompt & (length + t[:, None] - j < window)
                in_own = in_own & (t[:, None] - t < window)
            self._masks[key] = additive(torch.cat([in_prompt, in_own], dim=2)[:, None], like)
        mask = self._masks[key]
        assert mask is not None
        return mask


class _Grid:
    """Rows of ``lengths`` tokens laid end to end, and as a padded grid of rows x width."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = torch.tensor(lengths, dtype=torch.long, device=device)
        self.width = max(lengths, default=0)
        self.total = sum(lengths)
        self.ends = self.lengths.cumsum(0) - 1
        self.starts = self.ends + 1 - self.lengths
        column = torch.arange(self.width, device=device)
        real = column < self.lengths[:, None]
        self._place = torch.where(real, self.starts[:, None] + column, 0).flatten()  # of each cell, in the row
        self._cell = real.flatten().nonzero()[:, 0]  # of each token, in the grid

    def pad(self, flat: Tensor) -> Tensor:
        """Tokens x ... to rows x width x ...; what stands in the padding is of no meaning, but finite."""
        grid: Tensor = _Move.apply(flat, self._place, self._cell, True)
        return grid.view(len(self.lengths), self.width, *flat.shape[1:])

    def unpad(self, grid: Tensor) -> Tensor:
        """Rows x width x ... to tokens x ..."""
        flat: Tensor = _Move.apply(grid.flatten(0, 1), self._cell, self._place, False)
        return flat


class _Move(torch.autograd.Function):
    """``x[index]``, whose gradient is ``gradient[inverse]``: no two tokens share a cell, so nothing is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, to_grid: bool) -> Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.to_grid, ctx.count = to_grid, len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        index, inverse = ctx.saved_tensors
        if ctx.to_grid:
            return gradient.index_select(0, inverse), None, None, None
        out = gradient.new_zeros((ctx.count, *gradient.shape[1:]))
        return out.index_copy_(0, index, gradient), None, None, None


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Rows x T x H x D queries to outputs of the same shape; causal where there is no ``mask``."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=k.shape[1] != q.shape[1]
    )
    return out.transpose(1, 2)


def additive(seen: Tensor, like: Tensor) -> Tensor:
    """0 where ``seen``, -inf where not."""
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, -torch.inf)
