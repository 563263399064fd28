"""Steps of a measured size: a step may move the policy by so many nats per token, whatever the learning rate.

After the optimizer's step the movement is measured (``Probe``: KL(old || new) per token on the step's own samples). A
step that moved the policy by more than its limit is shortened towards the weights before it, and measured again, until
the limit holds:

    w = w_old + scale (w_proposed - w_old),    scale *= clip(sqrt(AIM limit / moved), SHRINK_MOST, SHRINK_LEAST)

(for small steps the KL grows with the square of the scale). The limit is ``optim.step_kl`` where given, else

    SHARE_OF_ENTROPY entropy min(1, failing / ENOUGH_FAILING)

with the rollout's entropy, so that a policy that is sure of itself moves less, and the share of samples whose reward is
below the mean: where few fail, the gradient consists of those few, and long steps along it wear off what the policy can
do. ``LEAST_ENTROPY`` and ``LEAST_FAILING`` bound both from below. The optimizer's rate is multiplied by the root of the
last factor, as a step of that size wants it. The rate then follows, so that few steps need to be shortened:

    log rate += clip(GAIN (log scale + log(AIM limit / moved) / 2), log FALL, log RISE)

and rises only in proportion to the share of the samples that taught something. Until a step has been taken within the
limit there is no rate to speak of, and the first step that has a gradient is searched in both directions.

AdamW's proposal is proportional to the rate (weight decay included), and its moments depend on gradients alone. So the
shortened step is the step of a smaller rate, exactly, and the moments stay as they are. The same holds for the two
factors of a LoRA adapter, which are shortened each: it is the step that a smaller rate would have made, not a shorter
step of their product. ``optim.warmup_steps`` does not apply: the first steps are as short as any.

With ``optim.epochs`` E, the policy may have moved by limit (e/E)^2 after gradient step e, an equal part of the way for
each, and by the limit after the last.

Trust regions with a line search: Schulman et al. 2015 (TRPO, arXiv 1502.05477). Left out: the natural gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sr_core.distributed.sharded_state import local_rows
from sr_core.optim.movement import Probe

__all__ = ["Step", "StepSize", "Stepper"]

SHARE_OF_ENTROPY = 0.03
LEAST_ENTROPY = 0.01  # nats per token
ENOUGH_FAILING = 0.2  # share of the samples below the mean reward, from which on the limit is whole
LEAST_FAILING = 0.01
AIM = 0.7  # of the limit: what a step is shortened to, and what the rate is steered to
SEARCHED = 0.35  # the first step is lengthened until it has moved this much of the limit
SHRINK_MOST, SHRINK_LEAST = 0.01, 0.8
GROW_MOST = 100.0
MEASUREMENTS = 10  # of one gradient step; where none was within the limit, the step is not taken
GAIN = 0.2
FALL, RISE = 0.5, 1.3
RATES = (1e-12, 1e3)
TINY = 1e-12  # nats; less cannot be told from nothing


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happened to the steps proposed in one update.

    ``moved``: nats per token, from before the update. ``limit``: the most it might. ``scale``: of what the optimizer
    proposed, how much was taken (geometric mean over epochs). ``shortened``: how often a proposal was cut back.
    """

    moved: float
    limit: float
    scale: float
    shortened: int


