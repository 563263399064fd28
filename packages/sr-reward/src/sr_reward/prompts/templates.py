"""Templates of prompts, as data: those that the published harnesses use, and files of one's own.

A template has a text that a base model continues, with the way in which solved examples stand before it, and a
conversation for an instruct model, whose answer begins with a given text (an opening fence). What it holds in braces is
filled in:

| field | what |
|---|---|
| ``{prompt}`` | the task's prompt |
| ``{tests}`` | the asserts of its tests, one a line (MBPP) |
| ``{starter}`` | the code that an answer should begin with |
| ``{starter_section}`` | the same under LiveCodeBench's heading; empty where there is none |
| ``{frame}`` | a fenced block of the starter code, or of a comment in its place |
| ``{how}`` | whether an answer is a function or reads standard input, in APPS' words |
| ``{format}`` | the same in LiveCodeBench's words |
| ``{answer}`` | the solution, in an example |
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from sr_reward.errors import FormatError, TaskError
from sr_reward.task import StdioTests, Task

_BRACED = re.compile(r"{(\w+)}")
FIELDS = ("prompt", "tests", "starter", "starter_section", "frame", "how", "format", "answer")
# a fence that opens, "```python", does not end an answer: a model may begin its block anew (evalplus/provider/base.py)
_FENCE, _CLOSE = "```python\n", ("\n```\n",)
# where a base model has left the function: lm-evaluation-harness, lm_eval/tasks/humaneval/humaneval.yaml
_AFTER_FUNCTION = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


@dataclass(frozen=True, kw_only=True)
class Template:
    """``text`` is continued by a base model, after ``shots`` examples written as ``example``, until one of ``stop``.
    An instruct model is given ``system`` (where not empty) and ``user``; its answer begins with ``prefill`` and ends
    before one of ``chat_stop``. ``source`` says whose template it is."""

    text: str = "{prompt}"
    example: str = "{prompt}{answer}\n\n"
    stop: tuple[str, ...] = ()
    shots: int = 0
    system: str = ""
    user: str = "{prompt}"
    prefill: str = _FENCE
    chat_stop: tuple[str, ...] = _CLOSE
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("text", "example", "system", "user", "prefill", "source"):
            if not isinstance(getattr(self, name), str):
                raise TaskError(f"a template's {name} must be a text, got {getattr(self, name)!r:.60}")
        for name in ("stop", "chat_stop"):
            found = getattr(self, name)
            if not isinstance(found, tuple) or not all(isinstance(item, str) and item for item in found):
                raise TaskError(f"a template's {name} must be a list of texts, got {found!r:.60}")
        if not isinstance(self.shots, int) or isinstance(self.shots, bool) or self.shots < 0:
            raise TaskError(f"a template's shots must be a number of at least 0, got {self.shots!r}")
        if "{prompt}" not in self.text or "{prompt}" not in self.user:
            raise TaskError("a template's text and user must hold {prompt}, else no model sees the task; add it")
        for name in ("text", "system", "user", "prefill"):
            value = getattr(self, name)
            if "{answer}" in value:
                raise TaskError(f"a template's {name} must not hold {{answer}}, which only an example has; take it out")
            for found in set(_BRACED.findall(value)) - set(FIELDS):
                if close := get_close_matches(found, FIELDS, n=1, cutoff=0.8):
                    raise TaskError(f"a template's {name} holds {{{found}}}, no field: did you mean {{{close[0]}}}?")
        if "{answer}" not in self.example:
            raise TaskError("a template's example must hold {answer}, else no model sees how one is solved; add it")


# evalplus/codegen.py and evalplus/provider/utility.py
_SCRIPT_PLEASE = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{prompt}\n```\n"
)
_SCRIPT_BELOW = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    "```python\n"
)
_MBPP = (
    "You are an expert Python programmer, and here is your task: {prompt} Your code should pass these tests:\n\n"
    "{tests}\n[BEGIN]\n"
)
_APPS = "\nQUESTION:\n{prompt}\n{starter}\n{how}\nANSWER:\n"
_LIVECODEBENCH = "### Question\n{prompt}\n\n{starter_section}### Answer\n\n"
_EXPERT = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests."
)
_QUESTION = (
    "### Question:\n{prompt}\n\n### Format: {format}\n{frame}\n\n"
    "### Answer: (use the provided format with backticks)\n\n"
)

TEMPLATES = {
    "native": Template(
        user=(
            "Complete this Python function. Answer with one Python code block that holds the whole function.\n\n"
            "```python\n{prompt}\n```"
        ),
        source="sr-reward",
    ),
    "humaneval": Template(
        stop=_AFTER_FUNCTION,
        user=_SCRIPT_PLEASE,
        prefill=_SCRIPT_BELOW,
        source="text: openai/human-eval, stops: lm-evaluation-harness humaneval.yaml; chat: evalplus/codegen.py",
    ),
    "evalplus": Template(
        stop=("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ", "\nif __name__", "\nprint("),
        user=_SCRIPT_PLEASE,
        prefill=_SCRIPT_BELOW,
        source="evalplus/codegen.py, evalplus/provider/utility.py",
    ),
    "mbpp": Template(
        text=_MBPP,
        example=_MBPP + "{answer}\n[DONE]\n\n",
        stop=("[DONE]",),
        shots=3,
        user=(
            "You are an expert Python programmer, and here is your task:\n{prompt}\n"
            "Your code should pass these tests:\n{tests}"
        ),
        source="arXiv 2108.07732; lm-evaluation-harness mbpp.yaml and mbpp_instruct.yaml",
    ),
    "apps": Template(
        text=_APPS,
        example=_APPS + "{answer}\n",
        stop=("\nQUESTION:", "\nANSWER:"),
        shots=1,
        system=_EXPERT,
        user=_QUESTION,
        source="text: hendrycks/apps eval/generate_gpt_codes.py; chat: LiveCodeBench lcb_runner/prompts",
    ),
    "livecodebench": Template(
        text=_LIVECODEBENCH,
        example=_LIVECODEBENCH + "{answer}\n\n",
        stop=("\n###",),
        shots=1,
        system=_EXPERT,
        user=_QUESTION,
        source="LiveCodeBench lcb_runner/prompts/code_generation.py",
    ),
    "bigcodebench": Template(
        stop=_AFTER_FUNCTION,
        user=_SCRIPT_PLEASE,
        prefill=_SCRIPT_BELOW,
        source="evalplus/codegen.py, which BigCodeBench follows",
    ),
    "kodcode": Template(
        text="\nQUESTION:\n{prompt}\n{starter}\nANSWER:\n",
        example="\nQUESTION:\n{prompt}\n{starter}\nANSWER:\n{answer}\n",
        stop=("\nQUESTION:", "\nANSWER:"),
        shots=1,
        user="{prompt}\n\nBegin your answer with this code:\n{frame}",
        source="sr-reward",
    ),
}
_LIKE = {"taco": "apps", "codecontests": "apps", "deepcoder": "apps", "prime": "apps"}


def template_for(task: Task) -> Template:
    """The template of the task's format; a native task that is a text is put as APPS does."""
    if task.format == "native" and not task.prompt_is_code:
        return TEMPLATES["apps"]
    return TEMPLATES[_LIKE.get(task.format, task.format)]


