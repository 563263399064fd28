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


class Algorithm(Protocol):
    """Advantages and loss; state (a running baseline) round-trips through ``state_dict``."""

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """Advantage of each sequence (P x G, float32); 0 where ``valid_PG`` is false (no verdict)."""

    def loss(
        self,
        logprobs_NT: Tensor,
        old_logprobs_NT: Tensor,
        advantages_N: Tensor,
        mask_NT: Tensor,
        counts: Counts,
    ) -> Tensor:
        """Loss of each sequence (N), divided by the step's ``counts``; ``mask_NT`` marks completion tokens."""

    def state_dict(self) -> dict[str, float]: ...
    def load_state_dict(self, state: dict[str, float]) -> None: ...


class Stateless:
    """The state of an algorithm that has none."""

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        del state