class StepSize:
    """The rate of measured steps and what it has learned so far.

    ``rate``: what the optimizer is given where the limit is whole. ``limit_factor``: on the limit, lowered by a guard.
    ``total``: movement summed over the steps since the campaign's start, the length of the way in nats per token.
    """

    def __init__(self, rate: float, step_kl: float | None) -> None:
        self.rate = rate
        self.step_kl = step_kl
        self.limit_factor = 1.0
        self.total = 0.0
        self.found = False

    def begin_campaign(self, *, limit_factor: float) -> None:
        """The way begins anew; the rate stays what it was."""
        self.limit_factor, self.total = limit_factor, 0.0

    def roll_back(self, *, total: float, factor: float) -> None:
        """The way is what it was at the policy returned to; from now on the limit is ``factor`` times what it was."""
        self.limit_factor *= factor
        self.total = total

    def limit(self, entropy: float, failing: float = 1.0) -> float:
        """The most that a step may move a policy whose samples have this ``entropy``, both in nats per token, and of
        which a share ``failing`` had a reward below their mean."""
        known = self.step_kl if self.step_kl is not None else SHARE_OF_ENTROPY * max(entropy, LEAST_ENTROPY)
        return known * self._left(failing) * self.limit_factor

    def rate_for(self, failing: float) -> float:
        """What the optimizer is given for a step on such samples."""
        return self.rate * math.sqrt(self._left(failing))

    def _left(self, failing: float) -> float:
        """The part of the limit that is left where few samples fail; a limit that was given is whole."""
        return 1.0 if self.step_kl is not None else min(1.0, max(failing, LEAST_FAILING) / ENOUGH_FAILING)

    def follow(self, step: Step, taught: float) -> None:
        """Steer the rate by what became of a step; ``taught``: the share of its samples that had an advantage."""
        if math.isfinite(step.moved):
            self.total += step.moved
        if math.isinf(step.limit):  # a step of a fixed rate
            return
        if step.scale == 0:  # not even its hundredth part could be measured
            self.rate = max(self.rate * SHRINK_MOST, RATES[0])
            return
        if not taught:
            return
        wanted = math.log(step.scale) + 0.5 * math.log(AIM * step.limit / max(step.moved, TINY))
        if not self.found and step.moved >= SEARCHED * step.limit:
            self.found = True
            change = math.log(step.scale)
        else:
            change = min(max(GAIN * wanted, math.log(FALL)), math.log(RISE))
            change *= taught if change > 0 else 1.0
        self.rate = min(max(self.rate * math.exp(change), RATES[0]), RATES[1])

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("rate", "limit_factor", "total", "found")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("rate", "limit_factor", "total", "found"):
            setattr(self, name, state[name])


class Stepper:
    """``optimizer`` for the gradient steps of one update, each within its part of the limit.

    ``weights``: what the optimizer steps on; ``follow``: to be called when they have changed otherwise (copies).
    ``search``: lengthen a step that has a gradient, too, since there is no rate yet. It holds one more copy of the
    weights meanwhile.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        weights: Sequence[Tensor],
        follow: Callable[[], None],
        probe: Probe,
        *,
        limit: float,
        epochs: int = 1,
        search: bool = False,
    ) -> None:
        self.optimizer, self.weights, self.probe = optimizer, weights, probe
        self.limit, self.epochs, self.search = limit, epochs, search
        self._follow = follow
        self._scales: list[float] = []
        self._shortened = 0
        self._moved = 0.0

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @property
    def result(self) -> Step | None:
        """The outcome of the update; None where no gradient step was proposed."""
        if not self._scales:
            return None
        scale = 0.0 if 0.0 in self._scales else math.exp(sum(map(math.log, self._scales)) / len(self._scales))
        return Step(moved=self._moved, limit=self.limit, scale=scale, shortened=self._shortened)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """The next gradient step, of at most ``epochs``."""
        bounded = math.isfinite(self.limit)
        before = [weight.detach().clone() for weight in self.weights] if bounded else []
        search = self.search and self._has_gradient()
        self.optimizer.step()
        limit = self.limit * ((len(self._scales) + 1) / self.epochs) ** 2
        scale, good = 1.0, 0.0  # of the proposal: what the weights have now, and the most found to be within the limit
        for _ in range(MEASUREMENTS):
            moved = self.probe.moved()
            wanted = math.sqrt(AIM * limit / max(moved, TINY))
            if moved <= limit:
                good, self._moved = scale, moved
                if not search or moved >= SEARCHED * limit:
                    break
                factor = min(wanted, GROW_MOST)
            else:
                self._shortened += 1
                factor = min(max(wanted, SHRINK_MOST, math.sqrt(good / scale)), SHRINK_LEAST)
            self._stretch(before, factor)
            scale *= factor
        if good == 0.0:
            self._put(before)
        elif good != scale:
            self._stretch(before, good / scale)
        self._scales.append(good)

    def _has_gradient(self) -> bool:
        """Whether any gradient is not 0, on any process: without one a step is weight decay, which has no rate."""
        gradients = [local_rows(weight.grad) for weight in self.weights if weight.grad is not None]
        some = any(bool(gradient.any()) for gradient in gradients)
        return self.probe.ranks.total(float(some))[0] > 0

    @torch.no_grad()
    def _stretch(self, before: Sequence[Tensor], factor: float) -> None:
        """Move the weights on the line through ``before``, to ``factor`` times their distance from it."""
        for weight, old in zip(self.weights, before, strict=True):
            weight.lerp_(old, 1 - factor)
        self._follow()

    @torch.no_grad()
    def _put(self, before: Sequence[Tensor]) -> None:
        for weight, old in zip(self.weights, before, strict=True):
            weight.copy_(old)
        self._follow()
