"""Hidden states for the next token of every sample, three ways: shared prompts, CUDA graphs, transformers' own cache.

Axes: P prompts, N branches of the batch, S samples that have not ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from sr_core.engine.cuda_graphs import StaticKVCache
from sr_core.engine.kv_cache import Forks, KVCache, find_forks
from sr_core.engine.shared_prompts import SharedPrompts
from sr_core.policy import Policy

__all__ = ["BranchingDecoder", "Decoder", "GraphDecoder", "PlainDecoder"]


class Decoder(Protocol):
    """Reads prompts once, then token after token of their samples."""

    def first(self) -> Tensor:
        """Hidden states (P x hidden) that predict the first token after each prompt."""

    def next(self, number_S: Tensor, branch_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (N x hidden) that predict what follows ``token_S``, and each sample's branch in them.

        ``number_S``: which samples these are, of all that began; ``branch_S``: their branches in what came before.
        """


class BranchingDecoder:
    """Samples that have drawn the same so far are one branch, see ``sr_core.engine.kv_cache``."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], group_size: int, room: int) -> None:
        self.read = policy.read
        self.prompts = SharedPrompts(prompts, device=policy.device, keep=True)
        self.samples, self.room = len(prompts) * group_size, room

    def first(self) -> Tensor:
        hidden = self.read(**self.prompts.inputs).last_hidden_state
        self.cache = KVCache(self.prompts, self.samples, self.room)
        return self.prompts.last_states(hidden)

    def next(self, number_S: Tensor, branch_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        del number_S
        forks = find_forks(branch_S, token_S, len(self.cache.owners))
        self.cache.fork(forks)
        hidden: Tensor = self.read(**self.cache.inputs(forks.tokens)).last_hidden_state
        self.cache.advance()
        return hidden[:, 0], forks.branch_S


class GraphDecoder:
    """Every sample is a branch, and the work for a token is replayed, see ``sr_core.engine.cuda_graphs``."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], cache: StaticKVCache) -> None:
        self.read = policy.read
        self.prompts = SharedPrompts(prompts, device=policy.device, keep=True)
        self.cache = cache
        self.begun = False

    def first(self) -> Tensor:
        hidden = self.read(**self.prompts.inputs).last_hidden_state
        self.cache.begin(self.prompts)
        return self.prompts.last_states(hidden)

    def next(self, number_S: Tensor, branch_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        branch_S = branch_S if self.begun else number_S
        self.begun = True
        return self.cache.next(branch_S, token_S)


class PlainDecoder:
    """Through transformers' own cache, for architectures whose attention cannot be replaced."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]]) -> None:
        self.read = policy.read
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), policy.pad_id)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        self.ids, self.mask = ids.to(policy.device), mask.to(policy.device)
        self.cache = DynamicCache(config=policy.model.config.get_text_config())

    def first(self) -> Tensor:
        return self._states(self.ids, (self.mask.cumsum(1) - 1).clamp(min=0))

    def next(self, number_S: Tensor, branch_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        del number_S
        forks: Forks = find_forks(branch_S, token_S, len(self.mask))
        if forks.moves:
            branches = forks.carry(torch.arange(len(self.mask), device=self.mask.device))
            self.cache.batch_select_indices(branches)
            self.mask = self.mask[branches]
        position = self.mask.sum(1)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], dim=1)
        return self._states(forks.tokens[:, None], position), forks.branch_S

    def _states(self, ids: Tensor, positions: Tensor) -> Tensor:
        out = self.read(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        hidden: Tensor = out.last_hidden_state
        return hidden[:, -1]
