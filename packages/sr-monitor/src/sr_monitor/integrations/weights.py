"""A model's trained weights in host memory, and the mean of those it has had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Mean", "Weights", "copied", "paste", "trainable"]

Weights = dict[str, Tensor]


class Mean:
    """Running mean of a model's trained weights since ``begin``, in host memory, in float32 where they are narrower.

    At a rate that makes a policy rise fast its last iterates scatter around a better policy between them, and their
    mean is near it (Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv 1803.05407).
    """

    def __init__(self) -> None:
        self.weights: Weights = {}
        self.count = 0

    def begin(self, model: Any) -> None:
        """Start anew with what the model is now."""
        self.weights = {name: _wide(tensor) for name, tensor in copied(model).items()}
        self.count = 1

    def add(self, model: Any) -> None:
        """Take in what the model is now."""
        self.count += 1
        for name, tensor in copied(model).items():
            self.weights[name].lerp_(_wide(tensor), 1 / self.count)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights, self.count = dict(state["weights"]), state["count"]


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def copied(model: Any) -> Weights:
    """Trainable parameters in host memory."""
    return {name: p.detach().to("cpu", copy=True) for name, p in trainable(model).items()}


def paste(model: Any, weights: Weights) -> None:
    """Put ``weights`` into the model, in place."""
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(weights[name])


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
