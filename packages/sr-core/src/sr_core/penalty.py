"""Pulls towards an earlier policy: the KL divergence to a reference, estimated on the sampled tokens."""

from __future__ import annotations

from torch import Tensor

__all__ = ["kl_per_token"]


def kl_per_token(logprobs_NT: Tensor, reference_NT: Tensor) -> Tensor:
    """Estimate of KL(policy || reference) at each sampled token (N x T), never negative.

    The k3 estimator ``exp(d) - d - 1`` with ``d = log ref - log pi`` (Schulman 2020), the exponent clamped to
    [-20, 20] before exp, since padding and far-off references overflow it.
    """
    difference = (reference_NT - logprobs_NT).clamp(-20, 20)
    return difference.exp() - difference - 1
