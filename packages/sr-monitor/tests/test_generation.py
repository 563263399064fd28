"""Sampling for the callback from tiny real models: texts, conversations, engines."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from sr_monitor import MonitorError
from sr_monitor.integrations.transformers import CollapseGuardCallback, GenerationEvaluator

LETTERS = "abcdefgh"
TEMPLATE = (
    "{% for m in messages %}{{ 'g' if m.role == 'user' else 'h' }}{{ m.content }}"
    "{% if m.role == 'user' or not loop.last or not continue_final_message | default(false) %}e{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}h{% endif %}"
)


def tokenizer(**options: Any) -> Any:
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", *LETTERS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", **options)


def model() -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.Qwen2Config(vocab_size=10, num_key_value_heads=2, eos_token_id=1, pad_token_id=0, **sizes)
    return transformers.Qwen2ForCausalLM(config).eval()


class Judge:
    """``passed`` that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, task: int, texts: Sequence[str]) -> list[bool]:
        self.shown += texts
        return ["b" in text for text in texts]


def evaluator(**options: Any) -> GenerationEvaluator:
    given: dict[str, Any] = {"tokenizer": tokenizer(pad_token="<pad>"), "prompts": ["ab", "abc", "d"]}
    return GenerationEvaluator(**given | {"passed": Judge(), "max_new_tokens": 4, "temperature": 1.0} | options)


def test_a_tokenizer_without_a_padding_token_samples_the_same() -> None:
    counts = []
    for pad in ({"pad_token": "<pad>"}, {}):
        torch.manual_seed(0)
        counts.append(evaluator(tokenizer=tokenizer(**pad))(model(), 8, range(3)))
    assert counts[0] == counts[1]
    assert any(counts[0])


def test_conversations_are_rendered_by_the_chat_template() -> None:
    chat = tokenizer(pad_token="<pad>", chat_template=TEMPLATE)
    asked = [
        [{"role": "user", "content": "ab"}],
        [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}],
    ]
    made = evaluator(tokenizer=chat, prompts=asked)
    written = ["".join(chat.convert_ids_to_tokens(made._encoded(prompt))) for prompt in made.prompts]
    assert written == ["gabeh", "gcehd"]
    assert len(made(model(), 4, range(2))) == 2
    with pytest.raises(MonitorError, match="no chat template"):
        evaluator(prompts=asked)
    with pytest.raises(MonitorError, match="all texts or all conversations"):
        evaluator(tokenizer=chat, prompts=["ab", asked[0]])


@pytest.mark.parametrize(
    "bad",
    [{"prompts": []}, {"prompts": "ab"}, {"temperature": 0.0}, {"max_new_tokens": 0}, {"batch": 0}, {"engine": "x"}],
)
def test_settings_that_cannot_be_sampled_with_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(MonitorError, match="evaluator: "):
        evaluator(**bad)


def test_how_a_model_prefers_to_be_sampled_changes_no_evaluation() -> None:
    cuts = {"min_p": 0.9, "typical_p": 0.1, "top_k": 1, "top_p": 0.1, "epsilon_cutoff": 0.2, "top_h": 0.1}
    others = {"repetition_penalty": 20.0, "no_repeat_ngram_size": 1, "num_beams": 3, "guidance_scale": 3.0}
    shown = []
    for preferred in ({}, {**cuts, **others, "return_dict_in_generate": True}):
        judge, sampled = Judge(), model()
        sampled.generation_config.update(**preferred)
        before = sampled.generation_config.to_dict()
        torch.manual_seed(0)
        evaluator(passed=judge)(sampled, 8, range(3))
        assert sampled.generation_config.to_dict() == before
        shown.append(judge.shown)
    assert shown[0] == shown[1]


def test_completions_end_at_the_tokenizers_end_where_the_model_names_none() -> None:
    shown = []
    for own in (1, None, [1], [0]):
        judge, sampled = Judge(), model()
        sampled.generation_config.eos_token_id = own
        torch.manual_seed(0)
        evaluator(passed=judge)(sampled, 8, range(3))
        shown.append(judge.shown)
    assert shown[0] == shown[1] == shown[2]
    assert shown[3] != shown[0]  # the model's own end counts, too
    assert any(len(text.replace(" ", "")) < 4 for text in shown[0])


