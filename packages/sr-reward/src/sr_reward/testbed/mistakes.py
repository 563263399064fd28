"""Plausible wrong answers: the body of a neighbouring program, or the right one with its text broken."""

from __future__ import annotations

import random

from sr_reward.task import CallTests, Task
from sr_reward.testbed.grammar import Program
from sr_reward.testbed.meaning import FAILURES, function_of

MALFORMED_SHARE = 0.1
SLIPS = (0.7, 0.3)


def passes(program: Program, body: str, task: Task) -> bool:
    """Whether ``body`` passes the task's call tests, run in this process: only for text of this grammar."""
    assert isinstance(task.tests, CallTests)
    try:
        function = function_of(program, body)
        return all(function(*case.args) == case.expected for case in task.tests.cases)
    except (SyntaxError, *FAILURES):
        return False


def wrong_bodies(
    program: Program, task: Task, rng: random.Random, count: int, slips: tuple[float, ...] = SLIPS
) -> list[str]:
    """``count`` bodies that fail the task, each drawn anew (repeats are possible).

    ``slips``: the chances that a neighbouring program has one, two, three slots drawn anew.
    """
    found: list[str] = []
    while len(found) < count:
        if rng.random() < MALFORMED_SHARE:
            body = _broken(rng.choice(program.bodies), rng)
        else:
            body = rng.choice(slip(program, rng, slips).bodies)
        if not passes(program, body, task):
            found.append(body)
    return found


def slip(program: Program, rng: random.Random, slips: tuple[float, ...]) -> Program:
    """Another program of the family, with one or more slots drawn anew (an option, or the plain one: a missing
    step). One drawn as it was is no slip, so a program may differ in fewer slots than were drawn, never in none."""
    slots = program.family.slots
    while True:
        choice = list(program.choice)
        place = rng.random()
        drawn = next(n for n in range(len(slips), 0, -1) if place < sum(slips[n - 1 :]) or n == 1)
        for slot in rng.sample(range(len(slots)), drawn):
            choice[slot] = rng.choice(slots[slot])
        if tuple(choice) != program.choice and program.family.allows(tuple(choice)):
            return Program(family=program.family, choice=tuple(choice))


def _broken(body: str, rng: random.Random) -> str:
    """The right text with a closing bracket, the word ``return``, its end or its indentation lost."""
    kind = rng.randrange(4)
    if kind == 0 and ")" in body:
        at = body.rindex(")")
        return body[:at] + body[at + 1 :]
    if kind == 1:
        return body.replace("return ", "", 1)
    if kind == 2:
        return body[: rng.randrange(len(body) // 2, len(body) - 2)] + "\n"
    return body[4:] if body.count("\n") == 1 else body.replace("\n    ", "\n", 1)
