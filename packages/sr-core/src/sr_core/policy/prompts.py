"""A task as the tokens that a policy continues: a text, or a conversation through the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from sr_core.errors import PolicyError
from sr_core.protocols import Prompt, Task

__all__ = ["EncodedPrompt", "conversation_ids", "encode", "end_of_turn", "plain_prompt"]

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
    ids = conversation_ids(tokenizer, prompt.messages) if prompt.messages else list(tokenizer.encode(prompt.text))
    if prompt.prefill:
        ids += tokenizer.encode(prompt.prefill, add_special_tokens=False)
    if not ids:
        raise PolicyError("a prompt must have at least one token, this task's has none: give it a text")
    return EncodedPrompt(ids=ids, prefill=prompt.prefill, stop=tuple(prompt.stop if stop is None else stop))


def conversation_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, answered: bool = False) -> list[int]:
    """Tokens of a conversation by the tokenizer's chat template, the answer's beginning after it unless ``answered``.

    A template that takes no system message (Gemma's) gets it at the head of the first user message. Raises PolicyError
    where the template fails.
    """
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


def _templated(tokenizer: Any, messages: Sequence[Mapping[str, str]], answered: bool) -> list[int]:
    turns = [dict(message) for message in messages]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=not answered, return_dict=False))


def _failed(error: Exception) -> PolicyError:
    return PolicyError(
        f"the tokenizer's chat template fails on a plain question ({' '.join(str(error).split())}): correct the "
        "template, or set policy.prompt to 'completion'"
    )


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an answer in the tokenizer's chat template; some models end a text with another.

    It is the last special token of an answered conversation.
    """
    if not tokenizer.chat_template:
        raise PolicyError("policy.prompt 'chat' needs a chat template, this tokenizer has none: use 'completion'")
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    ids = conversation_ids(tokenizer, messages, answered=True)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    end: int = tokenizer.eos_token_id
    return next((i for i in reversed(ids) if i in special), end)
