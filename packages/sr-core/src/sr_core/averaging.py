"""The mean of a campaign's iterates.

At a rate that makes a policy rise fast its last iterates scatter around, and finally away from, a better policy
between them; their mean is near it (Polyak and Juditsky 1992; for deep networks Izmailov et al. 2018, arXiv
1803.05407). A plain mean lags behind a steady rise by half of it; one that weighs later iterates more lags less and
takes more of a fall in (polynomial-decay averaging, Shamir and Zhang 2013, arXiv 1212.1824). It costs one pass over
the weights per update and one more copy of them, and asks for no evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Mean"]


class Mean:
    """Running mean of ``weights`` (name -> tensor), from the first ones on; in float32 where they are narrower.

    The t-th of them weighs about as t to the power of ``emphasis``; 0 weighs all alike.
    """

    def __init__(self, weights: Mapping[str, Tensor], emphasis: float = 0.0) -> None:
        self.weights = {name: _wide(tensor).clone() for name, tensor in weights.items()}
        self.emphasis = emphasis
        self.count = 1

    @torch.no_grad()
    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take the next iterate in."""
        self.count += 1
        share = (1 + self.emphasis) / (self.count + self.emphasis)
        for name, mean in self.weights.items():
            new = weights[name]
            if new.is_floating_point():
                mean.lerp_(new.to(mean.dtype), share)
            else:  # a counter has no mean
                mean.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "emphasis": self.emphasis, "count": self.count}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Mean:
        """What ``state_dict`` gave."""
        mean = cls({name: tensor.to(device) for name, tensor in state["weights"].items()}, state.get("emphasis", 0.0))
        mean.count = state["count"]
        return mean


def _wide(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
