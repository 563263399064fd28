"""A task as the tokens that a policy continues: a text, or a conversation through the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from sr_core.errors import PolicyError
from sr_core.protocols import Prompt, Task

__all__ = [
    "EncodedPrompt",
    "continuation_ids",
    "conversation_ids",
    "encode",
    "end_of_turn",
    "hides_space",
    "plain_prompt",
]

# what a chat template raises that is wrong, or that refuses a conversation
_FAILURES = (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class PlainPrompt:
    """A task's own prompt, with nothing added."""

    text: str = ""
    messages: Sequence[Mapping[str, str]] = ()
    prefill: str = ""
    stop: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class EncodedPrompt:
    """``ids``: the tokens that the policy continues, those of ``prefill`` (how its answer begins) at their end.

    ``stop``: texts at which a completion ends.
    """

    ids: list[int]
    prefill: str = ""
    stop: tuple[str, ...] = ()

    def answer(self, sampled: str) -> str:
        """The text to grade, from what was sampled: after the prefill, before the first stop."""
        places = [place for place in (sampled.find(text) for text in self.stop) if place >= 0]
        return self.prefill + (sampled[: min(places)] if places else sampled)


def plain_prompt(task: Task, *, chat: bool) -> Prompt:
    """The prompter of a policy that was given none: the task's prompt as it is."""
    return PlainPrompt(messages=({"role": "user", "content": task.prompt},)) if chat else PlainPrompt(text=task.prompt)


def encode(tokenizer: Any, prompt: Prompt, stop: Sequence[str] | None) -> EncodedPrompt:
    """The tokens of a prompt; ``stop``, where given, in place of the prompt's own. Raises PolicyError."""
    ids = conversation_ids(tokenizer, prompt.messages) if prompt.messages else _text_ids(tokenizer, prompt.text)
    if prompt.prefill:
        ids += continuation_ids(tokenizer, prompt.prefill)
    if not ids:
        raise PolicyError("a prompt must have at least one token, this task's has none: give it a text")
    return EncodedPrompt(ids=ids, prefill=prompt.prefill, stop=tuple(prompt.stop if stop is None else stop))


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text to continue: some tokenizers end every text, which would leave nothing to continue."""
    ids = list(tokenizer.encode(text))
    ended = ids[-1:] == [tokenizer.eos_token_id] and not text.endswith(tokenizer.eos_token)
    return ids[:-1] if ended else ids


def hides_space(tokenizer: Any) -> list[int]:
    """Tokens before which a text must stand to keep its leading spaces; none where it keeps them by itself.

    Tokenizers of SentencePiece (Llama 2, Mistral, Phi-3) put a space before a text, and drop one from what they decode.
    """
    letter = list(tokenizer.encode("a", add_special_tokens=False))
    return letter if tokenizer.decode([*letter, *letter]) == "a a" else []


def continuation_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text that continues another, without a space of the tokenizer's own before it."""
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    if not hides_space(tokenizer):
        return ids
    before = list(tokenizer.encode("\n", add_special_tokens=False))
    after = list(tokenizer.encode("\n" + text, add_special_tokens=False))
    return after[len(before) :] if after[: len(before)] == before else ids


def conversation_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, answered: bool = False) -> list[int]:
    """Tokens of a conversation by the tokenizer's chat template, the answer's beginning after it unless ``answered``.

    A template that takes no system message (Gemma's) or leaves it out gets it at the head of the first user message.
    Raises PolicyError where the template fails, or leaves out another message.
    """
    text = conversation(tokenizer, messages, answered=answered)
    return list(tokenizer.encode(text, add_special_tokens=False))


def conversation(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, answered: bool = False) -> str:
    """The text of the same."""
    try:
        return _templated(tokenizer, messages, answered)
    except _FAILURES as error:
        first, *rest = messages
        if first["role"] != "system" or not rest:
            raise _failed(error) from error
    text = f"{first['content']}\n\n{rest[0]['content']}"
    try:
        return _templated(tokenizer, [{**rest[0], "content": text}, *rest[1:]], answered)
    except _FAILURES as error:
        raise _failed(error) from error


def _templated(tokenizer: Any, messages: Sequence[Mapping[str, str]], answered: bool) -> str:
    turns = [dict(message) for message in messages]
    text: str = tokenizer.apply_chat_template(turns, add_generation_prompt=not answered, tokenize=False)
    for message in messages:
        if message["content"].strip() not in text:
            raise ValueError(f"it leaves out what the {message['role']} says")
    return text


def _failed(error: Exception) -> PolicyError:
    return PolicyError(
        f"the tokenizer's chat template fails on a plain question ({' '.join(str(error).split())}): correct the "
        "template, or set policy.prompt to 'completion'"
    )


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an answer in the tokenizer's chat template; some models end a text with another.

    It is the first special token after the answer; some templates end the whole conversation with another.
    """
    if not tokenizer.chat_template:
        raise PolicyError("policy.prompt 'chat' needs a chat template, this tokenizer has none: use 'completion'")
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    after = conversation(tokenizer, messages, answered=True).rpartition("Because.")[2]
    ids = tokenizer.encode(after, add_special_tokens=False)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    end: int = tokenizer.eos_token_id
    return next((i for i in ids if i in special), end)
