"""A policy divided among the processes of a run: weights, gradients and the optimizer's moments.

ZeRO stage 3 (Rajbhandari et al. 2020, arXiv 1910.02054) through torch's ``fully_shard``. Every process keeps some rows
of each tensor. A layer's weights come together for its forward and its backward pass, all weights while a policy is
sampled from (``gathered``): what is saved are gradients, moments and float32 copies, most of what a training holds.
Where the rest of this package handles weights by name, they are this process's rows; in a checkpoint they are whole, so
that a run goes on with any number of processes, divided or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from sr_core.config import TrainConfig
from sr_core.errors import ConfigError, PolicyError
from sr_core.ranks import Ranks, exchanging

if TYPE_CHECKING:
    from sr_core.policy import Policy
    from sr_core.store import Checkpoint

__all__ = ["check_divisible", "divide", "exchanged", "gathered", "joined", "own", "own_part"]


def check_divisible(config: TrainConfig) -> None:
    """Raise ConfigError where more is trained or referred to than the weights of one policy."""
    if config.penalty.name != "none" or config.policy.lora_rank:
        key = "penalty.name" if config.penalty.name != "none" else "policy.lora_rank"
        raise ConfigError(
            f"policy.divided trains all weights of one policy, and {key} adds others: leave one of the two out"
        )


def divide(policy: Policy, ranks: Ranks) -> None:
    """Leave this process its rows of every weight of ``policy``. Collective, and for good.

    Raises PolicyError for a model whose layers cannot be found, or that keeps tensors besides its weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    _ = policy.shares_prompts  # found out by computing a little, while all weights are here
    model, decoder = policy.model, policy.decoder
    layers = getattr(decoder, "layers", None)
    extra = sorted(set(model.state_dict()) - {name for name, _ in model.named_parameters(remove_duplicate=False)})
    if layers is None or extra:
        why = f"this one keeps {', '.join(extra)} besides" if extra else f"{type(decoder).__name__} has no layers"
        raise PolicyError(f"policy.divided wants a decoder with layers and nothing but weights, {why}: leave it out")
    mesh = init_device_mesh(policy.device.type, (ranks.count,))
    numbers = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=numbers)
    fully_shard(model, mesh=mesh, mp_policy=numbers)
    for module in (*layers, model):
        # gradients are added up, not averaged: the loss is divided by what all processes have together
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    # the output layer is applied apart from the decoder, so the model's own forward pass is not the one that is used
    model.read = MethodType(lambda self, **inputs: decoder(**inputs), model)
    register_fsdp_forward_method(model, "read")
    policy.ranks = ranks


@contextmanager
def gathered(policy: Policy) -> Iterator[None]:
    """Within it, all weights are on every process, and passes exchange nothing. Not to be trained meanwhile."""
    if not policy.divided:
        yield
        return
    layers = list(policy.decoder.layers)
    for layer in layers:
        layer.set_reshard_after_forward(False)
    for module in (policy.model, *layers):
        module.unshard()
    try:
        yield
    finally:
        for layer in layers:
            layer.set_reshard_after_forward(True)
        for module in (policy.model, *layers):
            module.reshard()


def own(tensor: Tensor) -> Tensor:
    """This process's rows of a weight or gradient, not copied; a tensor that is not divided as it is."""
    rows: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return rows


def joined(tree: Any, ranks: Ranks) -> Any:
    """A nest of dicts and lists of this process's rows, with the whole tensors in host memory on the first process.

    Collective; the other processes get empty tensors. A tensor without dimensions is nobody's part.
    """
    return _mapped(tree, lambda tensor: _join(tensor, ranks))


def own_part(tree: Any, ranks: Ranks) -> Any:
    """The same nest of whole tensors, with this process's rows of each."""

    def rows(tensor: Tensor) -> Tensor:
        parts = tensor.chunk(ranks.count)  # as fully_shard does
        return parts[ranks.rank].contiguous() if ranks.rank < len(parts) else tensor[:0]

    return _mapped(tree, rows)


def exchanged(checkpoint: Checkpoint, change: Callable[[Any], Any]) -> Checkpoint:
    """``checkpoint`` with ``change`` (``joined`` or ``own_part``) made to all that is divided."""
    trainer = checkpoint.trainer | {key: change(checkpoint.trainer.get(key)) for key in ("optimizer", "mean")}
    positions = {
        step: position | {key: change(position[key]) for key in ("optimizer",) if key in position}
        for step, position in checkpoint.positions.items()
    }
    return replace(
        checkpoint,
        trainer=trainer,
        positions=positions,
        **{name: change(getattr(checkpoint, name)) for name in ("weights", "held", "earlier")},
    )


def _mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_mapped(value, change) for value in tree)
    return change(tree) if isinstance(tree, Tensor) and tree.dim() else tree


def _join(rows: Tensor, ranks: Ranks) -> Tensor:
    counts = ranks.gather([len(rows)])
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    with exchanging():
        dist.all_gather(parts, padded)
    if not ranks.first:
        return rows.new_empty(0)
    return torch.cat([part[:count].cpu() for part, count in zip(parts, counts, strict=True)])
