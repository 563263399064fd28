"""What a program means: its outputs on a fixed bank of inputs. And the call tests that pin a meaning down."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sr_reward.testbed.grammar import Program

Arguments = tuple[Any, ...]
_CONTAINERS = (list, tuple, dict)
# What a program of the grammar can raise on inputs of another kind, or after a slip.
FAILURES = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError)
BANK_SIZE = 40
_WORDS = ("a", "an", "tea", "Echo", "box", "bee", "42", "Ada", "zoo", "x7", "queue", "B", "mad", "end", "OK", "abc")


def _numbers(rng: random.Random, length: int) -> list[int]:
    return [rng.choice((rng.randint(-9, 12), rng.randint(0, 8))) for _ in range(length)]


def _edge_then_random(edges: Sequence[Any], draw: Callable[[], Any]) -> tuple[Arguments, ...]:
    return tuple((value,) for value in (*edges, *(draw() for _ in range(BANK_SIZE - len(edges)))))


def _integers() -> tuple[Arguments, ...]:
    small = (0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 20, 21, 28, 30, 35, 60, 99, 105)
    large = (210, 1024, 3070, 9087, 45623, 88888, 130579, 2468, -2, -3, -4, -5, -7, -10, -21, -36, -460)
    return tuple((n,) for n in (*small, *large))


def build_banks() -> dict[str, tuple[Arguments, ...]]:
    """Every bank by name, each ``BANK_SIZE`` argument tuples, edge cases first. The same at every call."""
    rng = random.Random("testbed banks")
    lists = [[], [0], [1], [-4], [5, 5, 5], [3, 1, 2], [-1, -2, -3], [2, 4, 6, 8], [7, 0, 7, -2, 0]]

    def text() -> str:
        return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(2, 5)))

    def pairs() -> list[tuple[int, int]]:
        return [(a, rng.choice((a, b, b))) for a, b in zip(_numbers(rng, 5), _numbers(rng, 5), strict=True)]

    def table() -> dict[str, int]:
        keys = rng.sample(["a", "b", "c", "ab", "cd", "xyz", "kk", "long", "z"], rng.randint(3, 6))
        return dict(zip(keys, _numbers(rng, len(keys)), strict=True))

    def rows() -> list[list[int]]:
        return [_numbers(rng, rng.randint(0, 5)) for _ in range(rng.randint(2, 5))]

    def two() -> Arguments:
        return (_numbers(rng, rng.randint(3, 6)), _numbers(rng, rng.randint(3, 6)))

    return {
        "int": _integers(),
        "ints": _edge_then_random(lists, lambda: _numbers(rng, rng.randint(4, 9))),
        "text": _edge_then_random(["", " ", "a", "Z", "7", "aaa", "Hello World", "A1 b2 C3"], text),
        "pairs": _edge_then_random([[], [(0, 0)], [(1, 2)], [(2, 1)], [(3, 3), (3, 3)], [(-1, 4), (4, -1)]], pairs),
        "table": _edge_then_random([{}, {"a": 0}, {"b": 7}, {"xyz": -3}, {"a": 2, "b": 2}], table),
        "rows": _edge_then_random([[], [[]], [[0]], [[1, 2], []], [[3], [3]], [[-1, 5], [2]]], rows),
        "two": (([], []), ([1], []), ([2], [2]), ([1, 2, 3], [3, 2, 1]), *(two() for _ in range(BANK_SIZE - 4))),
    }


def function_of(program: Program, body: str) -> Callable[..., Any]:
    """The function that ``body`` defines, run in this process: only for text this grammar has written."""
    namespace: dict[str, Any] = {}
    exec(f"def f({program.family.signature}):\n{body}", namespace)
    function: Callable[..., Any] = namespace["f"]
    return function


def outputs_of(program: Program, bank: Sequence[Arguments]) -> tuple[Any, ...]:
    """What the reference returns on each input of its own bank."""
    function = function_of(program, program.bodies[0])
    return tuple([function(*arguments) for arguments in bank])


def meanings_of(program: Program, banks: dict[str, tuple[Arguments, ...]]) -> dict[str, tuple[Any, ...]]:
    """The frozen outputs of the reference on every bank it runs on without an error, its own and others.

    Others matter because Python does not check types: the number of items of a list is that of a string.
    """
    function = function_of(program, program.bodies[0])
    found = {name: _outputs_or_none(function, bank) for name, bank in banks.items()}
    return {name: outputs for name, outputs in found.items() if outputs is not None}


def _outputs_or_none(function: Callable[..., Any], bank: Sequence[Arguments]) -> tuple[Any, ...] | None:
    try:
        return tuple([freeze(function(*arguments)) for arguments in bank])
    except FAILURES:
        return None


def freeze(value: Any) -> Any:
    """A hashable stand-in, coarser than ``==``: it tells no list from a tuple, nor True from 1."""
    kind = type(value)
    if kind is list or kind is tuple:
        return tuple([freeze(item) if type(item) in _CONTAINERS else item for item in value])
    if kind is dict:
        return ("dict", *sorted((key, freeze(item)) for key, item in value.items()))
    return value


def choose_inputs(meanings: Sequence[tuple[Any, ...]], least: int) -> list[list[int]]:
    """For each meaning (frozen outputs on one bank) the inputs that tell it from every other one.

    Greedy: take the input that leaves the fewest others alive until none is left, then the first inputs of
    the bank (its edge cases) and further ones until there are ``least``. Sets of programs are bit masks.
    """
    size = len(meanings[0])
    sharing: list[dict[Any, int]] = [{} for _ in range(size)]
    for i, outputs in enumerate(meanings):
        for column, output in zip(sharing, outputs, strict=True):
            column[output] = column.get(output, 0) | 1 << i
    chosen = []
    for i, outputs in enumerate(meanings):
        masks = [column[output] for column, output in zip(sharing, outputs, strict=True)]
        alive, inputs = (1 << len(meanings)) - 1, list[int]()
        while alive != 1 << i:
            best = min(range(size), key=lambda j: (alive & masks[j]).bit_count())
            inputs.append(best)
            alive &= masks[best]
        chosen.append(_fill(inputs, outputs, least))
    return chosen


def _fill(inputs: list[int], outputs: tuple[Any, ...], least: int) -> list[int]:
    """Add the two first edge cases, then inputs whose output is rarest so far, until there are ``least``."""
    picked = list(dict.fromkeys([*inputs, 0, 1]))
    counts = Counter(outputs[j] for j in picked)
    rest = [j for j in range(len(outputs)) if j not in picked]
    while len(picked) < least:
        _, j = min([(counts[outputs[j]], j) for j in rest])
        picked.append(j)
        rest.remove(j)
        counts[outputs[j]] += 1
    return sorted(picked)
