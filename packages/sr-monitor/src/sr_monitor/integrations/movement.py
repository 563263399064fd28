"""How far a step moved a language model: KL(old || new) of the next token, on rows that it has just been trained on.

Measured are the places whose prediction is trained, the completions in GRPO: those whose next token has a label, or, in
a call without ``labels``, is no padding. ``logits_to_keep`` restricts them further.

Axes: N measured rows, L their tokens, C measured places of a row, V vocabulary, K tokens kept one by one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Probe", "Row", "rows_of", "summed"]

KEPT = 256  # likeliest tokens of a place that are kept one by one; the rest is one event, which can only lower the KL
PLACES = 512  # of a row, at even distances, so that at most so many distributions over V exist at a time
INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids")
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a batch: ``inputs`` (1 x L each) and the ``places`` to measure (C indices)."""

    inputs: dict[str, Tensor]
    places: Tensor


def rows_of(call: Mapping[str, Any], count: int) -> list[Row]:
    """At most ``count`` rows, at even distances, of what a model was called with."""
    ids = call["input_ids"]
    trained_NL = _trained(call)
    given = {name: value for name in INPUTS if isinstance(value := call.get(name), Tensor) and value.dim()}
    rows = []
    for index in torch.linspace(0, len(ids) - 1, min(count, len(ids))).round().long().tolist():
        # a tensor of one row serves all (position_ids)
        inputs = {
            name: (value[index : index + 1] if len(value) == len(ids) else value).detach()
            for name, value in given.items()
        }
        places = trained_NL[index].nonzero()[:, 0]
        if len(places) > PLACES:
            places = places[torch.linspace(0, len(places) - 1, PLACES).round().long().to(places.device)]
        rows.append(Row(inputs=inputs, places=places))
    return rows


def _trained(call: Mapping[str, Any]) -> Tensor:
    """Which places (N x L) predict a token that is trained on."""
    ids = call["input_ids"]
    shifted, labels, mask = (
        value if isinstance(value := call.get(name), Tensor) and value.shape == ids.shape else None
        for name in ("shift_labels", "labels", "attention_mask")
    )
    places = torch.zeros_like(ids, dtype=torch.bool)
    if shifted is not None:
        places |= shifted != IGNORED
    elif labels is not None:
        places[:, :-1] = labels[:, 1:] != IGNORED
    elif mask is not None:
        places[:, :-1] = mask[:, 1:] != 0
    else:
        places[:, :-1] = True
    kept = call.get("logits_to_keep", 0)
    if isinstance(kept, Tensor):
        chosen = torch.zeros(ids.shape[1], dtype=torch.bool, device=ids.device)
        chosen[kept] = True
        places &= chosen
    elif kept:
        places[:, :-kept] = False
    return places


class Probe:
    """Remembers a model's distributions at the places of ``rows``, and measures how far it has moved since.

    ``entropy``: mean over these places, in nats per token. All means are over all processes, so that all decide alike.
    It costs a forward pass over the rows when it is made and one for every measurement, and holds K + 1 numbers per
    place.
    """

    def __init__(self, model: Any, rows: Sequence[Row], *, temperature: float) -> None:
        self.model, self.rows, self.temperature = model, rows, temperature
        self._keeps = "logits_to_keep" in inspect.signature(type(_innermost(model)).forward).parameters
        self._before: list[_Kept] = []
        entropy = 0.0
        for logprobs_CV in self._logprobs():
            self._before.append(_Kept(logprobs_CV))
            entropy += float(torch.special.entr(logprobs_CV.exp()).sum())
        self.entropy = self._mean(entropy)

    def moved(self) -> float:
        """Mean KL(old || new) in nats per token; infinite where it is not finite."""
        pairs = zip(self._before, self._logprobs(), strict=True)
        mean = self._mean(sum(float(kept.divergence(logprobs_CV).double().sum()) for kept, logprobs_CV in pairs))
        return mean if math.isfinite(mean) else math.inf

    def _mean(self, total: float) -> float:
        places = float(sum(len(row.places) for row in self.rows))
        total, places = summed(total, places, device=self.rows[0].places.device)
        return total / max(places, 1.0)

    @torch.no_grad()
    def _logprobs(self) -> Iterator[Tensor]:
        """Log-probabilities (C x V) as the model is sampled from, a row at a time."""
        training = self.model.training
        self.model.eval()
        try:
            for row in self.rows:
                if self._keeps:
                    logits_CV = self.model(**row.inputs, logits_to_keep=row.places, use_cache=False).logits[0]
                else:
                    logits_CV = self.model(**row.inputs, use_cache=False).logits[0, row.places]
                yield (logits_CV.float() / self.temperature).log_softmax(-1)
        finally:
            self.model.train(training)
            for part in self.model.modules():
                if hasattr(part, "reshard"):  # FSDP2 would go on with whole weights that the optimizer does not change
                    part.reshard()


class _Kept:
    """The ``KEPT`` likeliest tokens of distributions (C x V), and the total probability of the rest."""

    def __init__(self, logprobs_CV: Tensor) -> None:
        self.ids_CK = logprobs_CV.topk(KEPT, dim=1).indices if logprobs_CV.shape[1] > KEPT else None
        self.logprobs_CK = self._coarse(logprobs_CV)

    def divergence(self, logprobs_CV: Tensor) -> Tensor:
        """KL(kept || these) per place (C); a lower bound, since the rest counts as one event."""
        before = self.logprobs_CK
        terms = before.exp() * (before - self._coarse(logprobs_CV))
        return terms.masked_fill(before == -torch.inf, 0).sum(1).clamp(min=0)

    def _coarse(self, logprobs_CV: Tensor) -> Tensor:
        if self.ids_CK is None:
            return logprobs_CV
        rest_C = logprobs_CV.scatter(1, self.ids_CK, -torch.inf).logsumexp(1)
        return torch.cat([logprobs_CV.gather(1, self.ids_CK), rest_C[:, None]], dim=1)


def summed(*values: float, device: torch.device) -> tuple[float, ...]:
    """``values`` summed over all processes."""
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return tuple(sums.tolist())


def _innermost(model: Any) -> Any:
    """The model that computes the logits, without adapters, compilation, and what distributes it."""
    while True:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else None
        for name in ("module", "_orig_mod"):
            inner = inner or getattr(model, name, None)
        if not isinstance(inner, torch.nn.Module) or inner is model:
            return model
        model = inner
