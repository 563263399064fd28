"""What the optimizer steps on: float32 copies of bfloat16 parameters, and this process's rows of
sharded ones.

bfloat16 keeps 8 bits, so a step smaller than 1/512 of a weight is rounded away: at a learning rate of 1e-6 that is
every step of nearly every weight. The optimizer therefore moves float32 copies (its moments are float32, too), and the
model gets them rounded (mixed precision, Micikevicius et al. 2018, arXiv 1710.03740; bfloat16 needs no loss scaling).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sr_core.distributed.sharded_state import local_rows

__all__ = ["MasterWeights"]


class MasterWeights:
    """A model's trained parameters as an optimizer sees them: themselves where they are whole, and float32 or wider."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters: list[Tensor] = []
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        for parameter in model.parameters():
            if not parameter.requires_grad:
                continue
            rows = local_rows(parameter)
            if rows is parameter and parameter.dtype not in (torch.bfloat16, torch.float16):
                self.parameters.append(parameter)
                continue
            master = rows.detach().float().requires_grad_()  # of float32 rows it is these rows, not a copy
            self.parameters.append(master)
            self._pairs.append((parameter, master))
        self._of = {local_rows(parameter).data_ptr(): master for parameter, master in self._pairs}

    def of(self, tensor: Tensor) -> Tensor:
        """The float32 copy of a parameter's ``tensor``, or the tensor itself."""
        return self._of.get(tensor.data_ptr(), tensor) if tensor.numel() else tensor

    def serve(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy the master weights into the model after every step of ``optimizer``, which holds ``parameters``."""
        optimizer.register_step_post_hook(self.give_weights)

    @torch.no_grad()
    def give_weights(self, *_: Any) -> None:
        """Write the float32 copies, rounded, into the model."""
        for parameter, master in self._pairs:
            local_rows(parameter).copy_(master)
