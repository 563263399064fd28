"""``StepSizeCallback``: optimizer steps of a measured size in transformers' ``Trainer`` and TRL's ``GRPOTrainer``.

    GRPOTrainer(..., callbacks=[StepSizeCallback()]).train()

After each optimizer step it measures how far the step moved the policy, KL(old || new) per token over the vocabulary,
on rows of the batch that the trainer has just trained on (what it last gave to the model). A step that moved it further
than its limit is shortened towards the weights before it and measured again, until the limit holds; then the learning
rate follows, through the scheduler's base rate. The rule is that of ``sr_core.optim.step_size``.

For models whose forward pass takes ``input_ids`` and returns ``logits`` (with ``logits_to_keep``, as TRL calls it, only
those are measured). It holds one more copy of the trained weights on their device. Where the weights are not whole here
(FSDP, ZeRO-3) steps are not shortened, only the rate follows. Left out: the smaller limit where few samples fail (the
model is not given the rewards), gradient accumulation beyond the last micro-batch, ``max_grad_norm`` applied by
DeepSpeed itself, images.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sr_monitor.errors import MonitorError
from sr_monitor.integrations.weights import trainable

__all__ = ["StepSizeCallback"]

STATE_FILE = "step_size.json"
SHARE_OF_ENTROPY, LEAST_ENTROPY = 0.03, 0.01
AIM, SEARCHED = 0.7, 0.35
SHRINK_MOST, SHRINK_LEAST, GROW_MOST = 0.01, 0.8, 100.0
MEASUREMENTS = 10
GAIN, FALL, RISE = 0.2, 0.5, 1.3
TINY = 1e-12
INPUTS = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "logits_to_keep")


class StepSizeCallback(TrainerCallback):
    """Bounds how far an optimizer step moves the policy, and steers the learning rate.

    step_kl: the most that a step may move it, in nats per token; left out, 3% of the entropy of its next token on the
    measured rows. rows: how many rows of the micro-batch are measured. steps: one dictionary per step, for the caller:
    ``step``, ``step_kl``, ``limit``, ``scale`` (share of the proposed step that was taken), ``shortened`` (how often it
    was cut back), ``lr``; the last one's ``step_kl`` and ``scale`` are also logged.

    Its state is written into every checkpoint and found again on resuming from it.
    """

    def __init__(self, *, step_kl: float | None = None, rows: int = 4) -> None:
        if step_kl is not None and not step_kl > 0:
            raise MonitorError(f"callback: step_kl must be above 0, got {step_kl}")
        if rows < 1:
            raise MonitorError(f"callback: rows must be at least 1, got {rows}")
        self.step_kl, self.rows = step_kl, rows
        self.steps: list[dict[str, float]] = []
        self.found = False
        self._inputs: dict[str, Any] = {}
        self._hook: Any = None
        self._before: list[Tensor] = []

    # -- what transformers calls -------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        path = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE
        if state.global_step and path.exists():
            self.found = bool(json.loads(path.read_text())["found"])
        self.temperature = float(getattr(args, "temperature", 1.0) or 1.0)
        self._hook = kwargs["model"].register_forward_pre_hook(self._notice, with_kwargs=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._hook.remove()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            target = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE
            target.write_text(json.dumps({"found": self.found}))

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
        if not self._inputs:
            raise MonitorError(
                "callback: the model was given no input_ids, so the size of a step cannot be measured; "
                "use StepSizeCallback with language models"
            )
        model = kwargs["model"]
        self._old = self._logprobs(model)
        parameters = list(trainable(model).values())
        whole = all(type(p) is torch.nn.Parameter and not hasattr(p, "ds_id") for p in parameters)
        self._before = [p.detach().clone() for p in parameters] if whole else []

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        entropy, _ = self._mean(-(self._old.exp() * self._old).sum(-1))
        limit = self.step_kl if self.step_kl is not None else SHARE_OF_ENTROPY * max(entropy, LEAST_ENTROPY)
        scale, moved, shortened = self._bound(model, limit)
        lr = float(kwargs["optimizer"].param_groups[0]["lr"])
        taken = {"step": state.global_step + 1, "step_kl": moved, "limit": limit, "scale": scale}
        self.steps.append({**taken, "shortened": shortened, "lr": lr})
        factor = self._follow(scale, moved, limit)
        _scale_rate(kwargs["optimizer"], kwargs.get("lr_scheduler"), factor)
        self._before, self._inputs = [], {}
        del self._old

    # -- the rule ----------------------------------------------------------------------------------------------

    def _bound(self, model: Any, limit: float) -> tuple[float, float, int]:
        """Shorten the step until it is within ``limit``; the share taken, the movement, and how often it was cut.

        The first step is lengthened, too, since there is no rate yet.
        """
        moved = self._moved(model)
        if not self._before:
            return 1.0, moved, 0
        scale, good, good_moved, shortened = 1.0, 0.0, 0.0, 0
        for _ in range(MEASUREMENTS):
            wanted = math.sqrt(AIM * limit / max(moved, TINY))
            if moved <= limit:
                good, good_moved = scale, moved
                if self.found or moved >= SEARCHED * limit or moved == 0:
                    break
                factor = min(wanted, GROW_MOST)
            else:
                shortened += 1
                factor = min(max(wanted, SHRINK_MOST, math.sqrt(good / scale)), SHRINK_LEAST)
            self._stretch(model, factor)
            scale *= factor
            moved = self._moved(model)
        if good != scale:
            self._stretch(model, good / scale)
        return good, good_moved, shortened

    def _follow(self, scale: float, moved: float, limit: float) -> float:
        """What the learning rate is multiplied by."""
        if scale == 0:
            return SHRINK_MOST
        if moved == 0 or not math.isfinite(moved):  # nothing was learned
            return 1.0
        if not self.found:
            self.found = moved >= SEARCHED * limit
            return scale
        wanted = math.log(scale) + 0.5 * math.log(AIM * limit / moved)
        return math.exp(min(max(GAIN * wanted, math.log(FALL)), math.log(RISE)))

    @torch.no_grad()
    def _stretch(self, model: Any, factor: float) -> None:
        """Move the weights on the line through those before the step, to ``factor`` times the distance."""
        for parameter, old in zip(trainable(model).values(), self._before, strict=True):
            if factor == 0:
                parameter.copy_(old)
            else:
                parameter.lerp_(old, 1 - factor)

    # -- measuring ---------------------------------------------------------------------------------------------

    def _notice(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Keep rows of what the model is trained on."""
        if not (torch.is_grad_enabled() and model.training and kwargs.get("input_ids") is not None):
            return
        count = len(kwargs["input_ids"])
        chosen = torch.linspace(0, count - 1, min(self.rows, count)).round().long()
        self._inputs = {
            name: value[chosen.to(value.device)].detach() if isinstance(value, Tensor) and value.dim() else value
            for name in INPUTS
            if (value := kwargs.get(name)) is not None
        }

    @torch.no_grad()
    def _logprobs(self, model: Any) -> Tensor:
        """(rows x tokens x V), as the model is sampled from."""
        training = model.training
        model.eval()
        try:
            logits = model(**self._inputs, use_cache=False).logits
        finally:
            model.train(training)
        logprobs: Tensor = (logits.float() / self.temperature).log_softmax(-1)
        return logprobs

    def _moved(self, model: Any) -> float:
        """Mean KL(old || new) in nats per token, the same on all processes; infinite where it is not finite."""
        divergence = (self._old.exp() * (self._old - self._logprobs(model))).sum(-1).clamp(min=0)
        mean, finite = self._mean(divergence)
        return mean if finite else math.inf

    def _mean(self, values: Tensor) -> tuple[float, bool]:
        """Mean of ``values`` (rows x tokens) over real tokens and all processes, and whether it is finite."""
        mask = torch.ones_like(values)
        if "attention_mask" in self._inputs:  # of the places whose predictions are kept: the last ones
            mask = self._inputs["attention_mask"][:, -values.shape[1] :].to(values.dtype)
        sums = torch.stack([values.masked_fill(mask == 0, 0).double().sum(), mask.double().sum()])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        mean = float(sums[0] / sums[1].clamp(min=1))
        return mean, math.isfinite(mean)


def _scale_rate(optimizer: Any, scheduler: Any, factor: float) -> None:
    """Multiply the learning rate, now and for the rest of the schedule."""
    while hasattr(optimizer, "optimizer"):  # accelerate wraps it
        optimizer = optimizer.optimizer
    while hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler
    for group in optimizer.param_groups:
        group["lr"] *= factor
        if "initial_lr" in group:
            group["initial_lr"] *= factor
    if scheduler is not None and hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [lr * factor for lr in scheduler.base_lrs]
