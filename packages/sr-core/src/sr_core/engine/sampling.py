"""Sampling completions: a prompt is read once, samples that agree so far are computed once, finished ones leave.

Axes: P prompts, G samples per prompt, N = P*G sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sr_core.batch import Rollout
from sr_core.engine.decoders import reader_of
from sr_core.engine.fsdp import unsharded
from sr_core.engine.scoring import engine_of, nucleus
from sr_core.errors import NonFiniteError
from sr_core.policy import Policy

__all__ = ["sample"]


def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    *,
    temperature: float,
    max_new_tokens: int,
    rng: torch.Generator,
    top_p: float = 1.0,
    batch_size: int = 512,
    only: range | None = None,
) -> Rollout:
    """Draw ``group_size`` completions of each prompt (token ids) at ``temperature``, from the nucleus ``top_p``.

    A completion ends with the policy's end-of-sequence token or after ``max_new_tokens`` (then it is ``truncated``).
    ``only``: the places of the prompts that are sampled here, where other processes sample the rest. Every token of
    every completion has a random number of its own, so neither ``only`` nor ``batch_size`` changes what it is. Of a
    divided policy all processes sample at the same time, each what it likes.
    """
    uniform_NT = torch.rand((len(prompts) * group_size, max_new_tokens), generator=rng, device=rng.device)
    only = range(len(prompts)) if only is None else only
    prompts = prompts[only.start : only.stop]
    uniform_NT = uniform_NT[only.start * group_size : only.stop * group_size].to(policy.device)
    per_chunk = max(1, batch_size // group_size)
    with unsharded(policy), torch.inference_mode():
        return _sample(policy, prompts, group_size, temperature, top_p, uniform_NT, per_chunk)


def _sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    temperature: float,
    top_p: float,
    uniform_NT: Tensor,
    per_chunk: int,
) -> Rollout:
    """The same with a given random number for every token, ``per_chunk`` prompts at a time."""
    tokens: list[list[int]] = []
    logprobs: list[Tensor] = []
    entropy_sum = 0.0
    for start in range(0, len(prompts), per_chunk):
        chunk = prompts[start : start + per_chunk]
        with engine_of(policy):
            numbers_NT = uniform_NT[start * group_size : (start + per_chunk) * group_size]
            ids_NT, logprobs_NT, entropies = _decode(policy, chunk, group_size, temperature, top_p, numbers_NT)
        for ids, values in zip(ids_NT.tolist(), logprobs_NT, strict=True):
            length = ids.index(policy.eos_id) + 1 if policy.eos_id in ids else len(ids)
            tokens.append(ids[:length])
            logprobs.append(values[:length].clone())
        entropy_sum += entropies
    drawn = sum(map(len, tokens))
    return Rollout(
        prompts=[list(p) for p in prompts],
        group_size=group_size,
        tokens=tokens,
        logprobs=logprobs,
        truncated=[t[-1] != policy.eos_id for t in tokens],
        entropy=entropy_sum / max(drawn, 1),
    )


def _decode(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    temperature: float,
    top_p: float,
    uniform_NT: Tensor,
) -> tuple[Tensor, Tensor, float]:
    """Ids and log-probabilities (N x T, padded after the end) and the sum of token entropies.

    The batch consists of lines, each of one sample or of several that have drawn the same so far (see ``decoders``).
    """
    device = policy.device
    max_new_tokens = uniform_NT.shape[1]
    reader = reader_of(policy, prompts, group_size, max_new_tokens)
    hidden = reader.first()
    line_S = torch.arange(len(prompts), device=device).repeat_interleave(group_size)
    number_S = torch.arange(len(line_S), device=device)  # which of the N each sample is that has not ended
    ids_NT = torch.full((len(line_S), max_new_tokens), policy.eos_id, device=device)
    logprobs_NT = torch.zeros_like(uniform_NT, dtype=torch.promote_types(hidden.dtype, torch.float32))
    entropy = torch.zeros((), device=device, dtype=torch.float64)
    for t in range(max_new_tokens):
        logits = policy.logits(hidden) / temperature
        if top_p < 1:
            logits = nucleus(logits, top_p)
        logprobs_V = logits.log_softmax(1)
        probs_V = logprobs_V.exp()
        drawn_S = _draw(probs_V, line_S, uniform_NT[number_S, t])
        chosen_S = logprobs_V[line_S, drawn_S]
        if not bool(torch.isfinite(chosen_S).all()):
            raise NonFiniteError("a policy's scores must be finite, these are not: lower optim.lr, or guard the run")
        ids_NT[number_S, t], logprobs_NT[number_S, t] = drawn_S, chosen_S
        mean_logprob = torch.linalg.vecdot(
            probs_V, logprobs_V if top_p == 1 else logprobs_V.masked_fill(probs_V == 0, 0)
        )
        entropy -= mean_logprob[line_S].sum()
        going = drawn_S != policy.eos_id
        if t + 1 == max_new_tokens or not bool(going.any()):
            break
        number_S = number_S[going]
        hidden, line_S = reader.next(number_S, line_S[going], drawn_S[going])
    return ids_NT, logprobs_NT, float(entropy)


def _draw(probs_V: Tensor, line_S: Tensor, uniform_S: Tensor) -> Tensor:
    """One token per sample by inverting the cumulative distribution of its line: one random number each, not V."""
    cumulative = probs_V.cumsum(-1)[line_S]
    total = cumulative[:, -1:]
    place = torch.minimum(uniform_S[:, None].to(total.dtype) * total, total.nextafter(torch.zeros_like(total)))
    # right: the first token whose sum exceeds the number, so that one of probability 0 is never drawn
    return torch.searchsorted(cumulative, place, right=True)[:, 0].clamp(max=probs_V.shape[1] - 1)
