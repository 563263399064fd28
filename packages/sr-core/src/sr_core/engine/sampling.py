"""Drawing tokens: one random number per token, samples that agree so far computed once, finished ones leave the batch.

Axes: P prompts, N sequences, S of them that have not ended, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sr_core.engine.decoders import Decoder
from sr_core.engine.scoring import nucleus
from sr_core.engine.stops import Stops
from sr_core.errors import NonFiniteError
from sr_core.policy import Policy

__all__ = ["decode"]


def decode(
    policy: Policy,
    decoder: Decoder,
    prompts: int,
    temperature: float,
    top_p: float,
    uniform_NT: Tensor,
    stops: Stops,
) -> tuple[Tensor, Tensor, float]:
    """Ids and log-probabilities (N x T, padded after the end) and the sum of token entropies.

    A sample ends with one of ``policy.end_ids`` or where ``stops`` says. At temperature 0 every token is the likeliest
    one, and its log-probability that at temperature 1.

    ``decoder`` reads ``prompts`` prompts, each with as many samples. The batch consists of branches, each of one sample
    or of several that have drawn the same tokens so far. ``uniform_NT``: the random number of every token.
    """
    device = policy.device
    samples, max_new_tokens = uniform_NT.shape
    hidden = decoder.first()
    branch_S = torch.arange(prompts, device=device).repeat_interleave(samples // prompts)
    number_S = torch.arange(len(branch_S), device=device)  # which of the N each sample is that has not ended
    ends = torch.tensor(policy.end_ids, device=device)
    ids_NT = torch.full((len(branch_S), max_new_tokens), policy.eos_id, device=device)
    logprobs_NT = torch.zeros_like(uniform_NT, dtype=torch.promote_types(hidden.dtype, torch.float32))
    entropy = torch.zeros((), device=device, dtype=torch.float64)
    for t in range(max_new_tokens):
        logits = policy.logits(hidden) / (temperature or 1.0)
        if top_p < 1:
            logits = nucleus(logits, top_p)
        logprobs_V = logits.log_softmax(1)
        probs_V = logprobs_V.exp()
        if temperature:
            drawn_S = _draw(probs_V, branch_S, uniform_NT[number_S, t])
        else:
            drawn_S = logits.argmax(1)[branch_S]
        chosen_S = logprobs_V[branch_S, drawn_S]
        if not bool(torch.isfinite(chosen_S).all()):
            raise NonFiniteError("a policy's scores must be finite, these are not: lower optim.lr, or guard the run")
        ids_NT[number_S, t], logprobs_NT[number_S, t] = drawn_S, chosen_S
        finite_V = logprobs_V if top_p == 1 else logprobs_V.masked_fill(probs_V == 0, 0)
        mean_logprob = torch.linalg.vecdot(probs_V, finite_V)
        entropy -= mean_logprob[branch_S].sum()
        going = ~torch.isin(drawn_S, ends)
        if stops.any:
            going &= ~stops.find(ids_NT, number_S, t + 1)
        if t + 1 == max_new_tokens or not bool(going.any()):
            break
        number_S = number_S[going]
        hidden, branch_S = decoder.next(number_S, branch_S[going], drawn_S[going])
    return ids_NT, logprobs_NT, float(entropy)


def _draw(probs_V: Tensor, branch_S: Tensor, uniform_S: Tensor) -> Tensor:
    """One token per sample by inverting the cumulative distribution of its branch: one random number each, not V."""
    cumulative = probs_V.cumsum(-1)[branch_S]
    total = cumulative[:, -1:]
    place = torch.minimum(uniform_S[:, None].to(total.dtype) * total, total.nextafter(torch.zeros_like(total)))
    # right: the first token whose sum exceeds the number, so that one of probability 0 is never drawn
    return torch.searchsorted(cumulative, place, right=True)[:, 0].clamp(max=probs_V.shape[1] - 1)
