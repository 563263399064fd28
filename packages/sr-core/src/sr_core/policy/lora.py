"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) through peft, which is the extra ``sr-core[lora]``.

    y = W x + (ALPHA / rank) B A x        W stays as it is; A (rank x in) and B (out x rank) are trained

Every linear layer of the decoder has them; embeddings and output layer do not. B starts at 0, so the policy starts as
the model was. Adapters of a bfloat16 model are float32. They are part of the forward pass as it is, not merged, so
whatever computes with the model computes with them. Left out: dropout (the sampler and the update must agree), DoRA.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sr_core.errors import PolicyError
from sr_core.policy.sources import KNOWN, locate

__all__ = ["ALPHA", "CONFIG", "SAVING", "add_adapters", "base_of", "load_adapters"]

ALPHA = 32
CONFIG = "adapter_config.json"
# left to itself, peft asks the hub for the model's vocabulary each time that adapters are saved
SAVING = {"save_embedding_layers": False}


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


def base_of(folder: Path) -> Path | None:
    """Where the model is that the adapters in ``folder`` belong to; None where there are none. Raises PolicyError where
    there is no such model here."""
    file = folder / CONFIG
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        base = found.get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise PolicyError(f"{str(file)!r} must hold a JSON object, it does not ({error}): get it again") from None
    if base in KNOWN:
        return locate(base)
    try:
        there = locate(str(base)) if base else None
    except PolicyError:
        there = None
    if there is None or (there / CONFIG).is_file():
        raise PolicyError(
            f"{str(file)!r} must name its model in base_model_name_or_path, and there is no model {base!r} here: set "
            "it to a Hugging Face folder, a .gguf file or a known name; models are not downloaded"
        )
    return there


def load_adapters(model: Any, folder: Path) -> Any:
    """``model`` with the adapters saved in ``folder``, to be trained further. Raises PolicyError where there are none,
    or where they are not those of ``model``."""
    peft = _peft()
    if not [*folder.glob("adapter_model.*")]:
        raise PolicyError(f"{str(folder)!r} holds no adapter weights (adapter_model.safetensors): get them again")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys", category=UserWarning)
        try:
            return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        except UserWarning as error:
            raise PolicyError(
                f"the adapters in {str(folder)!r} are not those of the model {model.name_or_path!r} "
                f"({' '.join(str(error).split())[:200]}): set base_model_name_or_path in {CONFIG} to theirs"
            ) from None


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise PolicyError("policy.lora_rank needs the package peft, it is not installed: pip install peft") from error
    return peft
