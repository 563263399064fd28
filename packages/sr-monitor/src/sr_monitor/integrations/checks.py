"""What the callback refuses: answers that would be counted wrongly, and models it cannot copy or sample from."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch

from sr_monitor.errors import MonitorError
from sr_monitor.integrations.weights import trainable

__all__ = [
    "passed_count",
    "passing_counts",
    "refuse_deepspeed",
    "refuse_encoder_decoder",
    "refuse_narrow",
    "refuse_sharded",
    "sharding",
]


def passing_counts(counts: Any, tasks: int, samples: int) -> list[int]:
    """``counts`` as a list, if it is one whole number in 0..samples for each of ``tasks`` tasks.

    Takes sequences, arrays and tensors. Floats are refused even where they are whole: 1.0 may be a rate.
    """
    values = _listed(counts)
    if values is None:
        raise MonitorError(
            f"evaluate: must return one count per task, got {type(counts).__name__}; return a list of {tasks} numbers"
        )
    if len(values) != tasks:
        raise MonitorError(f"evaluate: must return one count per task, got {len(values)} for {tasks} tasks")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise MonitorError(
                f"evaluate: counts must be whole numbers, got {value!r} ({type(value).__name__}); return how many of "
                f"the {samples} samples of each task passed, not a rate or a verdict"
            )
        if not 0 <= int(value) <= samples:
            raise MonitorError(f"evaluate: counts must lie in 0..{samples} (samples per task), got {value}")
    return [int(value) for value in values]


def passed_count(verdicts: Any, samples: int) -> int:
    """How many of ``samples`` completions of one task passed; one bool (or 0 or 1) of each is needed."""
    values = _listed(verdicts)
    if values is None or len(values) != samples:
        got = type(verdicts).__name__ if values is None else f"{len(values)} verdicts"
        raise MonitorError(f"passed: must return one bool per completion, got {got} for {samples} completions")
    for value in values:
        if not isinstance(value, Integral) or value not in (0, 1):
            raise MonitorError(
                f"passed: verdicts must be True or False, got {value!r} ({type(value).__name__}); compare scores with "
                "the threshold from which a task counts as solved"
            )
    return sum(int(value) for value in values)


def refuse_encoder_decoder(model: Any) -> None:
    """The evaluator cuts the prompt off what ``generate`` returns, which an encoder-decoder does not repeat."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise MonitorError(
            f"evaluator: {type(model).__name__} is an encoder-decoder model, which GenerationEvaluator cannot sample "
            "from; pass an evaluate function of your own"
        )


def refuse_sharded(model: Any, arguments: Any = None, trainer: Any = None) -> None:
    """A guard copies whole parameters; where a process holds a part of each, the copies would be wrong."""
    kind = sharding(model, arguments, trainer)
    if kind:
        raise MonitorError(
            f"callback: {kind} keeps only a part of each parameter on a process, and the guard copies whole ones; use "
            "DDP"
        )


def refuse_deepspeed(arguments: Any, trainer: Any, why: str) -> None:
    """Refuse DeepSpeed, set up by arguments or by the launcher. why: what is wrong, and the way out."""
    kind = getattr(getattr(trainer, "accelerator", None), "distributed_type", "")
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if getattr(arguments, "deepspeed", None) or plugin is not None or str(getattr(kind, "value", kind)) == "DEEPSPEED":
        raise MonitorError(f"callback: DeepSpeed {why}")


def refuse_narrow(model: Any) -> None:
    """A small step of a weight of few bits is lost in rounding, so that neither step nor rate can be measured."""
    for name, parameter in trainable(model).items():
        if parameter.dtype in (torch.bfloat16, torch.float16):
            kind = str(parameter.dtype).removeprefix("torch.")
            raise MonitorError(
                f"callback: the trained weight {name} is {kind}, and steps must be measured in float32; load the model "
                "in float32 and train with bf16=True (autocast), or use LoRA with adapters in float32"
            )


def sharding(model: Any, arguments: Any, trainer: Any = None) -> str | None:
    """What leaves this process a part of each trained parameter, or None where it has whole ones.

    FSDP is found in the trainer, too: ``accelerate launch`` sets it up without the arguments.
    """
    if getattr(arguments, "fsdp", None) or getattr(trainer, "is_fsdp_enabled", False):
        return "FSDP"
    plugin = getattr(arguments, "hf_deepspeed_config", None)
    if plugin is not None and plugin.is_zero3():
        return "DeepSpeed ZeRO-3"
    for name, parameter in trainable(model).items():
        if hasattr(parameter, "ds_id"):
            return "DeepSpeed ZeRO-3"
        if hasattr(parameter, "device_mesh") or hasattr(parameter, "_is_flat_param"):
            return "FSDP or tensor parallelism"
        if parameter.numel() == 0:
            return f"something that leaves {name} empty (ZeRO-3, FSDP)"
    return None


def _listed(values: Any) -> Sequence[Any] | None:
    """A list of Python or numpy scalars from a one-dimensional sequence, array or tensor, else None."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        return None
    # numpy scalars and tensors of one number
    return [value.item() if hasattr(value, "item") else value for value in values]
