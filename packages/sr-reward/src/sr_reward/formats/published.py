"""The formats of HumanEval, MBPP, APPS, CodeContests and LiveCodeBench, as they are published."""

from __future__ import annotations

import ast
import base64
import io
import json
import pickle
import warnings
import zlib
from typing import Any, cast

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row, list_of, name_of, text_of
from sr_reward.task import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task, Tests

# Printed numbers: APPS' own grader compares them by numpy's allclose, that of LiveCodeBench as decimal numbers.
ABOUT, BY_VALUE = 1e-5, 1e-12


def humaneval(row: Row) -> Task:
    prompt, entry_point = text_of(row, "prompt"), text_of(row, "entry_point")
    return Task(
        task_id=name_of(row["task_id"]),
        prompt=prompt,
        entry_point=entry_point,
        tests=AssertTests(code=f"{text_of(row, 'test')}\n\ncheck({entry_point})\n"),
        reference=prompt + row.get("canonical_solution", ""),
    )


def mbpp(row: Row) -> Task:
    asserts = [line.replace("\r\n", "\n") for line in list_of(row, "test_list")]
    reference = row.get("code", "").replace("\r\n", "\n")
    setup = (row.get("test_setup_code") or "").replace("\r\n", "\n")
    imports = "\n".join(row.get("test_imports", []))
    return Task(
        task_id=name_of(row["task_id"]),
        prompt=text_of(row, "text" if "text" in row else "prompt"),
        entry_point=_called_name(asserts, reference),
        tests=AssertTests(code="\n".join([imports, setup, *asserts]) + "\n"),
        reference=reference,
        prompt_is_code=False,
    )


def _called_name(asserts: list[str], reference: str) -> str:
    """The function under test: of the names that the asserts call, the last that the reference defines."""
    called = [
        node.func.id
        for node in ast.walk(_parsed("\n".join(asserts)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    defined = [node.name for node in _parsed(reference).body if isinstance(node, ast.FunctionDef)]
    both = [name for name in defined if name in called]
    if not both and not called:
        raise FormatError("test_list must call a function, got none")
    return both[-1] if both else called[0]


def _parsed(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the published code has odd escapes
        return ast.parse(code)


def apps(row: Row) -> Task:
    cases = row["input_output"]
    cases = json.loads(cases) if isinstance(cases, str) else cases
    name = row.get("problem_id", row.get("id", row.get("task_id")))
    starter = row.get("starter_code") or ""
    question = row.get("question", row.get("prompt", ""))
    inputs, outputs = cases["inputs"], cases["outputs"]
    if len(inputs) != len(outputs):
        raise FormatError(f"inputs and outputs go in pairs, got {len(inputs)} and {len(outputs)}")
    entry_point = cases.get("fn_name") or ""
    tests: Tests
    if entry_point:
        # a published answer may stand in a list of its own
        tests = CallTests(
            cases=tuple(
                CallCase(args=tuple(args), expected=answer, accepted=_unwrapped(answer))
                for args, answer in zip(inputs, outputs, strict=True)
            ),
            exact_types=False,
        )
    else:
        tests = StdioTests(
            cases=tuple(
                StdioCase(stdin=_joined(given), stdout=_joined(answer))
                for given, answer in zip(inputs, outputs, strict=True)
            ),
            float_tolerance=ABOUT,
        )
    return Task(
        task_id=name_of(name),
        prompt=f"{question}\n{starter}",
        entry_point=entry_point,
        tests=tests,
        prompt_is_code=False,
    )


def _unwrapped(answer: Any) -> tuple[Any, ...]:
    return (answer[0],) if isinstance(answer, list) and len(answer) == 1 else ()


def _joined(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else text


def codecontests(row: Row) -> Task:
    cases = []
    for key in ("public_tests", "private_tests", "generated_tests"):
        group = row.get(key) or {"input": [], "output": []}
        pairs = zip(group["input"], group["output"], strict=True)
        cases += [StdioCase(stdin=given, stdout=answer) for given, answer in pairs]
    return Task(
        task_id=name_of(row.get("name", row.get("task_id"))),
        prompt=row["description"],
        entry_point="",
        tests=StdioTests(cases=tuple(cases), float_tolerance=ABOUT),
        prompt_is_code=False,
    )


def livecodebench(row: Row) -> Task:
    cases = json.loads(row["public_test_cases"]) + _private_cases(row.get("private_test_cases") or "[]")
    metadata = row.get("metadata") or "{}"
    entry_point = (json.loads(metadata) if isinstance(metadata, str) else metadata).get("func_name") or ""
    tests: Tests
    if entry_point:
        tests = CallTests(
            cases=tuple(
                CallCase(
                    args=tuple(json.loads(line) for line in case["input"].split("\n")),
                    expected=json.loads(case["output"]),
                )
                for case in cases
            ),
            exact_types=False,
        )
    else:
        tests = StdioTests(
            cases=tuple(StdioCase(stdin=case["input"], stdout=case["output"]) for case in cases),
            float_tolerance=BY_VALUE,
        )
    return Task(
        task_id=name_of(row.get("question_id", row.get("task_id"))),
        prompt=f"{row['question_content']}\n{row.get('starter_code') or ''}",
        entry_point=entry_point,
        tests=tests,
        prompt_is_code=False,
    )


class _TextOnly(pickle.Unpickler):
    """Reads a pickled text; a pickle that names any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise FormatError(
            f"private_test_cases must be text, got a pickle that loads {module}.{name}; give the cases as a JSON list"
        )


def _private_cases(text: str) -> list[Row]:
    if text.lstrip().startswith("["):
        return cast("list[Row]", json.loads(text))
    try:
        packed = zlib.decompress(base64.b64decode(text))
        return cast("list[Row]", json.loads(_TextOnly(io.BytesIO(packed)).load()))
    except (zlib.error, pickle.UnpicklingError, EOFError, IndexError) as error:
        raise FormatError(
            f"private_test_cases must be JSON or its published packing, got {error}; give the cases as a JSON list"
        ) from None
