"""The gradient of a step: summed over micro-batches and processes, in float32 where the parameters are narrower.

bfloat16 keeps 8 bits, so a sum in it loses parts that are small beside it: over 50 micro-batches an error of 0.9% of
the gradient, where a sum in float32 leaves the 0.2% to which each part is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sr_core.distributed.sharded_state import local_rows

__all__ = ["Gradients"]

NARROW = (torch.bfloat16, torch.float16)


class Gradients:
    """The gradients of ``parameters``, between backward passes and an optimizer's step."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self._wide: dict[int, Tensor] = {}  # place of a narrow parameter -> sum of its gradients so far

    def clear(self) -> None:
        """Forget all gradients."""
        self._wide.clear()
        for parameter in self.parameters:
            parameter.grad = None

    def collect(self) -> None:
        """Call after each backward pass: gradients narrower than float32 are accumulated in float32."""
        for place, parameter in enumerate(self.parameters):
            if parameter.grad is None or parameter.dtype not in NARROW:
                continue
            part = parameter.grad.float()
            self._wide[place] = self._wide[place].add_(part) if place in self._wide else part
            parameter.grad = None

    def tensors(self) -> list[Tensor]:
        """The sum for each parameter, to be changed in place; 0 for one that no sequence has reached."""
        for place, parameter in enumerate(self.parameters):
            if parameter.dtype in NARROW:
                if place not in self._wide:
                    self._wide[place] = torch.zeros_like(parameter, dtype=torch.float32)
            elif parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [self._of(place) for place in range(len(self.parameters))]

    def give(self, targets: Sequence[Tensor]) -> None:
        """Write the sums to ``targets``, which the optimizer steps: these parameters, or their master weights."""
        for place, (parameter, target) in enumerate(zip(self.parameters, targets, strict=True)):
            gradient = self._of(place)
            target.grad = (gradient if target is parameter else local_rows(gradient)).to(target.dtype)
            if target is not parameter:
                parameter.grad = None
        self._wide.clear()

    def _of(self, place: int) -> Tensor:
        gradient = self._wide.get(place, self.parameters[place].grad)
        assert gradient is not None, "tensors() fills in what is missing"
        return gradient
