"""The presets of the paper's models, on random weights of these architectures, scaled down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from sr_cli.assemble import make_policy
from sr_cli.config import RunConfig, load_config
from sr_core import CampaignTasks, Engine, Policy, Trainer, run_campaign
from sr_reward import CodeGrader
from sr_reward.testbed import load_testbed

SIZE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PRESETS = {"qwen2.5-3b": "<|im_end|>", "qwen2.5-7b": "<|im_end|>", "gemma-3-4b": "<end_of_turn>"}


def tokenizer(template: str, special: list[str], **named: str) -> PreTrainedTokenizerFast:
    """One token per byte, and the special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=plain, chat_template=template, **named)


def save(preset: str, folder: Path) -> None:
    """Random weights of the preset's architecture, as its publisher lays them out."""
    torch.manual_seed(0)
    if preset == "gemma-3-4b":  # published with a vision tower, and with another end of text than of turns
        words = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
        tokens = tokenizer(GEMMA, words, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
        text = {**SIZE, "vocab_size": len(tokens), "head_dim": 8, "sliding_window": 64}
        text |= {"layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 8}
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision |= {"image_size": 28, "patch_size": 14}
        config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        model: Any = AutoModelForImageTextToText.from_config(config)
    else:
        words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        tokens = tokenizer(QWEN, words, pad_token="<|endoftext|>", eos_token="<|im_end|>")
        tied = preset == "qwen2.5-3b"
        model = Qwen2ForCausalLM(Qwen2Config(**SIZE, vocab_size=len(tokens), tie_word_embeddings=tied))
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def configured(preset: str, folder: Path, *more: str) -> RunConfig:
    small = ["sampling.prompts=2", "sampling.group_size=4", "sampling.max_new_tokens=12", "campaign.steps=2"]
    small += ["evaluate.samples=2", f"policy.path={folder}", "policy.device=cpu"]
    return load_config(None, preset, [*small, *more])


@dataclass(frozen=True)
class Grade:
    reward: float
    outcome: str = "passed"


class EvenGrader:
    """Passes an answer of an even number of letters: random weights write no programs."""

    def grade(self, tasks: Any, texts: list[str]) -> list[Grade]:
        return [Grade(float(len(text) % 2 == 0)) for text in texts]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("settings", [(), ("policy.lora_rank=2", "policy.head_dtype=float32")])
def test_a_preset_trains_random_weights_of_its_architecture(
    preset: str, settings: tuple[str, ...], tmp_path: Path
) -> None:
    if settings:
        pytest.importorskip("peft", reason="adapters need peft: install sr-core[lora]")
    save(preset, tmp_path / "model")
    config = configured(preset, tmp_path / "model", *settings)
    policy = Policy.load(config.train.policy)
    assert Engine(policy).shares_prompts
    assert policy.tokenizer.convert_ids_to_tokens(policy.eos_id) == PRESETS[preset]
    tasks = load_testbed().train
    rows: list[dict[str, Any]] = []
    trainer = Trainer(policy, EvenGrader(), config.training(seed=0))
    before = trainer.weights()
    assert not any("vision" in name for name in before)
    run_campaign(trainer, CampaignTasks(train=tasks[:4], heldout=tasks[4:6]), on_row=rows.append)
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(row["finite"] for row in rows)
    assert rows[1]["grad_norm"] > 0
    changed = [name for name, weight in trainer.weights().items() if not torch.equal(before[name], weight)]
    assert changed
    policy.save(tmp_path / "kept")
    assert Policy.load(tmp_path / "kept").size == policy.size


def test_the_presets_have_the_papers_hyperparameters() -> None:
    for preset in PRESETS:
        config = load_config(None, preset, [])
        train = config.train
        assert (train.algorithm.name, train.optim.lr, train.optim.warmup_steps) == ("reinforce", 1e-6, 0)
        assert (train.sampling.group_size, train.sampling.temperature, train.sampling.top_p) == (16, 0.7, 1.0)
        assert (train.campaign.count, train.campaign.steps) == (10, 20)
        assert (config.tasks.train, config.tasks.heldout) == (50, 30)
        assert (train.evaluate.samples, train.penalty.name) == (16, "none")


def test_a_chat_prompt_asks_for_a_program_and_the_answer_is_taken_out_of_its_fence(tmp_path: Path) -> None:
    save("qwen2.5-3b", tmp_path / "model")
    policy = make_policy(replace(configured("qwen2.5-3b", tmp_path / "model").train.policy, prompt="auto"))
    task = load_testbed().train[0]
    (asked,) = policy.prompts([task])
    text = policy.tokenizer.decode(asked.ids)
    assert text.startswith("<|im_start|>user\n")
    assert f"```python\n{task.prompt.strip()}\n```" in text
    assert text.endswith("<|im_start|>assistant\n```python\n")
    program = task.reference
    answers = [asked.answer(f"{program}\n```\nDone."), f"Sure.\n```python\n{program}\n```\nDone.", "Sure."]
    with CodeGrader(workers=1) as grader:
        grades = grader.grade([task] * 3, answers)
    assert [grade.outcome for grade in grades] == ["passed", "passed", "no_code"]
