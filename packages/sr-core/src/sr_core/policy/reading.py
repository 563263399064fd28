"""Models and tokenizers from a Hugging Face folder or a GGUF file, complete or not at all.

transformers goes on where weights are missing (they stay random), where a tokenizer is missing (an empty one is made)
and where a GGUF file says something that it does not read. All of these are errors here.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sr_core.errors import PolicyError
from sr_core.policy.sources import INSTALL

__all__ = ["UNREADABLE", "read_folder", "read_gguf", "said"]

# What a damaged or unsupported file makes the readers of transformers, safetensors and gguf raise.
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    ImportError,
    struct.error,
    SafetensorError,
)
MOST_SAID = 300  # characters of another library's message
# buffers of older checkpoints, which are computed and not read
_COMPUTED = ("inv_freq", "masked_bias", "attn.bias", "attention.bias")


def said(error: BaseException) -> str:
    """The message of another library on one line, cut where it becomes a list of all models."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_SAID else text[:MOST_SAID] + "..."


def read_folder(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a Hugging Face folder.

    Raises PolicyError where it lacks a configuration, weights or a tokenizer, where weights are quantized or are not
    those of the configured model, and where the model needs code of its own; others of ``UNREADABLE`` for a damaged
    file.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as ARCHITECTURES

    config = _configuration(folder)
    if not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        raise PolicyError(f"policy.path {str(folder)!r} holds no weights (*.safetensors): the download is not complete")
    if (architecture := config.get("model_type")) not in ARCHITECTURES:
        raise PolicyError(
            f"policy.path {str(folder)!r} is of the architecture {architecture!r}, which is no causal language model "
            "that this transformers has; code that comes with a model is not run: upgrade transformers, or use another"
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise PolicyError(
            f"policy.path {str(folder)!r} holds weights quantized by {method!r}, which cannot be trained: give the "
            "folder of the model before it was quantized"
        )
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    models: Any = AutoModelForCausalLM  # typed as if it returned the model alone
    with _quietly():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **where)
        if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
            raise PolicyError(
                f"policy.path {str(folder)!r} holds no tokenizer (tokenizer.json or its like): copy that of the model "
                "into the folder"
            )
        model, loaded = models.from_pretrained(
            str(folder), **where, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    _check_complete(f"policy.path {str(folder)!r}", model, loaded)
    return model, tokenizer


def _configuration(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolicyError(
            f"policy.path {str(folder)!r} holds no config.json: give the folder of a Hugging Face model"
        ) from None
    except ValueError as error:
        raise PolicyError(f"config.json of policy.path {str(folder)!r} must be JSON, it is not ({error})") from None
    if not isinstance(config, dict):
        raise PolicyError(f"config.json of policy.path {str(folder)!r} must hold an object, got {config!r:.60}")
    return config


def _check_complete(source: str, model: Any, loaded: dict[str, Any]) -> None:
    """Raise PolicyError unless the weights that ``source`` holds are exactly those of the decoder of ``model``."""
    if missing := sorted(loaded["missing_keys"]):
        raise PolicyError(
            f"{source} lacks {len(missing)} tensors of its model, such as {missing[0]!r}: they would be left random; "
            "get the whole model"
        )
    if unlike := sorted(loaded["mismatched_keys"]):
        name, found, wanted = unlike[0]
        raise PolicyError(
            f"{source} holds weights of another shape than its config.json says: {name!r} has {tuple(found)}, "
            f"{tuple(wanted)} is wanted; get both from one model"
        )
    layers = {found[0] for name in model.state_dict() if (found := re.match(r".*?\.(?=\d+\.)", name))}
    known = tuple(layers)
    extra = [n for n in sorted(loaded["unexpected_keys"]) if n.startswith(known) and not n.endswith(_COMPUTED)]
    if extra:
        raise PolicyError(
            f"{source} holds {len(extra)} tensors that its config.json has no place for, such as {extra[0]!r}: it "
            "would be another model without them; get both from one model"
        )


def read_gguf(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, dequantized to ordinary weights of ``dtype``.

    Raises PolicyError for a file that is cut off, of an architecture that transformers does not read, that lacks
    tensors of its model (they would be left random), or that says what transformers does not read from it.
    """
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise PolicyError(f"{str(file)!r} is not a GGUF file: its first bytes are not 'GGUF'")
    if importlib.util.find_spec("gguf") is None:
        raise PolicyError(f"a GGUF file needs the package gguf: pip install gguf, or run `{INSTALL}`")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    models: Any = AutoModelForCausalLM
    try:
        with _quietly():
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **where)
            model, loaded = models.from_pretrained(str(file.parent), **where, dtype=dtype, output_loading_info=True)
            unread = _unread(file, model)
    except UNREADABLE as error:
        raise PolicyError(
            f"the GGUF file {str(file)!r} cannot be read ({said(error)}): it may be cut off, or of an architecture "
            "that transformers does not read from GGUF"
        ) from error
    _check_complete(f"the GGUF file {str(file)!r}", model, loaded)
    if unread:
        raise PolicyError(
            f"the GGUF file {str(file)!r} holds what transformers does not read from it ({', '.join(unread)}), so it "
            "would be another model: give the Hugging Face folder of the model"
        )
    # these are ordinary weights now; marked as quantized, they could not be saved
    for owner, name in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.is_quantized = False
    return model, tokenizer


def _unread(file: Path, model: Any) -> list[str]:
    """What the file says of the computation and ``model`` does not have: metadata, and numbers of its tensors."""
    from gguf import GGUFReader

    reader = GGUFReader(str(file))
    values = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items()}
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    heads = getattr(config, "num_attention_heads", None)
    size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    ours = {
        "rope.freq_base": rope.get("rope_theta"),
        "rope.dimension_count": size and int(size * share),
        "attention.key_length": size,
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "rope.scaling.type": {"default": "none"}.get(rope.get("rope_type"), rope.get("rope_type")),
    }
    unread = [f"{key} {values[key]}" for key, own in ours.items() if key in values and not _same(values[key], own)]
    surplus = sum(int(tensor.n_elements) for tensor in reader.tensors) - sum(p.numel() for p in model.parameters())
    factors = [tensor.name for tensor in reader.tensors if tensor.name.startswith(("rope_freqs", "rope_factors"))]
    if surplus > 0:
        unread.append(", ".join(factors) or f"{surplus} numbers of its tensors")
    return unread


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-4)
    return bool(one == other)


@contextmanager
def _quietly() -> Iterator[None]:
    """Within it transformers draws no progress bars and reports nothing below an error: what matters is checked."""
    from transformers.utils import logging as library

    logging: Any = library  # it is not typed
    was_on, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if was_on:
            logging.enable_progress_bar()
