"""Linear layers through oneDNN: float32 products on a CPU are otherwise left to MKL, half as fast on AMD's.

The numbers are those of ``torch.nn.functional.linear`` up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["fast_linear", "linear"]

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` (... x in to ... x out)."""
    plain = type(weight) in (Tensor, nn.Parameter) and x.device.type == weight.device.type == "cpu"
    if not (_AVAILABLE and plain and x.dtype == weight.dtype == torch.float32 and x.numel()):
        return nn.functional.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)
    return out


@contextmanager
def fast_linear(module: nn.Module) -> Iterator[None]:
    """Within it, every ``nn.Linear`` below ``module`` computes ``linear``; subclasses are left alone."""
    layers = [m for m in module.modules() if type(m) is nn.Linear]
    for layer in layers:
        layer.__class__ = _FastLinear
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear


class _FastLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _product(gradient, weight.t())
        if ctx.needs_input_grad[1]:
            flat, inputs = gradient.reshape(-1, len(weight)), x.reshape(-1, x.shape[-1])
            of_weight, of_bias = torch.ops.aten.mkldnn_linear_backward_weights(
                flat.to_mkldnn(), inputs.to_mkldnn(), weight, ctx.has_bias
            )
            of_weight = of_weight.to_dense()
            of_bias = of_bias.to_dense() if ctx.has_bias else None
        elif ctx.has_bias and ctx.needs_input_grad[2]:
            of_bias = gradient.reshape(-1, len(weight)).sum(0)
        return of_x, of_weight, of_bias