def load_template(path: str | Path) -> Template:
    """A template from a file, TOML or JSON, whose keys are the fields of ``Template``; those left out keep their
    defaults. Raises FormatError for what is no template, with the nearest valid key."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else _toml(text)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}; give a template file (TOML or JSON)") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} must be TOML or JSON, got {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping):
        raise FormatError(f"{path} must hold a table, got {type(found).__name__}")
    known = [field.name for field in fields(Template)]
    for key in found:
        if key not in known:
            raise FormatError(f"{path}: a template has no field {key!r}; its fields are {', '.join(known)}")
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    try:
        return Template(**{"source": str(path), **made})
    except TaskError as error:
        raise FormatError(f"{path}: {error}") from None


def _toml(text: str) -> Any:
    return import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)


def how_to_answer(task: Task) -> str:
    """APPS' sentence on how a program is called."""
    return "Use Standard Input format" if isinstance(task.tests, StdioTests) else "Use Call-Based format"


def format_of_answer(task: Task) -> str:
    """LiveCodeBench's sentence on the same."""
    if task.starter or not isinstance(task.tests, StdioTests):
        return (
            "You will use the following starter code to write the solution to the problem and enclose your code within "
            "delimiters."
        )
    return (
        "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the "
        "sample inputs). Enclose your code within delimiters as follows."
    )