@pytest.mark.parametrize("batch", [7, 64])
def test_no_more_sequences_than_allowed_are_generated_at_once(batch: int) -> None:
    sampled, sizes, judge = model(), [], Judge()
    generate = sampled.generate

    def counted(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]) * given["num_return_sequences"])
        return generate(**given)

    sampled.generate = counted
    evaluator(batch=batch, passed=judge)(sampled, 10, range(3))
    assert sum(sizes) == len(judge.shown) == 30
    assert max(sizes) <= batch


def test_a_judge_that_takes_one_text_at_a_time_is_found_at_the_first_sample() -> None:
    with pytest.raises(MonitorError, match="one bool per completion, got 1 verdicts for 2"):
        evaluator(passed=lambda task, texts: [True])(model(), 1, [0])


def test_an_encoder_decoder_model_is_refused() -> None:
    config = transformers.T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    with pytest.raises(MonitorError, match="encoder-decoder"):
        evaluator()(transformers.T5ForConditionalGeneration(config), 2, [0])


def test_the_number_of_tasks_is_that_of_the_prompts() -> None:
    assert CollapseGuardCallback(evaluate=evaluator()).tasks == 3
    with pytest.raises(MonitorError, match="the evaluator has 3 prompts"):
        CollapseGuardCallback(evaluate=evaluator(), tasks=4)
    with pytest.raises(MonitorError, match="tasks is missing"):
        CollapseGuardCallback(evaluate=lambda model, samples, tasks: [0])


@pytest.mark.nightly  # takes half a minute
def test_generate_batch_samples_as_generate_does() -> None:
    trainer = SimpleNamespace(use_transformers_continuous_batching=True, continuous_batching_config=None)
    rates = []
    for used in (None, trainer):
        judge = Judge()
        made = evaluator(passed=judge)
        made.use(used)
        assert made.used_engine == ("model" if used is None else "generate_batch")
        counts = made(model(), 60, range(3))
        assert len(judge.shown) == 180
        assert all(len(text.replace(" ", "")) <= 4 for text in judge.shown)
        rates.append(sum(counts) / 180)
    assert rates[0] == pytest.approx(rates[1], abs=0.17)  # four standard errors


class Vllm:
    """The part of TRL's ``VLLMGeneration`` that is used: writes the last token of the prompt back."""

    mode, tensor_parallel_size = "colocate", 1
    temperature, top_p, top_k, min_p, repetition_penalty, max_completion_length = 0.3, 0.9, 5, None, 1.1, 99

    def __init__(self) -> None:
        self.generation_kwargs: dict[str, Any] = {"temperature": 0.1, "presence_penalty": 1.0, "stop": ["x"]}
        self.synced = 0
        self.used: list[float] = []

    def sync_weights(self) -> None:
        self.synced += 1

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any = None) -> Any:
        self.used.append(self.temperature)
        assert self.generation_kwargs == {"stop": ["x"]}  # they override all others
        assert prompts[::num_generations] == prompts[num_generations - 1 :: num_generations]
        return None, [[row[-1]] for row in prompts], None, None


def test_vllm_samples_the_weights_of_now_and_training_loads_its_own_again() -> None:
    vllm = Vllm()
    trainer = SimpleNamespace(
        use_vllm=True, vllm_generation=vllm, accelerator=SimpleNamespace(num_processes=2), _last_loaded_step=7
    )
    made = evaluator()
    made.use(trainer)
    assert made(None, 2, range(3)) == [2, 0, 0]
    assert (vllm.synced, vllm.used, vllm.temperature, trainer._last_loaded_step) == (1, [1.0], 0.3, -1)
    vllm.tensor_parallel_size = 2  # every process would have to take part
    assert made.used_engine == "model"
    kept_apart = evaluator(engine="model")
    kept_apart.use(trainer)
    assert kept_apart.used_engine == "model"


def test_the_installed_trl_has_what_the_vllm_engine_uses() -> None:
    generation = pytest.importorskip("trl.generation.vllm_generation", reason="needs TRL: uv sync --group bench")
    ours = inspect.signature(Vllm.generate).parameters
    theirs = inspect.signature(generation.VLLMGeneration.generate).parameters
    assert list(ours) == list(theirs)
    assert hasattr(generation.VLLMGeneration, "sync_weights")
    source = inspect.getsource(generation.VLLMGeneration.__init__)
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_completion_length",
                 "generation_kwargs"):  # fmt: skip
        assert f"self.{name} =" in source
