"""A task as a prompt: the template of its format, filled in, after solved examples."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sr_reward.errors import TaskError
from sr_reward.prompts.shots import Shot, shots_for
from sr_reward.prompts.templates import FIELDS, Template, format_of_answer, how_to_answer, template_for
from sr_reward.task import AssertTests, StdioTests, Task

STYLES = ("completion", "chat")
Style = Literal["completion", "chat"]
_PLACE = re.compile("{(" + "|".join(FIELDS) + ")}")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a model is given, as plain values.

    ``text``: what a base model continues, empty for a conversation. ``messages``: the conversation, ``{"role",
    "content"}`` each. ``prefill``: how the model's answer begins, part of the answer that is graded. ``stop``: texts
    before which an answer ends.
    """

    text: str = ""
    messages: tuple[Mapping[str, str], ...] = ()
    prefill: str = ""
    stop: tuple[str, ...] = ()

    def answer(self, sampled: str) -> str:
        """The text to grade, from what the model wrote: it begins with the prefill and ends before the first stop."""
        places = [place for place in (sampled.find(text) for text in self.stop) if place >= 0]
        return self.prefill + (sampled[: min(places)] if places else sampled)


@dataclass(frozen=True, kw_only=True)
class Prompter:
    """Renders tasks alike: ``template`` in place of each format's own, ``shots`` examples before a text to continue."""

    template: Template | None = None
    shots: int | None = None

    def __call__(self, task: Task, *, chat: bool) -> Prompt:
        """The task as a conversation, or as a text to continue."""
        return render(task, "chat" if chat else "completion", shots=self.shots, template=self.template)


def render(
    task: Task,
    style: Style = "completion",
    *,
    shots: int | Sequence[Shot] | None = None,
    template: Template | None = None,
) -> Prompt:
    """The prompt of a task. ``shots``: how many of the format's examples stand before it (None: as many as its template
    says; a conversation has none), or the examples themselves. Raises TaskError."""
    if style not in STYLES:
        raise TaskError(f"a prompt's style must be one of {', '.join(STYLES)}, got {style!r}")
    template = template or template_for(task)
    values = _values(task)
    if style == "chat":
        return _conversation(template, values)
    wanted = template.shots if shots is None else shots
    examples = shots_for(task, wanted) if isinstance(wanted, int) else wanted
    before = "".join(_fill(template.example, shot.values()) for shot in examples)
    return Prompt(text=before + _fill(template.text, values), stop=template.stop)


def _conversation(template: Template, values: Mapping[str, str]) -> Prompt:
    values = {**values, "prompt": values["prompt"].strip()}  # as evalplus/codegen.py; what is continued keeps its end
    system = [{"role": "system", "content": _fill(template.system, values)}] if template.system else []
    user = {"role": "user", "content": _fill(template.user, values)}
    return Prompt(messages=(*system, user), prefill=_fill(template.prefill, values), stop=template.chat_stop)


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda found: values.get(found[1], ""), text)


def _values(task: Task) -> dict[str, str]:
    starter = task.starter.rstrip() or _signature(task)
    return {
        "prompt": task.prompt,
        "tests": "\n".join(_asserts(task)),
        "starter": starter,
        "starter_section": f"### Starter Code\n{starter}\n\n" if starter else "",
        "frame": f"```python\n{starter or '# YOUR CODE HERE'}\n```",
        "how": how_to_answer(task),
        "format": format_of_answer(task),
    }


def _signature(task: Task) -> str:
    """For a function that a text asks for without a starter: its name, which no model could know."""
    if task.prompt_is_code or isinstance(task.tests, StdioTests) or not task.entry_point:
        return ""
    owner, _, method = task.entry_point.rpartition(".")
    return f"class {owner}:\n    def {method}(self, *args):" if owner else f"def {method}(*args):"


def _asserts(task: Task) -> list[str]:
    if not isinstance(task.tests, AssertTests):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # published tests have odd escapes
        tree = ast.parse(task.tests.code)
    found = [ast.get_source_segment(task.tests.code, node) for node in tree.body if isinstance(node, ast.Assert)]
    return [text for text in found if text]
