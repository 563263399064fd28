"""A policy sharded among the processes of a run: weights, gradients and the optimizer's moments.

ZeRO stage 3 (Rajbhandari et al. 2020, arXiv 1910.02054) through torch's ``fully_shard``. Every process keeps some rows
of each tensor. A layer's weights come together for its forward and its backward pass, all weights while a policy is
sampled from (``unsharded``): what is saved are gradients, moments and float32 copies, most of what a training holds.
Where the rest of this package handles weights by name, they are this process's rows; in a checkpoint they are whole, so
that a run goes on with any number of processes, sharded or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch

from sr_core.config import TrainConfig
from sr_core.distributed.process_group import Ranks
from sr_core.errors import ConfigError, PolicyError
from sr_core.policy import Policy

__all__ = ["check_shardable", "shard", "unsharded"]


def check_shardable(config: TrainConfig) -> None:
    """Raise ConfigError where more is trained or referred to than the weights of one policy."""
    if config.penalty.name != "none" or config.policy.lora_rank:
        key = "penalty.name" if config.penalty.name != "none" else "policy.lora_rank"
        raise ConfigError(
            f"policy.sharded trains all weights of one policy, and {key} adds others: leave one of the two out"
        )


def shard(policy: Policy, ranks: Ranks) -> None:
    """Leave this process its rows of every weight of ``policy``. Collective, and for good.

    Raises PolicyError for a model whose layers cannot be found, or that keeps tensors besides its weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    model, decoder = policy.model, policy.decoder
    layers = getattr(decoder, "layers", None)
    extra = sorted(set(model.state_dict()) - {name for name, _ in model.named_parameters(remove_duplicate=False)})
    if layers is None or extra:
        why = f"this one keeps {', '.join(extra)} besides" if extra else f"{type(decoder).__name__} has no layers"
        raise PolicyError(f"policy.sharded wants a decoder with layers and nothing but weights, {why}: leave it out")
    mesh = init_device_mesh(policy.device.type, (ranks.count,))
    numbers = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=numbers)
    fully_shard(model, mesh=mesh, mp_policy=numbers)
    for module in (*layers, model):
        # gradients are summed, not averaged: the loss is already divided by the counts of all processes
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    # the output layer is applied apart from the decoder, so the model's own forward pass is not the one that is used
    model.read = MethodType(lambda self, **inputs: decoder(**inputs), model)
    register_fsdp_forward_method(model, "read")
    policy.ranks = ranks


@contextmanager
def unsharded(policy: Policy) -> Iterator[None]:
    """Within it, all weights are on every process, and passes exchange nothing. Not to be trained meanwhile."""
    if not policy.sharded:
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
