"""What several algorithms share: group statistics of rewards, and ratios of probabilities that cannot overflow."""

from __future__ import annotations

import torch
from torch import Tensor

from sr_core.algorithms.base import LossInputs

LOG_RATIO_LIMIT = 20.0  # e^20 is far beyond every clip and far below what float32 can hold


def equal_groups(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """Whether all judged samples of a prompt have one reward (P x 1, bool); so does a group of one or none."""
    highest = rewards_PG.masked_fill(~valid_PG, -torch.inf).amax(1, keepdim=True)
    lowest = rewards_PG.masked_fill(~valid_PG, torch.inf).amin(1, keepdim=True)
    return highest <= lowest


def centred_by_group(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """Rewards less the mean of their group's judged samples (P x G); exactly 0 in a group of equal rewards."""
    valid = valid_PG.to(rewards_PG.dtype)
    mean = (rewards_PG * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)
    # a mean is rounded, so equal rewards less their mean may be a little off 0, and a little over a small deviation
    # would be a lot
    return ((rewards_PG - mean) * valid).masked_fill(equal_groups(rewards_PG, valid_PG), 0.0)


def less_the_others(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """Rewards less the mean of the *other* judged samples of their group (P x G); 0 where there is no other."""
    valid = valid_PG.to(rewards_PG.dtype)
    rewards = rewards_PG * valid
    others = (valid.sum(1, keepdim=True) - 1).clamp(min=1)
    difference = (rewards - (rewards.sum(1, keepdim=True) - rewards) / others) * valid
    return difference.masked_fill(equal_groups(rewards_PG, valid_PG), 0.0)


def std_of(centred: Tensor, valid: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Sample standard deviation (n - 1) of ``centred`` values over ``dim``, kept, counting the ``valid`` ones."""
    count = valid.sum(dim, keepdim=True)
    return (centred.square().sum(dim, keepdim=True) / (count - 1).clamp(min=1)).sqrt()


def token_ratio(inputs: LossInputs) -> Tensor:
    """pi / pi_old of each token (N x T), 1 at padding; the exponent is clamped before exp, lest it overflow there."""
    log_ratio_NT = (inputs.logprobs_NT - inputs.old_logprobs_NT) * inputs.mask_NT
    return log_ratio_NT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def sequence_ratio(inputs: LossInputs) -> Tensor:
    """pi / pi_old of each whole sequence (N), the exponent clamped before exp."""
    log_ratio_N = inputs.sums(inputs.logprobs_NT - inputs.old_logprobs_NT)
    return log_ratio_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def clipped(ratio: Tensor, inputs: LossInputs, *, low: float, high: float) -> tuple[Tensor, Tensor]:
    """min(ratio A, clip(ratio, 1 - low, 1 + high) A), and where the clip decided; ``ratio`` is N x T or N x 1."""
    advantages_N1 = inputs.advantages_N[:, None]
    free, bounded = ratio * advantages_N1, ratio.clamp(1 - low, 1 + high) * advantages_N1
    return torch.minimum(free, bounded), bounded < free
