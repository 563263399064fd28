"""Formats of contest problems: APPS, TACO, CodeContests, LiveCodeBench, DeepCoder and PRIME, as they are published."""

from __future__ import annotations

import ast
import base64
import io
import json
import pickle
import zlib
from typing import Any, cast

from sr_reward.errors import FormatError
from sr_reward.formats.contest_tests import NO_TESTS, contest_tests, recorded_tests
from sr_reward.formats.fields import Row, Unusable, decoded, first_text, list_of, name_of
from sr_reward.task import StdioCase, StdioTests, Task

_PYTHON = ("python", "python3", "py")


def apps(row: Row) -> Task:
    """APPS, and TACO, which has the same fields and more."""
    published = "taco" if "raw_tags" in row or "skill_types" in row else "apps"
    entry_point, tests, format = contest_tests(row["input_output"] or None, "", format=published)
    return Task(
        task_id=name_of(row, "task_id", "problem_id", "id", "name"),
        prompt=first_text(row, "question", "prompt"),
        entry_point=entry_point,
        tests=tests,
        reference=_first_solution(row),
        prompt_is_code=False,
        format=format,
        starter=row.get("starter_code") or "",
        tier=first_text(row, "difficulty").lower(),
    )


def codecontests(row: Row) -> Task:
    cases = []
    for key in ("public_tests", "private_tests", "generated_tests"):
        group = decoded(row.get(key), key) or []
        if isinstance(group, dict):
            group = [
                {"input": given, "output": answer}
                for given, answer in zip(group["input"], group["output"], strict=True)
            ]
        cases += [StdioCase(stdin=case["input"], stdout=case["output"]) for case in group]
    if not cases:
        raise Unusable(NO_TESTS)
    return Task(
        task_id=name_of(row, "task_id", "name"),
        prompt=row["description"],
        entry_point="",
        tests=StdioTests(cases=tuple(cases), rule="codecontests"),
        reference=_python3_solution(row),
        prompt_is_code=False,
        format="codecontests",
    )


def codeforces(row: Row) -> Task:
    """open-r1's Codeforces: problems of standard input whose official tests decide by comparison."""
    if row.get("interaction_format"):
        raise Unusable("that are interactive")
    if row.get("input_mode") == "file":
        raise Unusable("whose programs read and write files")
    if row.get("generated_checker"):
        raise Unusable("whose answers need a checker of their own")
    cases = [StdioCase(stdin=case["input"], stdout=case["output"]) for case in row["official_tests"] or []]
    if not cases:
        raise Unusable(NO_TESTS)
    parts = [("", row["description"]), ("Input", row.get("input_format")), ("Output", row.get("output_format"))]
    for example in row.get("examples") or []:
        parts += [("Example input", example["input"]), ("Example output", example["output"])]
    return Task(
        task_id=name_of(row, "task_id", "id"),
        prompt="\n\n".join(f"{head}\n\n{text}".strip() for head, text in parts if text),
        entry_point="",
        tests=StdioTests(cases=tuple(cases), rule="codecontests"),
        prompt_is_code=False,
        format="codecontests",
        tier=name_of(row, "rating"),
    )


def livecodebench(row: Row) -> Task:
    cases = [*_listed(row.get("public_test_cases")), *_listed(row.get("private_test_cases"))]
    metadata = decoded(row.get("metadata") or {}, "metadata")
    entry_point, tests = recorded_tests(cases, metadata.get("func_name") or "", rule="livecodebench")
    return Task(
        task_id=name_of(row, "task_id", "question_id"),
        prompt=row["question_content"],
        entry_point=entry_point,
        tests=tests,
        prompt_is_code=False,
        format="livecodebench",
        starter=row.get("starter_code") or "",
        tier=first_text(row, "difficulty").lower(),
    )


