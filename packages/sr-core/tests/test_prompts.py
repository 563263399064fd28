"""Prompts of a policy, and completions that end at a stop text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from gradients import completion_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SIZE, LetterTask, make_policy
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast, Qwen2Config

from sr_core.config import SamplingConfig, TrainConfig
from sr_core.engine import Engine
from sr_core.errors import ConfigError, PolicyError
from sr_core.policy import Policy
from sr_core.policy.prompts import EncodedPrompt, continuation_ids, encode

TURNS = "{% for m in messages %}{{ m.content }}:{% endfor %}{% if add_generation_prompt %}j{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS
TASK = LetterTask("t", "abc", "a")


@dataclass(frozen=True)
class Told:
    """A prompter with given values."""

    text: str = ""
    messages: tuple[dict[str, str], ...] = ()
    prefill: str = ""
    stop: tuple[str, ...] = ()

    def __call__(self, task: LetterTask, *, chat: bool) -> Told:
        return replace(self, text=f"{task.prompt}:") if not chat else self


def chatting(template: str | None, prompt: str = "auto", prompter: Told | None = None) -> Policy:
    made = make_policy()
    made.tokenizer.chat_template = template
    return Policy(made.model, made.tokenizer, prompt=prompt, prompter=prompter)


def test_auto_asks_where_there_is_a_chat_template() -> None:
    assert chatting(None).prompt == "completion"
    assert chatting(TURNS).prompt == "chat"
    assert chatting(TURNS, "completion").prompt == "completion"
    with pytest.raises(PolicyError, match="needs a chat template"):
        chatting(None, "chat")


def test_without_a_prompter_the_tasks_prompt_stands_as_it_is() -> None:
    assert chatting(None).prompt_ids(TASK) == chatting(None).prompt_ids("abc")
    policy = chatting(TURNS)
    assert policy.tokenizer.decode(policy.prompt_ids(TASK)) == "abc:j"


def test_a_prefill_is_part_of_the_prompt_and_of_the_answer() -> None:
    policy = chatting(TURNS, prompter=Told(messages=({"role": "user", "content": "b"},), prefill="cd", stop=("i",)))
    (asked,) = policy.prompts([TASK])
    assert policy.tokenizer.decode(asked.ids) == "b:jcd"
    assert policy.answers([asked], [policy.tokenizer.encode("efighi")]) == ["cdef"]
    (other,) = policy.prompts([TASK], stop=["h"])
    assert policy.answers([other], [policy.tokenizer.encode("efighi")]) == ["cdefig"]


def test_a_template_without_a_system_role_gets_its_text_before_the_question() -> None:
    turns = ({"role": "system", "content": "a"}, {"role": "user", "content": "b"})
    policy = chatting(NO_SYSTEM, prompter=Told(messages=turns))
    assert policy.tokenizer.decode(policy.prompt_ids(TASK)).replace("\n", "").endswith("b:j")
    assert policy.tokenizer.decode(policy.prompt_ids(TASK)).startswith("a")


def test_a_chat_template_that_fails_is_named_with_the_way_out() -> None:
    failing = "{{ raise_exception('never') }}"
    with pytest.raises(PolicyError, match=r"chat template fails.*never.*'completion'"):
        chatting(failing)
    with pytest.raises(PolicyError, match=r"chat template fails"):
        chatting("{% for m in messages %}")
    turns = ({"role": "user", "content": "b"}, {"role": "tool", "content": "b"})
    failing = "{{ raise_exception('tool') if messages[-1].role == 'tool' }}" + TURNS
    policy = chatting(failing, prompter=Told(messages=turns))
    with pytest.raises(PolicyError, match="tool"):
        policy.prompts([TASK])


TWO_ENDS = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<end>.<eos>{% endif %}{% endfor %}"


def test_an_answer_ends_with_the_first_special_token_after_it() -> None:
    made = make_policy()
    made.tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    made.model.resize_token_embeddings(len(made.tokenizer))
    made.tokenizer.chat_template = TWO_ENDS
    assert Policy(made.model, made.tokenizer).eos_id == made.tokenizer.convert_tokens_to_ids("<end>") != 0


def test_a_template_that_leaves_out_the_question_is_refused_and_one_that_leaves_out_the_system_gets_it_before() -> None:
    with pytest.raises(PolicyError, match="leaves out what the user says"):
        chatting("{% if add_generation_prompt %}j{% endif %}")
    turns = ({"role": "system", "content": "a"}, {"role": "user", "content": "b"})
    policy = chatting(TURNS.replace("%}{{", "%}{% if m.role != 'system' %}{{", 1).replace(":{%", ":{% endif %}{%", 1))
    policy.prompter = Told(messages=turns)
    assert policy.tokenizer.decode(policy.prompt_ids(TASK)).replace(".", "").endswith("ab:j")


def spaced() -> Policy:
    """A policy whose tokenizer puts a space before a text and drops the first one of what it decodes, as Llama 2's."""
    made = make_policy(Qwen2Config(**{k: v for k, v in SIZE.items() if k != "head_dim"} | {"vocab_size": 32}))
    letters = {"<eos>": 0, "<pad>": 1, **{c: i + 2 for i, c in enumerate("▁abcdef\n(),:#")}}
    plain = Tokenizer(models.BPE(letters, [], unk_token="#"))
    plain.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    plain.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    end = {"eos_token": "<eos>", "pad_token": "<pad>", "clean_up_tokenization_spaces": True}
    return Policy(made.model, PreTrainedTokenizerFast(tokenizer_object=plain, **end))


