"""Hidden states for the next token of every sample, three ways: shared prompts, CUDA graphs, transformers' own cache.

Axes: P prompts, N lines of the batch, S samples that have not ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from sr_core.engine.cuda_graphs import can_record, recorded
from sr_core.engine.kv_cache import Branching, Decoding, branch
from sr_core.engine.shared_prompts import SharedPrompts
from sr_core.policy import Policy

__all__ = ["Reader", "reader_of"]


class Reader(Protocol):
    """Reads prompts once, then token after token of their samples."""

    def first(self) -> Tensor:
        """Hidden states (P x hidden) that predict the first token after each prompt."""

    def next(self, number_S: Tensor, line_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (N x hidden) that predict what follows ``token_S``, and each sample's line in them.

        ``number_S``: which samples these are, of all that began; ``line_S``: their lines in what came before.
        """


def reader_of(policy: Policy, prompts: Sequence[Sequence[int]], group_size: int, room: int) -> Reader:
    """The fastest reader that ``policy`` allows, for ``group_size`` samples of each prompt and ``room`` tokens each."""
    if not policy.shares_prompts:
        return PlainReader(policy, prompts)
    kind = GraphReader if can_record(policy) else BranchingReader
    return kind(policy, prompts, group_size, room)


class BranchingReader:
    """Samples that have drawn the same so far are one line, see ``sr_core.engine.kv_cache``."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], group_size: int, room: int) -> None:
        self.read = policy.read
        self.prompts = SharedPrompts(prompts, device=policy.device, keep=True)
        self.samples, self.room = len(prompts) * group_size, room

    def first(self) -> Tensor:
        hidden = self.read(**self.prompts.inputs).last_hidden_state
        self.decoding = Decoding(self.prompts, self.samples, self.room)
        return self.prompts.last_states(hidden)

    def next(self, number_S: Tensor, line_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        del number_S
        branching = branch(line_S, token_S, len(self.decoding.owners))
        self.decoding.fork(branching)
        hidden: Tensor = self.read(**self.decoding.inputs(branching.tokens)).last_hidden_state
        self.decoding.advance()
        return hidden[:, 0], branching.line_S


class GraphReader:
    """Every sample is a line, and the work for a token is replayed, see ``sr_core.engine.cuda_graphs``."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]], group_size: int, room: int) -> None:
        self.read = policy.read
        self.prompts = SharedPrompts(prompts, device=policy.device, keep=True)
        self.decoding = recorded(policy, prompts, group_size, room)
        self.begun = False

    def first(self) -> Tensor:
        hidden = self.read(**self.prompts.inputs).last_hidden_state
        self.decoding.begin(self.prompts)
        return self.prompts.last_states(hidden)

    def next(self, number_S: Tensor, line_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        line_S = line_S if self.begun else number_S
        self.begun = True
        return self.decoding.next(line_S, token_S)


class PlainReader:
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

    def next(self, number_S: Tensor, line_S: Tensor, token_S: Tensor) -> tuple[Tensor, Tensor]:
        del number_S
        branching: Branching = branch(line_S, token_S, len(self.mask))
        if branching.moves:
            lines = branching.carry(torch.arange(len(self.mask), device=self.mask.device))
            self.cache.batch_select_indices(lines)
            self.mask = self.mask[lines]
        position = self.mask.sum(1)[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], dim=1)
        return self._states(branching.tokens[:, None], position), branching.line_S

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
