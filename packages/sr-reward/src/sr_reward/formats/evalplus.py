"""EvalPlus' own files (HumanEvalPlus.jsonl, MbppPlus.jsonl): inputs, and a reference that says what is right.

The tests run the reference beside each call, in the judge, and compare as EvalPlus' grader does (``evalplus/eval``):
equal, or floats within ``atol``, or by the few exceptions that it makes for single tasks of MBPP. Its limit of time per
input, a multiple of the reference's, is not kept: there is one for all inputs.
"""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

from sr_reward.canonical import canonical
from sr_reward.formats.fields import Row, Unusable, name_of, text_of
from sr_reward.formats.functions import called_name, parsed
from sr_reward.task import AssertTests, Task

# exceptions of evalplus/eval/_special_oracle.py, by entry point
_AS_SETS = (
    "similar_elements",
    "find_char_long",
    "common_in_nested_lists",
    "extract_singly",
    "larg_nnum",
    "intersection_array",
    "find_dissimilar",
    "Diff",
)
_AS_TRUTH = ("check_str", "text_match_three", "text_starta_endb")
_ALSO_RIGHT = {
    "are_equivalent": "True",
    "sum_div": "got == 0",
    "find_zero": "abs(sum(factor * got ** power for power, factor in enumerate(given[0]))) <= atol",
}

_TESTS = """
import copy as _copy

def _floats(value):
    return isinstance(value, float) or (isinstance(value, (list, tuple)) and bool(value)
                                        and all(isinstance(item, float) for item in value))

def _near(got, wanted, atol):
    if isinstance(wanted, (list, tuple)):
        return type(got) is type(wanted) and len(got) == len(wanted) and all(map(_near, got, wanted, [atol] * len(got)))
    return got == wanted or got != got and wanted != wanted or abs(got - wanted) <= atol + 1e-7 * abs(wanted)

def _right(got, wanted, given, atol):
    if {exception}:
        return True
    if atol == 0 and _floats(wanted):
        atol = 1e-6
    return atol != 0 and type(got) is type(wanted) and _near(got, wanted, atol)

_reference = {{"__name__": "reference"}}
exec({reference!r}, _reference)
for _number, _given in enumerate({inputs}):
    _wanted = _reference[{entry_point!r}](*_copy.deepcopy(_given))
    _got = {entry_point}(*_copy.deepcopy(_given))
    assert _right(_got, _wanted, _given, {atol!r}), f"input {{_number}}"
"""


def evalplus(row: Row) -> Task:
    prompt, name = text_of(row, "prompt"), name_of(row, "task_id")
    inputs = [*(row.get("base_input") or []), *(row.get("plus_input") or [])]
    if not inputs or not all(isinstance(given, list) for given in inputs):
        raise Unusable("without inputs")
    reference = prompt + text_of(row, "canonical_solution")
    entry_point = row.get("entry_point") or called_name([row.get("assertion", "")], reference)
    if "assertion" in row:
        inputs = _typed(inputs, text_of(row, "assertion"), entry_point)
    code = _TESTS.format(
        exception=_exception(entry_point),
        reference=reference,
        inputs=canonical(inputs),
        entry_point=entry_point,
        atol=float(row.get("atol") or 0),
    )
    return Task(
        task_id=name,
        prompt=prompt,
        entry_point=entry_point,
        tests=AssertTests(code=code),
        reference=reference,
        format="evalplus",
    )


def _exception(entry_point: str) -> str:
    if entry_point in _AS_SETS:
        return "set(got) == set(wanted)"
    if entry_point in _AS_TRUTH:
        return "(got if isinstance(got, bool) else got is not None) == wanted"
    more = _ALSO_RIGHT.get(entry_point)
    return "got == wanted" + (f" or {more}" if more else "")


def _typed(inputs: list[list[Any]], assertion: str, entry_point: str) -> list[list[Any]]:
    """The inputs with tuples and sets where the asserts, which are Python, have them: JSON knows lists only."""
    examples = []
    for node in ast.walk(parsed(assertion)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point:
            try:
                examples.append([ast.literal_eval(argument) for argument in node.args])
            except ValueError:
                continue
    return [[_like(value, _column(examples, place)) for place, value in enumerate(given)] for given in inputs]


def _column(examples: list[list[Any]], place: int) -> list[Any]:
    return [example[place] for example in examples if place < len(example)]


def _like(value: Any, examples: list[Any]) -> Any:
    """``value`` with the kinds of container that the examples have at the same depth."""
    if isinstance(value, dict):
        inner = [item for example in examples if isinstance(example, dict) for item in example.values()]
        return {key: _like(item, inner) for key, item in value.items()}
    if isinstance(value, str) and examples and all(isinstance(example, (int, float, complex)) for example in examples):
        return _number(value)
    if not isinstance(value, list):
        return value
    if not value and {} in examples and not any(isinstance(example, list) for example in examples):
        return {}
    kinds = [type(example) for example in examples if isinstance(example, (list, tuple, set))]
    inner = [item for example in examples if isinstance(example, (list, tuple, set)) for item in example]
    items = [_like(item, inner) for item in value]
    kind = max(kinds, key=kinds.count) if kinds else list
    return kind(items)


def _number(text: str) -> Any:
    """A number where EvalPlus writes it as a text: JSON has no complex ones (``mbpp_serialize_inputs``)."""
    with suppress(ValueError):
        return float(text)
    with suppress(ValueError):
        return complex(text)
    return text
