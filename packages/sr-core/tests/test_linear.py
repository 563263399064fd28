from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn

from sr_core.policy.linear import fast_linear, linear


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 40), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_values_and_gradients_are_those_of_the_plain_product(
    shape: list[int], outputs: int, bias: bool, frozen: bool
) -> None:
    rng = torch.Generator().manual_seed(outputs)
    x = torch.randn(shape, generator=rng)
    layer = nn.Linear(shape[-1], outputs, bias=bias)
    layer.weight.requires_grad_(not frozen)
    force = torch.randn((*shape[:-1], outputs), generator=rng)

    def results(product, dtype: torch.dtype) -> list[torch.Tensor | None]:
        leaves = [t if t is None else t.detach().to(dtype).requires_grad_(t is x or t.requires_grad) for t in inputs]
        out = product(*leaves)
        out.backward(force.to(dtype))
        return [out, *(None if t is None else t.grad for t in leaves)]

    inputs = [x, layer.weight, layer.bias]
    for ours, exact in zip(results(linear, torch.float32), results(nn.functional.linear, torch.float64), strict=True):
        assert (ours is None) == (exact is None)
        if ours is not None and exact is not None:
            torch.testing.assert_close(ours.double(), exact, atol=1e-4, rtol=1e-5)


def test_only_plain_layers_are_replaced_and_only_within() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(3, 3), Doubled(3, 3))
    x = torch.randn(2, 3)
    before = model(x)
    with fast_linear(model):
        assert type(model[0]) is not nn.Linear
        torch.testing.assert_close(model(x), before)
    assert [type(m) for m in model] == [nn.Linear, Doubled]


def test_no_rows_give_no_rows() -> None:
    assert linear(torch.zeros(0, 3), torch.zeros(5, 3)).shape == (0, 5)
