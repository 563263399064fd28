"""Formats that test functions with code: HumanEval, MBPP, BigCodeBench and KodCode, as they are published."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row, Unusable, decoded, first_text, list_of, name_of, text_of
from sr_reward.task import AssertTests, Task


def humaneval(row: Row) -> Task:
    prompt, entry_point = text_of(row, "prompt"), text_of(row, "entry_point")
    test = text_of(row, "test")
    if not test.strip():
        raise Unusable("without tests")
    return Task(
        task_id=name_of(row, "task_id"),
        prompt=prompt,
        entry_point=entry_point,
        tests=AssertTests(code=f"{test}\n\ncheck({entry_point})\n"),
        reference=prompt + row.get("canonical_solution", ""),
        format="humaneval",
    )


def leetcode(row: Row) -> Task:
    """LeetCodeDataset: ``prompt`` holds imports and helpers, the tests call a method of ``Solution()``. The prompt of
    the task has all of it: helpers, description, and the beginning of the class."""
    owner, _, method = text_of(row, "entry_point").partition("().")
    helpers = text_of(row, "prompt").rstrip()
    return Task(
        task_id=name_of(row, "task_id", "question_id"),
        prompt=f"{helpers}\n\n{_quoted(text_of(row, 'problem_description'))}\n\n{text_of(row, 'starter_code')}",
        entry_point=owner,
        tests=AssertTests(code=f"{text_of(row, 'test')}\n\ncheck({owner}().{method})\n"),
        reference=f"{helpers}\n\n{first_text(row, 'completion')}",
        format="humaneval",
        tier=first_text(row, "difficulty").lower(),
    )


def _quoted(text: str) -> str:
    """A text as a literal of its own lines."""
    return '"""\n' + text.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + '\n"""'


def mbpp(row: Row) -> Task:
    """MBPP, sanitized or not, and EvalPlus' MBPP+ as a data set, which adds ``test`` to the asserts that are shown."""
    asserts = [line.replace("\r\n", "\n") for line in list_of(row, "test_list")]
    if not asserts:
        raise Unusable("without tests")
    reference = row.get("code", "").replace("\r\n", "\n")
    setup = (row.get("test_setup_code") or "").replace("\r\n", "\n")
    imports = "\n".join(row.get("test_imports") or [])
    tests = "\n".join([imports, setup, *asserts, first_text(row, "test")]) + "\n"
    return Task(
        task_id=name_of(row, "task_id"),
        prompt=text_of(row, "text" if "text" in row else "prompt"),
        entry_point=called_name(asserts, reference),
        tests=AssertTests(code=tests),
        reference=reference,
        prompt_is_code=False,
        format="mbpp",
    )


def bigcodebench(row: Row) -> Task:
    prompt = text_of(row, "complete_prompt")
    return Task(
        task_id=name_of(row, "task_id"),
        prompt=prompt,
        entry_point=text_of(row, "entry_point"),
        tests=AssertTests(code=text_of(row, "test"), cases=True),
        reference=prompt + row.get("canonical_solution", ""),
        format="bigcodebench",
    )


def kodcode(row: Row) -> Task:
    code = text_of(row, "test")
    if "pytest.fixture" in code:
        raise Unusable("whose tests need fixtures of pytest")
    if "def test" not in code:
        raise Unusable("without tests")
    info = decoded(row.get("test_info"), "test_info")
    first: Row = info[0] if isinstance(info, list) and info and isinstance(info[0], dict) else {}
    entry_point = first.get("function_name") or next(_taken_from_solution(code), "")
    if not entry_point:
        raise Unusable("whose tests name no function")
    return Task(
        task_id=name_of(row, "task_id", "question_id", "id"),
        prompt=text_of(row, "question"),
        entry_point=entry_point,
        tests=AssertTests(code=code, cases=True),
        reference=first_text(row, "solution"),
        prompt_is_code=False,
        format="kodcode",
        tier=first_text(row, "gpt_difficulty", "difficulty").lower(),
        starter=first.get("function_declaration") or "",
    )


def _taken_from_solution(code: str) -> Iterator[str]:
    """The names that tests import from the module ``solution``, or take from it."""
    for node in ast.walk(parsed(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "solution":
            yield from (alias.name for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "solution":
            yield node.attr


def called_name(asserts: list[str], reference: str) -> str:
    """The function under test: of the names that the asserts call, the last that the reference defines."""
    called = [
        node.func.id
        for node in ast.walk(parsed("\n".join(asserts)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    defined = [node.name for node in parsed(reference).body if isinstance(node, ast.FunctionDef)]
    both = [name for name in defined if name in called]
    if not both and not called:
        raise FormatError("test_list must call a function, got none")
    return both[-1] if both else called[0]


def parsed(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the published code has odd escapes
        return ast.parse(code)
