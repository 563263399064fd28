"""Formats of contest problems: APPS, TACO, CodeContests, LiveCodeBench, DeepCoder and PRIME, as they are published."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib
from collections.abc import Sequence
from typing import Any, cast

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row, Unusable, decoded, first_text, list_of, name_of
from sr_reward.task import CallCase, CallTests, StdioCase, StdioTests, Task, Tests

NO_TESTS = "without tests"


def apps(row: Row) -> Task:
    """APPS, and TACO, which has the same fields and more."""
    found = decoded(row["input_output"] or None, "input_output")
    return Task(
        task_id=name_of(row, "problem_id", "id", "task_id", "name"),
        prompt=first_text(row, "question", "prompt"),
        entry_point=(found or {}).get("fn_name") or "",
        tests=paired_tests(found, rule="apps"),
        reference=_first_solution(row),
        prompt_is_code=False,
        format="taco" if "raw_tags" in row or "skill_types" in row else "apps",
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
        task_id=name_of(row, "name", "task_id"),
        prompt=row["description"],
        entry_point="",
        tests=StdioTests(cases=tuple(cases), rule="codecontests"),
        reference=_python3_solution(row),
        prompt_is_code=False,
        format="codecontests",
    )


def livecodebench(row: Row) -> Task:
    cases = [*_listed(row.get("public_test_cases")), *_listed(row.get("private_test_cases"))]
    metadata = decoded(row.get("metadata") or {}, "metadata")
    entry_point, tests = recorded_tests(cases, metadata.get("func_name") or "", rule="livecodebench")
    return Task(
        task_id=name_of(row, "question_id", "task_id"),
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
    tests = decoded(row["tests"], "tests")
    metadata = decoded(row.get("metadata") or {}, "metadata")
    format = "deepcoder"
    if isinstance(tests, dict):
        entry_point, built = tests.get("fn_name") or "", paired_tests(tests, rule="apps")
    else:
        if any("testtype" in case for case in tests or []):
            format = "livecodebench"  # the rows that come from there
        named = metadata.get("func_name") if isinstance(metadata, dict) else None
        rule = "livecodebench" if format == "livecodebench" else "apps"
        entry_point, built = recorded_tests(tests or [], named or "", rule=rule)
    return Task(
        task_id=name_of(row, "task_id", "problem_id", "id"),
        prompt=first_text(row, "problem", "question", "prompt"),
        entry_point=entry_point,
        tests=built,
        reference=_first_solution(row),
        prompt_is_code=False,
        format=format,
        starter=row.get("starter_code") or "",
    )


def prime(row: Row) -> Task:
    """Rows with their tests under a verifier: PRIME's ``reward_model.ground_truth`` and PrimeIntellect's
    ``verification_info``."""
    held = row.get("reward_model")
    found = decoded(held.get("ground_truth") if isinstance(held, dict) else row["verification_info"], "the tests")
    if not isinstance(found, dict) or not ("inputs" in found or "test_cases" in found):
        raise Unusable("whose ground truth holds no tests of programs")
    if "test_cases" in found:
        entry_point, tests = recorded_tests(found["test_cases"], "", rule="apps")
    else:
        entry_point, tests = found.get("fn_name") or "", paired_tests(found, rule="apps")
    prompt = row["prompt"]
    if isinstance(prompt, list):  # a conversation: what the user says
        prompt = "\n\n".join(turn["content"] for turn in prompt if turn.get("role") == "user")
    extra = row.get("extra_info")
    index = extra.get("index") if isinstance(extra, dict) else None
    return Task(
        task_id=name_of(row, "problem_id", "task_id", "id") or (f"prime/{index}" if index is not None else ""),
        prompt=prompt,
        entry_point=entry_point,
        tests=tests,
        reference=first_text(row, "gold_standard_solution"),
        prompt_is_code=False,
        format="prime",
    )


def paired_tests(found: Any, *, rule: str) -> Tests:
    """Tests written as two lists, ``inputs`` and ``outputs``, and ``fn_name`` where they are calls."""
    if not found or not found.get("inputs"):
        raise Unusable(NO_TESTS)
    inputs, outputs = found["inputs"], found["outputs"]
    if len(inputs) != len(outputs):
        raise FormatError(f"inputs and outputs go in pairs, got {len(inputs)} and {len(outputs)}")
    if not found.get("fn_name"):
        cases = tuple(
            StdioCase(stdin=_joined(given), stdout=_joined(answer))
            for given, answer in zip(inputs, outputs, strict=True)
        )
        return StdioTests(cases=cases, rule=rule)
    calls = [_apps_call(given, answer) for given, answer in zip(inputs, outputs, strict=True)]
    return CallTests(cases=tuple(calls), exact_types=False)


def recorded_tests(cases: Sequence[Row], entry_point: str, *, rule: str) -> tuple[str, Tests]:
    """The entry point and the tests written as records: ``input``, ``output``, and what kind they are."""
    if not cases:
        raise Unusable(NO_TESTS)
    if not entry_point:
        entry_point = cases[0].get("fn_name") or ""
    if not entry_point and cases[0].get("testtype") == "functional":
        entry_point = (decoded(cases[0].get("metadata") or {}, "metadata") or {}).get("func_name") or ""
    if not entry_point:
        texts = [(case["input"], case["output"]) for case in cases]
        return "", StdioTests(
            cases=tuple(StdioCase(stdin=_joined(given), stdout=_joined(answer)) for given, answer in texts), rule=rule
        )
    if rule == "livecodebench":
        calls = [
            CallCase(args=tuple(_lines_of_json(case["input"])), expected=json.loads(case["output"])) for case in cases
        ]
    else:
        calls = [_apps_call(case["input"], case["output"]) for case in cases]
    return entry_point, CallTests(cases=tuple(calls), exact_types=False)


def _apps_call(given: Any, answer: Any) -> CallCase:
    """A call as APPS' grader has it: JSON made the keys of dicts texts, which are whole numbers again where all of
    them can be; an answer may stand in a list of its own."""
    args = _lines_of_json(given) if isinstance(given, str) else list(given)
    if isinstance(given, str):
        answer = decoded(answer, "an output")
    whole = _with_whole_keys(answer)
    accepted: list[Any] = []
    if isinstance(answer, dict):
        accepted = [[whole]]
    elif isinstance(answer, list) and len(answer) == 1:
        accepted = [whole[0]]
    elif whole != answer:
        accepted = [answer]
    return CallCase(args=tuple(map(_with_whole_keys, args)), expected=whole, accepted=tuple(accepted))


def _with_whole_keys(found: Any) -> Any:
    """A dict, or each dict of a list, with whole numbers for keys where all of them can be."""
    if isinstance(found, list):
        return [_with_whole_keys(item) if isinstance(item, dict) else item for item in found]
    if not isinstance(found, dict):
        return found
    try:
        return {int(key): value for key, value in found.items()}
    except ValueError:
        return found


def _lines_of_json(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _joined(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else text


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
