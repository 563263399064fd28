"""``StepSizeCallback``: optimizer steps of a measured size in transformers' ``Trainer`` and TRL's ``GRPOTrainer``.

    GRPOTrainer(..., callbacks=[StepSizeCallback()]).train()

After each optimizer step it measures how far the step moved the policy, KL(old || new) per trained token over the
vocabulary, on rows of the batch that the trainer has just trained on (what it last gave to the model). A step that
moved it further than its limit is shortened towards the weights before it and measured again, until the limit holds;
then the learning rate follows, through the scheduler's base rate. The rule is that of ``sr_core.optim.step_size``.

For language models whose forward pass takes ``input_ids`` and returns ``logits``, trained in float32 (autocast and LoRA
included), with DDP or FSDP2. It holds one more copy of the trained weights on their device. Under FSDP1, whose flat
shards cannot be reached, steps are not shortened, only the rate follows. DeepSpeed is refused. Left out: the smaller
limit where few samples fail (the model is not given the rewards), a limit shared by several steps on the same
completions (TRL's ``num_iterations`` and ``steps_per_generation``: each has the whole limit), gradient accumulation
beyond the last micro-batch, images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from sr_monitor.errors import MonitorError
from sr_monitor.integrations.checks import refuse_deepspeed, refuse_narrow, sharding
from sr_monitor.integrations.movement import Probe, Row, rows_of, summed
from sr_monitor.integrations.trainer import calling_trainer, come_first, scale_rate
from sr_monitor.integrations.weights import trainable

__all__ = ["StepSizeCallback"]

SHARE_OF_ENTROPY, LEAST_ENTROPY = 0.03, 0.01
AIM, SEARCHED = 0.7, 0.35
SHRINK_MOST, SHRINK_LEAST, GROW_MOST = 0.01, 0.8, 100.0
MEASUREMENTS = 10
GAIN, FALL, RISE = 0.2, 0.5, 1.3
RATES = (1e-12, 1e3)
TINY = 1e-12


class StepSizeCallback(TrainerCallback, ExportableState):
    """Bounds how far an optimizer step moves the policy, and steers the learning rate.

    step_kl: the most that a step may move it, in nats per token; left out, 3% of the entropy of its next token at the
    measured places. rows: how many rows of the micro-batch are measured, at most 512 trained places of each.

    steps: one dictionary per step, for the caller: ``step``, ``step_kl``, ``limit``, ``scale`` (share of the proposed
    step that was taken), ``shortened`` (how often it was cut back), ``lr``; the last one's ``step_kl`` and ``scale``
    are also logged, as ``step_kl`` and ``step_scale``. limit_factor: on the limit, lowered by a guard that rolls back.
    dropped: steps not taken because a gradient was not finite; the optimizer does not see these gradients.

    ``found`` and ``limit_factor`` are part of every checkpoint's ``trainer_state.json``, the rate of its scheduler.
    """

    def __init__(self, *, step_kl: float | None = None, rows: int = 4) -> None:
        if step_kl is not None and not step_kl > 0:
            raise MonitorError(f"callback: step_kl must be above 0, got {step_kl}")
        if rows < 1:
            raise MonitorError(f"callback: rows must be at least 1, got {rows}")
        self.step_kl, self.rows = step_kl, rows
        self._hook: Any = None
        self._begin()

    def _begin(self) -> None:
        """As before any training."""
        self.steps: list[dict[str, float]] = []
        self.found, self.limit_factor, self.dropped = False, 1.0, 0
        self._rate_only = self._scaled = False
        self._rows: list[Row] = []
        self._before: list[Tensor] = []
        self._probe: Probe | None = None  # None where the step is not taken
        self._taught = False
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint has of it."""
        return {
            "args": {"step_kl": self.step_kl, "rows": self.rows},
            "attributes": {"found": self.found, "limit_factor": self.limit_factor},
        }

    @property
    def took_step(self) -> bool:
        """Whether the last step was taken, by however little."""
        return not self.steps or self.steps[-1]["scale"] > 0

    def soften(self, factor: float, *, moments_reset: bool) -> None:
        """A guard has rolled back: the limit is ``factor`` times what it was, and the rate stays.

        The first step of an optimizer without moments is searched in both directions, as at the beginning.
        """
        self.limit_factor *= factor
        self.found &= not moments_reset

    # -- what transformers calls -------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer, model, name = calling_trainer(self), kwargs["model"], type(self).__name__
        refuse_deepspeed(
            args,
            trainer,
            "takes the optimizer's step inside the backward pass, so its size cannot be measured; use DDP or FSDP with "
            "StepSizeCallback",
        )
        refuse_narrow(model)
        self._begin()
        if state.global_step and (saved := state.stateful_callbacks.get(name)):  # type: ignore[union-attr]
            vars(self).update((saved[-1] if isinstance(saved, list) else saved)["attributes"])
        # transformers fails to save a callback that the checkpoint it resumed from does not know
        state.stateful_callbacks.setdefault(name, self.state())  # type: ignore[union-attr]
        come_first(trainer, self)
        parameters = trainable(model).values()
        whole = all(type(p) is torch.nn.Parameter for p in parameters)
        shards = any(hasattr(p, "to_local") for p in parameters)
        self._rate_only = not shards and (not whole or sharding(model, args, trainer) is not None)
        self._scaled = trainer is not None and trainer.accelerator.scaler is not None
        self.temperature = float(getattr(args, "temperature", 1.0) or 1.0)
        self._hook = model.register_forward_pre_hook(self._notice, with_kwargs=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is not None and self.steps and "loss" in logs:
            found = {"step_kl": self.steps[-1]["step_kl"], "step_scale": self.steps[-1]["scale"]}
            logs |= found
            if state.log_history:
                state.log_history[-1] |= found

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._rows:
            raise MonitorError(
                "callback: the model was given no input_ids, so the size of a step cannot be measured; "
                "use StepSizeCallback with language models"
            )
        model = kwargs["model"]
        parameters = list(trainable(model).values())
        finite, self._taught = _look_at_gradients(parameters)
        if not finite:
            self._drop(parameters, state.global_step + 1)
            return
        self._probe = Probe(model, self._rows, temperature=self.temperature)
        self._before = [] if self._rate_only else [_local(p).clone() for p in parameters]

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        taken = {"step_kl": 0.0, "limit": 0.0, "scale": 0.0, "shortened": 0}
        factor = 1.0
        if (probe := self._probe) is not None:
            known = self.step_kl if self.step_kl is not None else SHARE_OF_ENTROPY * max(probe.entropy, LEAST_ENTROPY)
            limit = known * self.limit_factor
            scale, moved, shortened = self._bound(kwargs["model"], probe, limit)
            taken = {"step_kl": moved, "limit": limit, "scale": scale, "shortened": shortened}
            factor = self._follow(scale, moved, limit)
        lr = float(kwargs["optimizer"].param_groups[0]["lr"])
        self.steps.append({"step": state.global_step + 1, **taken, "lr": lr})
        scale_rate(kwargs["optimizer"], kwargs.get("lr_scheduler"), factor, RATES)
        self._probe, self._before, self._rows = None, [], []

    # -- the rule ----------------------------------------------------------------------------------------------

    def _bound(self, model: Any, probe: Probe, limit: float) -> tuple[float, float, int]:
        """Shorten the step until it is within ``limit``; the share taken, the movement, and how often it was cut.

        The first step that has a gradient is lengthened, too, since there is no rate yet.
        """
        moved = probe.moved()
        if self._rate_only:
            return 1.0, moved, 0
        search = self._taught and not self.found
        scale, good, good_moved, shortened = 1.0, 0.0, 0.0, 0
        for _ in range(MEASUREMENTS):
            wanted = math.sqrt(AIM * limit / max(moved, TINY))
            if moved <= limit:
                good, good_moved = scale, moved
                if not search or moved >= SEARCHED * limit or moved == 0:
                    break
                factor = min(wanted, GROW_MOST)
            else:
                shortened += 1
                factor = min(max(wanted, SHRINK_MOST, math.sqrt(good / scale)), SHRINK_LEAST)
            self._stretch(model, factor)
            scale *= factor
            moved = probe.moved()
        if good != scale:
            self._stretch(model, good / scale)
        return good, good_moved, shortened

    def _follow(self, scale: float, moved: float, limit: float) -> float:
        """What the learning rate is multiplied by. It does not rise for a step without a gradient, one of momentum."""
        if scale == 0 or not math.isfinite(moved):
            return SHRINK_MOST
        if moved == 0:
            return 1.0
        wanted = math.log(scale) + 0.5 * math.log(AIM * limit / moved)
        if self._rate_only:  # nothing else bounds the next step
            change = min(max(wanted, math.log(SHRINK_MOST)), math.log(RISE))
        elif not self.found:
            self.found = self._taught and moved >= SEARCHED * limit
            change = math.log(scale)
        else:
            change = min(max(GAIN * wanted, math.log(FALL)), math.log(RISE))
        return math.exp(change if self._taught else min(change, 0.0))

    @torch.no_grad()
    def _stretch(self, model: Any, factor: float) -> None:
        """Move the weights on the line through those before the step, to ``factor`` times the distance."""
        for parameter, old in zip(trainable(model).values(), self._before, strict=True):
            if factor == 0:
                _local(parameter).copy_(old)
            else:
                _local(parameter).lerp_(old, 1 - factor)

    def _drop(self, parameters: Iterable[Tensor], step: int) -> None:
        """Leave the optimizer nothing to do, so that its moments stay finite. A gradient scaler skips the step itself,
        and lowers its scale by what it finds."""
        self.dropped += 1
        if self._scaled:
            return
        for parameter in parameters:
            parameter.grad = None
        warnings.warn(
            f"StepSizeCallback: step {step} is not taken, its gradient is not finite ({self.dropped} so far)",
            RuntimeWarning,
            stacklevel=2,
        )

    def _notice(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Keep rows of what the model is trained on."""
        if torch.is_grad_enabled() and model.training and kwargs.get("input_ids") is not None:
            self._rows = rows_of(kwargs, self.rows)


@torch.no_grad()
def _look_at_gradients(parameters: Iterable[Tensor]) -> tuple[bool, bool]:
    """Whether the gradients are finite on all processes, and whether any is not 0."""
    parameters = list(parameters)
    grads = [_local(p.grad) for p in parameters if p.grad is not None]
    sizes = [g.abs().max() for g in grads if g.numel()]
    bad = any(not math.isfinite(size) for size in sizes)
    bad_count, some_count = summed(float(bad), float(any(size != 0 for size in sizes)), device=parameters[0].device)
    return not bad_count, bool(some_count)


def _local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor (its shard under FSDP2, all of it elsewhere), sharing its memory."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