@given(st.text("abcd \n(),", max_size=12))
@settings(deadline=None, max_examples=50)
def test_a_continuation_keeps_its_spaces_whatever_the_tokenizer(text: str) -> None:
    policy = SPACED
    assert policy.decode([continuation_ids(policy.tokenizer, text)]) == [text]
    asked = encode(policy.tokenizer, Told(text="a:", prefill=text), None)
    assert policy.decode([asked.ids[len(policy.prompt_ids("a:")) :]]) == [text]


SPACED = spaced()


def test_a_tokenizer_that_ends_every_text_leaves_a_prompt_open() -> None:
    policy = make_policy()
    open_ids = policy.prompt_ids("ab:")
    policy.tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 0)]
    )
    assert policy.tokenizer.encode("ab:")[-1] == policy.eos_id
    assert policy.prompt_ids("ab:") == open_ids


def test_tokens_without_an_embedding_are_named() -> None:
    policy = make_policy()
    policy.tokenizer.add_tokens(["zz"])
    assert policy.prompts([TASK])
    with pytest.raises(PolicyError, match=r"must be below 16.*prompt of task t has the token 16, 'zz'"):
        policy.prompts([replace(TASK, prompt="azz")])


def test_a_tokenizer_without_an_end_is_refused_with_the_way_out() -> None:
    made = make_policy()
    made.tokenizer.eos_token = None
    with pytest.raises(PolicyError, match=r"end-of-sequence.*tokenizer_config\.json"):
        Policy(made.model, made.tokenizer)


STOPS = (("ab", "c"), (), ("h", "ii", "jg"))


def drawn(policy: Policy, stops: tuple[tuple[str, ...], ...], batch_size: int = 512):
    prompts = [
        EncodedPrompt(ids=policy.prompt_ids(text), stop=stop)
        for text, stop in zip(("a:", "abcdefghij:", "ccc:"), stops, strict=True)
    ]
    sampling = SamplingConfig(temperature=1.3, max_new_tokens=14, batch_size=batch_size)
    return Engine(policy).sample(prompts, 5, sampling, torch.Generator().manual_seed(3))


def test_a_completion_ends_with_the_token_that_completes_a_stop(any_policy: Policy) -> None:
    free, stopped = drawn(any_policy, ((), (), ())), drawn(any_policy, STOPS)
    assert stopped.tokens == drawn(any_policy, STOPS, batch_size=5).tokens
    hits = 0
    for i, (tokens, whole) in enumerate(zip(stopped.tokens, free.tokens, strict=True)):
        stops = STOPS[i // 5]
        texts = [any_policy.decode([whole[: n + 1]])[0] for n in range(len(whole))]
        first = next((n for n, text in enumerate(texts) if any(stop in text for stop in stops)), None)
        assert tokens == (whole if first is None else whole[: first + 1])
        assert stopped.truncated[i] == (free.truncated[i] and first is None)
        hits += first is not None
    assert hits > 2


def test_tokens_of_a_stopped_completion_are_scored_as_they_were_drawn(policy: Policy) -> None:
    rollout = drawn(policy, STOPS)
    prompts = [p for p in rollout.prompts for _ in range(rollout.group_size)]
    with torch.no_grad():
        scores = completion_scores(policy, prompts, rollout.tokens, temperature=1.3)
    for i, values in enumerate(rollout.logprobs):
        assert len(values) == len(rollout.tokens[i])
        torch.testing.assert_close(scores.logprobs_NT[i][scores.mask_NT[i].bool()], values.clone())


def test_a_stop_of_many_tokens_is_found_wherever_the_tokens_cut_it() -> None:
    policy = Policy.load("pocket-rich")
    engine = Engine(policy)
    ids = policy.prompt_ids('def add_two(x):\n    """Return x plus 2."""\n')
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=16)
    free = engine.sample([ids], 4, sampling, torch.Generator().manual_seed(0))
    for stop in ("rn x", "    return x"):
        prompt = EncodedPrompt(ids=ids, stop=(stop,))
        rollout = engine.sample([prompt], 4, sampling, torch.Generator().manual_seed(0))
        answers = policy.answers([prompt], rollout.tokens)
        for text, answer, tokens in zip(policy.decode(free.tokens), answers, rollout.tokens, strict=True):
            assert answer == text.partition(stop)[0]
            assert stop not in policy.decode([tokens[:-1]])[0]


def test_at_temperature_zero_every_sample_is_the_likeliest(policy: Policy) -> None:
    ids = policy.prompt_ids("abc:")
    sampling = SamplingConfig(temperature=0, max_new_tokens=8)
    rollout = Engine(policy).sample([ids], 2, sampling, torch.Generator().manual_seed(0))
    assert rollout.tokens[0] == rollout.tokens[1]
    for n, token in enumerate(rollout.tokens[0]):
        with torch.no_grad():
            logits = policy.model(torch.tensor([ids + rollout.tokens[0][:n]])).logits[0, -1]
        assert int(logits.argmax()) == token
    with pytest.raises(ConfigError, match=r"sampling\.temperature must be above 0"):
        TrainConfig(sampling=sampling)


def test_with_a_generator_of_its_own_a_prompt_draws_the_same_among_any_others(policy: Policy) -> None:
    ids = [policy.prompt_ids(text) for text in ("a:", "bc:")]
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=8)
    both = Engine(policy).sample(ids, 3, sampling, [torch.Generator().manual_seed(n) for n in (1, 2)])
    alone = Engine(policy).sample(ids[1:], 3, sampling, [torch.Generator().manual_seed(2)])
    assert both.tokens[3:] == alone.tokens
