"""The engine: draws completions from a policy and scores completions under it, computing shared work once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property

import torch
from torch import Tensor

from sr_core.batch import Rollout
from sr_core.config import SamplingConfig
from sr_core.distributed.process_group import Ranks
from sr_core.engine.agreement import shares_prompts
from sr_core.engine.cuda_graphs import RecordedShapes
from sr_core.engine.decoders import BranchingDecoder, Decoder, GraphDecoder, PlainDecoder
from sr_core.engine.flex_attention import FlexPrompts, can_flex
from sr_core.engine.fsdp import shard, unsharded
from sr_core.engine.sampling import decode
from sr_core.engine.scoring import Scores, plain_states, shared_states, token_scores
from sr_core.engine.shared_prompts import SharedPrompts, shared_attention
from sr_core.engine.stops import Stops
from sr_core.errors import PolicyError
from sr_core.policy import Policy
from sr_core.policy.linear import fast_linear
from sr_core.policy.prompts import EncodedPrompt

__all__ = ["Engine"]


class Engine:
    """Computes with ``policy``, whose weights may change between calls; it owns no weights itself.

    ``cuda_graphs`` and ``flex_attention`` are experimental: no GPU has run them yet. Both take effect on CUDA only, and
    both are compared with the plain computation before they are used.
    """

    def __init__(self, policy: Policy, *, cuda_graphs: bool = False, flex_attention: bool = False) -> None:
        self.policy = policy
        self.cuda_graphs = cuda_graphs
        self.flex_attention = flex_attention
        self.recorded = RecordedShapes()

    def sample(
        self,
        prompts: Sequence[EncodedPrompt | Sequence[int]],
        samples: int,
        sampling: SamplingConfig,
        rng: torch.Generator | Sequence[torch.Generator],
        *,
        only: range | None = None,
    ) -> Rollout:
        """Draw ``samples`` completions of each prompt (or bare token ids), at the temperature and top-p of
        ``sampling``.

        A completion ends with the policy's end-of-sequence token, with the token that completes one of its prompt's
        stop texts, or after ``sampling.max_new_tokens`` (then it is ``truncated``). ``only``: the places of the prompts
        that are sampled here, where other processes sample the rest. Every token of every completion has its own random
        number, so neither ``only`` nor ``sampling.batch_size`` changes it; with an ``rng`` for each prompt, nor do the
        other prompts. All processes of a sharded policy sample at the same time, each its own prompts. Raises
        NonFiniteError when the policy's scores are not finite, and PolicyError where a prompt and its completion have
        more tokens than the model was made for.
        """
        rows, room = len(prompts) * samples, sampling.max_new_tokens
        if isinstance(rng, torch.Generator):
            uniform_NT = torch.rand((rows, room), generator=rng, device=rng.device)
        else:
            uniform_NT = torch.cat([torch.rand((samples, room), generator=own, device=own.device) for own in rng])
        only = range(len(prompts)) if only is None else only
        prompts = prompts[only.start : only.stop]
        uniform_NT = uniform_NT[only.start * samples : only.stop * samples].to(self.policy.device)
        per_chunk = max(1, sampling.batch_size // samples)
        encoded = [
            p if isinstance(p, EncodedPrompt) else EncodedPrompt(ids=list(p), prefill="", stop=()) for p in prompts
        ]
        longest, most = max((len(prompt.ids) for prompt in encoded), default=0), self.policy.context
        if most is not None and longest + room > most:
            raise PolicyError(
                f"a prompt and its completion must have at most {most} tokens, which the model was made for; the "
                f"longest prompt has {longest}, and sampling.max_new_tokens is {room}: lower it, or leave the task out"
            )
        with unsharded(self.policy), torch.inference_mode():
            return self._sample(encoded, samples, sampling, uniform_NT, per_chunk)

    def _sample(
        self,
        prompts: Sequence[EncodedPrompt],
        samples: int,
        sampling: SamplingConfig,
        uniform_NT: Tensor,
        per_chunk: int,
    ) -> Rollout:
        """The same with a given random number for every token, ``per_chunk`` prompts at a time."""
        ends = self.policy.end_ids
        tokens: list[list[int]] = []
        logprobs: list[Tensor] = []
        truncated: list[bool] = []
        entropy_sum = 0.0
        for start in range(0, len(prompts), per_chunk):
            chunk = prompts[start : start + per_chunk]
            numbers_NT = uniform_NT[start * samples : (start + per_chunk) * samples]
            stops = Stops(self.policy, [prompt.stop for prompt in chunk], samples)
            with self._running():
                decoder = self._decoder([prompt.ids for prompt in chunk], samples, sampling.max_new_tokens)
                ids_NT, logprobs_NT, entropies = decode(
                    self.policy, decoder, len(chunk), sampling.temperature, sampling.top_p, numbers_NT, stops
                )
            for number, (ids, values) in enumerate(zip(ids_NT.tolist(), logprobs_NT, strict=True)):
                length = stops.ended.get(number) or next((t for t, i in enumerate(ids, 1) if i in ends), len(ids))
                tokens.append(ids[:length])
                truncated.append(number not in stops.ended and ids[length - 1] not in ends)
                logprobs.append(values[:length].clone())
            entropy_sum += entropies
        drawn = sum(map(len, tokens))
        return Rollout(
            prompts=[prompt.ids for prompt in prompts],
            group_size=samples,
            tokens=tokens,
            logprobs=logprobs,
            truncated=truncated,
            entropy=entropy_sum / max(drawn, 1),
        )

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: Sequence[Sequence[int]],
        *,
        temperature: float,
        top_p: float = 1.0,
        entropy: bool = False,
    ) -> Scores:
        """Log-probabilities of completions ``tokens[i]`` (at least one token each) of ``prompts[i]``, with gradients.

        Equal prompts are read once, where the policy's architecture can. Scores over the vocabulary exist for
        ``scoring.LOGIT_CHUNK`` tokens at a time, in the backward pass too.
        """
        policy = self.policy
        hidden = self.states(prompts, tokens)
        targets = torch.tensor([token for t in tokens for token in t], device=policy.device)
        values, entropies = token_scores(policy, hidden, targets, temperature, top_p, entropy)
        lengths = torch.tensor([len(t) for t in tokens], device=policy.device)
        real = torch.arange(int(lengths.max()), device=policy.device) < lengths[:, None]
        grid = torch.zeros(real.shape, dtype=values.dtype, device=policy.device)
        return Scores(
            logprobs_NT=grid.masked_scatter(real, values),
            mask_NT=real.to(values.dtype),
            entropy_NT=grid.masked_scatter(real, entropies) if entropy else None,
        )

    def states(self, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states (sum of lengths x hidden) that predict the completions' tokens, completion after completion."""
        with self._running():
            if self.shares_prompts:
                layout = FlexPrompts if self.uses_flex else SharedPrompts
                return shared_states(self.policy, layout, prompts, tokens)
            return plain_states(self.policy, prompts, tokens)

    def frozen_copy(self) -> Engine:
        """An engine of the policy as it is now, which is not trained."""
        return Engine(self.policy.frozen_copy(), cuda_graphs=self.cuda_graphs, flex_attention=self.flex_attention)

    def shard(self, ranks: Ranks) -> None:
        """Leave this process its rows of every weight (``engine.fsdp``). Collective; cannot be undone."""
        _ = self.shares_prompts  # found by computing a few tokens, which needs whole weights
        shard(self.policy, ranks)

    @cached_property
    def shares_prompts(self) -> bool:
        """Whether the samples of a prompt can share it: found by computing a few tokens both ways.

        Where not (attention that is no plain softmax, or that bypasses transformers' interface), every sample reads
        its prompt for itself. Raises PolicyError for a model that can be read in neither way.
        """
        return shares_prompts(self.policy)

    @cached_property
    def uses_flex(self) -> bool:
        """Whether scoring attends through torch's flex attention: asked for, on CUDA, and the same numbers."""
        policy = self.policy
        possible = policy.device.type == "cuda" and self.shares_prompts and not policy.sharded
        return self.flex_attention and possible and can_flex(policy.decoder, policy.device)

    @property
    def replays_graphs(self) -> bool:
        """Whether sampling replays CUDA graphs: asked for, on CUDA, and with all weights on this process."""
        return self.cuda_graphs and self.policy.device.type == "cuda" and not self.policy.sharded

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Within it, the policy's decoder accepts attention backends, where its architecture can, and is fast."""
        decoder = self.policy.decoder
        with fast_linear(decoder), shared_attention(decoder) if self.shares_prompts else nullcontext():
            yield

    def _decoder(self, prompts: Sequence[Sequence[int]], samples: int, room: int) -> Decoder:
        """The fastest decoder that the policy allows, for ``room`` tokens of each sample."""
        if not self.shares_prompts:
            return PlainDecoder(self.policy, prompts)
        if self.replays_graphs:
            return GraphDecoder(self.policy, prompts, self.recorded.cache(self.policy, prompts, samples, room))
        return BranchingDecoder(self.policy, prompts, samples, room)
