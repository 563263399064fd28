"""The mean of a campaign's iterates.

At a rate that makes a policy rise fast its last iterates scatter around, and finally away from, a better policy
between them; their mean is near it (Polyak and Juditsky 1992; for deep networks Izmailov et al. 2018, arXiv
1803.05407). It lags behind a steady rise by half of it. It costs one pass over the weights per update and one more
copy of them, and asks for no evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["WeightAverage"]


class WeightAverage:
    """Running mean of ``weights`` (name -> tensor), from the first ones on; in float32 where they are narrower."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = {name: _wide(tensor).clone() for name, tensor in weights.items()}
        self.count = 1

    @torch.no_grad()
    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Include the next iterate in the mean."""
        self.count += 1
        for name, mean in self.weights.items():
            new = weights[name]
            if new.is_floating_point():
                mean.lerp_(new.to(mean.dtype), 1 / self.count)
            else:  # a counter has no mean
                mean.copy_(new)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "count": self.count}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> WeightAverage:
        """Restore from ``state_dict``."""
        mean = cls({name: tensor.to(device) for name, tensor in state["weights"].items()})
        mean.count = state["count"]
        return mean


def _wide(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
