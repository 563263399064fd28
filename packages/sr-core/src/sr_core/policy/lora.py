"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) through peft, which is the extra ``sr-core[lora]``.

    y = W x + (ALPHA / rank) B A x        W stays as it is; A (rank x in) and B (out x rank) are trained

Every linear layer of the decoder has them; embeddings and output layer do not. B starts at 0, so the policy starts as
the model was. Adapters of a bfloat16 model are float32. They are part of the forward pass as it is, not merged, so
whatever computes with the model computes with them. Left out: dropout (the sampler and the update must agree), DoRA.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sr_core.errors import PolicyError

__all__ = ["ALPHA", "CONFIG", "add_adapters", "base_of", "load_adapters"]

ALPHA = 32
CONFIG = "adapter_config.json"


def add_adapters(model: Any, rank: int) -> Any:
    """``model`` with fresh adapters of ``rank``, the same ones at every call; only they are trained."""
    peft = _peft()
    inside = {id(module) for module in model.get_decoder().modules()}
    outside = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and id(m) not in inside]
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=ALPHA,
        target_modules="all-linear",
        exclude_modules=outside,
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name_or_path or None,
    )
    with torch.random.fork_rng():  # all processes of a run, and all runs from one model, start alike
        torch.manual_seed(0)
        return peft.get_peft_model(model, config)


def base_of(folder: Path) -> str | None:
    """The folder of the model that the adapters in ``folder`` belong to; None where there are none."""
    if not (folder / CONFIG).is_file():
        return None
    base = json.loads((folder / CONFIG).read_text()).get("base_model_name_or_path")
    if not base:
        raise PolicyError(
            f"{CONFIG} of {str(folder)!r} must name its model, it does not: "
            "set base_model_name_or_path to the model's folder"
        )
    return str(base)


def load_adapters(model: Any, folder: Path) -> Any:
    """``model`` with the adapters saved in ``folder``, to be trained further."""
    return _peft().PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise PolicyError(
            "policy.lora_rank needs the package peft, it is not installed: install sr-core[lora]"
        ) from error
    return peft
