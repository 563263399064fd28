"""Hugging Face folders that are damaged, not complete, or of a model that cannot be trained: refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_policy

from sr_core.errors import PolicyError
from sr_core.policy import Policy

UP = "model.layers.1.mlp.up_proj.weight"


def weights(**changes: torch.Tensor | None) -> Callable[[Path], None]:
    """Writes the folder's weights with ``changes`` (by names with ``__`` for ``.``); None leaves a tensor out."""

    def change(folder: Path) -> None:
        found: dict[str, torch.Tensor | None] = dict(load_file(folder / "model.safetensors"))
        found |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
        kept = {name: tensor for name, tensor in found.items() if tensor is not None}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def configured(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


FAULTS: dict[str, Callable[[Path], object]] = {
    f"lacks 1 tensors of its model, such as '{UP}'": weights(**{UP.replace(".", "__"): None}),
    "lacks .* tensors of its model": lambda folder: save_file(
        {"other." + n: w for n, w in load_file(folder / "model.safetensors").items()}, folder / "model.safetensors"
    ),
    "another shape than its config.json says": weights(**{UP.replace(".", "__"): torch.zeros(3, 3)}),
    "has no place for, such as 'model.layers.2": weights(model__layers__2__mlp__up_proj__weight=torch.zeros(3, 3)),
    "has no place for, such as 'model.layers.0.self_attn.o_proj.bias'": weights(
        model__layers__0__self_attn__o_proj__bias=torch.zeros(16)
    ),
    "a file is damaged or not complete": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:2000]
    ),
    "damaged or not complete, or": lambda folder: (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    ),
    "holds no tokenizer": without_tokenizer,
    "must be JSON": lambda folder: (folder / "config.json").write_text("{"),
    "architecture 'unheard-of', which": configured(model_type="unheard-of", auto_map={"AutoConfig": "a.B"}),
    "architecture 't5', which is no causal": configured(model_type="t5"),
    "quantized by 'gptq'": configured(quantization_config={"quant_method": "gptq", "bits": 4}),
    "quantized by 'fp8'": configured(quantization_config={"quant_method": "fp8"}),
}


@pytest.mark.parametrize("says", FAULTS)
def test_a_folder_with_a_fault_is_refused(tmp_path: Path, says: str) -> None:
    make_policy().save(tmp_path)
    FAULTS[says](tmp_path)
    with pytest.raises(PolicyError, match=says) as caught:
        Policy.load(tmp_path)
    assert len(str(caught.value)) < 700


def test_weights_in_shards_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    policy = make_policy()
    policy.tokenizer.save_pretrained(str(tmp_path))
    policy.model.save_pretrained(str(tmp_path), max_shard_size="4KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    loaded = Policy.load(tmp_path)
    for one, other in zip(policy.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(one, other)
    shards[1].unlink()
    with pytest.raises(PolicyError, match=shards[1].name):
        Policy.load(tmp_path)
