"""What every algorithm offers the trainer. Axes: P prompts, G samples, N sequences, T tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of the whole step, over all micro-batches and processes: judged ``sequences`` and their ``tokens``."""

    sequences: float
    tokens: float


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """A micro-batch: ``logprobs_NT`` with gradients, ``old_logprobs_NT`` that ratios compare with, one advantage per
    sequence, ``mask_NT`` 1 on completion tokens and 0 on padding, and the ``counts`` of the whole step."""

    logprobs_NT: Tensor
    old_logprobs_NT: Tensor
    advantages_N: Tensor
    mask_NT: Tensor
    counts: Counts

    @property
    def lengths_N(self) -> Tensor:
        """Tokens of each sequence, at least 1."""
        return self.mask_NT.sum(1).clamp(min=1)

    def sums(self, values_NT: Tensor) -> Tensor:
        """Sum over each sequence's tokens (N)."""
        return (values_NT * self.mask_NT).sum(1)


@dataclass(frozen=True, kw_only=True)
class LossOutputs:
    """``losses_N``, and at which tokens the clip decided the loss (N x T, or N x 1 for whole sequences); None where the
    algorithm clips nothing."""

    losses_N: Tensor
    clipped_NT: Tensor | None = None


class Algorithm(Protocol):
    """Advantages and loss; state (a running baseline) round-trips through ``state_dict``."""

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """Advantage of each sequence (P x G, float32); 0 where ``valid_PG`` is false (no verdict)."""

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Loss of each sequence of a micro-batch, divided by the counts of the whole step."""

    def state_dict(self) -> dict[str, float]: ...
    def load_state_dict(self, state: dict[str, float]) -> None: ...


class Stateless:
    """The state of an algorithm that has none."""

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        del state
