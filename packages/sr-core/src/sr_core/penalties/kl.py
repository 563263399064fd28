"""KL divergence to a reference, estimated on the sampled tokens: k1, k2 and k3 (Schulman 2020), N x T.

    d  = log pi - log ref
    k1 = d                     unbiased, noisy, negative at times
    k2 = d^2 / 2               biased, its gradient is that of KL(pi || ref)
    k3 = exp(-d) + d - 1       unbiased, never negative, its gradient is that of KL(ref || pi)

As a term of a loss k1 would have the gradient of log pi alone, which is 0 in expectation; so its gradient here is that
of a reward -k1 for the whole sequence, (sum_t d) * grad sum_t log pi, the exact one of the sequence's KL(pi || ref).
All are for samples of the policy itself. Left out: importance weights for those of an older one, and a baseline for k1.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

__all__ = ["Estimator", "kl_per_token"]

Estimator = Literal["k1", "k2", "k3"]


def kl_per_token(logprobs_NT: Tensor, reference_NT: Tensor, mask_NT: Tensor, estimator: Estimator = "k3") -> Tensor:
    """The estimate at each sampled token (N x T), 0 where ``mask_NT`` is.

    Differences are clamped to [-20, 20] before exp, since padding and far-off references overflow it.
    """
    difference_NT = ((logprobs_NT - reference_NT) * mask_NT).clamp(-20, 20)
    if estimator == "k1":
        total_N1 = difference_NT.detach().sum(1, keepdim=True)
        # the second term is 0: it carries the gradient, the first one the value
        return difference_NT.detach() + total_N1 * (logprobs_NT - logprobs_NT.detach()) * mask_NT
    if estimator == "k2":
        return difference_NT.square() / 2
    return (-difference_NT).exp() + difference_NT - 1