def deepcoder(row: Row) -> Task:
    """Rows of DeepCoder: ``problem`` and ``tests``, a list of records or a pair of lists, mostly as JSON text."""
    metadata = decoded(row.get("metadata") or {}, "metadata")
    named = metadata.get("func_name") if isinstance(metadata, dict) else None
    entry_point, tests, format = contest_tests(row["tests"], named or "", format="deepcoder")
    return Task(
        task_id=name_of(row, "task_id", "problem_id", "id"),
        prompt=first_text(row, "problem", "question", "prompt"),
        entry_point=entry_point,
        tests=tests,
        reference=_first_solution(row),
        prompt_is_code=False,
        format=format,
        starter=row.get("starter_code") or "",
    )


def prime(row: Row) -> Task:
    """Rows with their tests under a verifier: verl's ``reward_model.ground_truth`` (PRIME, DeepCoder) and
    PrimeIntellect's ``verification_info`` (SYNTHETIC-1, INTELLECT-2, open-r1). Such files hold problems of mathematics
    and of other languages, too."""
    held = row.get("reward_model")
    found = _literal(held.get("ground_truth") if isinstance(held, dict) else row["verification_info"])
    if isinstance(found, dict) and str(found.get("language") or "python").lower() not in _PYTHON:
        raise Unusable("whose programs are not Python")
    named = (found.get("fn_name") or "") if isinstance(found, dict) else ""
    if isinstance(found, dict) and "test_cases" in found:
        found = _literal(found["test_cases"])
    if not _holds_tests(found):
        raise Unusable("whose ground truth holds no tests of programs")
    entry_point, tests, format = contest_tests(found, named, format="prime")
    prompt = row["prompt"]
    if isinstance(prompt, list):  # a conversation: what the user says
        prompt = "\n\n".join(turn["content"] for turn in prompt if turn.get("role") == "user")
    extra = row.get("extra_info")
    index = extra.get("index") if isinstance(extra, dict) else None
    return Task(
        task_id=name_of(row, "task_id", "problem_id", "id") or (f"prime/{index}" if index is not None else ""),
        prompt=prompt,
        entry_point=entry_point,
        tests=tests,
        reference=first_text(row, "gold_standard_solution"),
        prompt_is_code=False,
        format=format,
    )


def _literal(text: Any) -> Any:
    """What a verifier is given: data, or its text, as JSON or (SYNTHETIC-1) as a Python literal; None for prose."""
    if not isinstance(text, str):
        return text
    try:
        return decoded(text, "the tests")
    except FormatError:
        pass
    try:
        return ast.literal_eval(text) if text.lstrip().startswith(("{", "[")) else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _holds_tests(found: Any) -> bool:
    if isinstance(found, list):
        return bool(found) and all(isinstance(case, dict) and "input" in case for case in found)
    return isinstance(found, dict) and "inputs" in found


def _first_solution(row: Row) -> str:
    found = row.get("solutions") or ""
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            return ""
    return found[0] if isinstance(found, list) and found and isinstance(found[0], str) else ""


def _python3_solution(row: Row) -> str:
    """The first solution in Python 3 of CodeContests' ``solutions``: languages by number (3) or name, and programs."""
    found = decoded(row.get("solutions"), "solutions")
    if not isinstance(found, dict):
        return ""
    pairs = zip(list_of(found, "language", []), list_of(found, "solution", []), strict=False)
    return next((text for language, text in pairs if language in (3, "PYTHON3") and isinstance(text, str)), "")


class _TextOnly(pickle.Unpickler):
    """Reads a pickled text; a pickle that names any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise FormatError(
            f"private_test_cases must be text, got a pickle that loads {module}.{name}; give the cases as a JSON list"
        )


def _listed(found: Any) -> list[Row]:
    """Test cases: a list, its JSON, or the packing in which LiveCodeBench publishes the private ones."""
    if not found:
        return []
    if not isinstance(found, str):
        return list_of({"test cases": found}, "test cases")
    if found.lstrip().startswith("["):
        return cast("list[Row]", decoded(found, "test cases"))
    try:
        packed = zlib.decompress(base64.b64decode(found))
        return cast("list[Row]", json.loads(_TextOnly(io.BytesIO(packed)).load()))
    except (ValueError, zlib.error, pickle.UnpicklingError, EOFError, IndexError) as error:
        raise FormatError(
            f"private_test_cases must be JSON or its published packing, got {error}; give the cases as a JSON list"
        ) from None
