"""From the grammar to tasks: distinct meanings, tests that pin them down, four splits that share no meaning."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from sr_reward.task import CallCase, CallTests, Task
from sr_reward.testbed.families import OUT_OF_DISTRIBUTION, TRAINED
from sr_reward.testbed.grammar import Family, Program
from sr_reward.testbed.meaning import Arguments, build_banks, choose_inputs, meanings_of, outputs_of
from sr_reward.testbed.mistakes import SLIPS, wrong_bodies

FAMILY_QUOTA = 200  # distinct meanings per trained family: enough for 2,000 tasks and three splits
OUTSIDE_QUOTA = 40
TIER_SHARES = {"easy": 0.2, "medium": 0.5}  # at most, of a quota; hard ones fill the rest
LEAST_TESTS = 10
# A meaning's own digest decides its split, so what one seed holds out no other seed trains on.
SPLIT_SHARES = {"train": 0.76, "heldout": 0.10, "audit": 0.14}


Banks = dict[str, tuple[Arguments, ...]]


@dataclass(frozen=True, kw_only=True)
class _Found:
    program: Program
    meanings: dict[str, tuple[Any, ...]]
    """Frozen outputs on each bank that the program runs on."""

    @property
    def meaning(self) -> tuple[str, tuple[Any, ...]]:
        bank = self.program.family.bank
        return bank, self.meanings[bank]


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """Tasks in four splits that are disjoint by meaning (behaviour on a bank of inputs).

    ``train`` is the pool to train on, ``heldout`` the one to decide by, ``audit`` the one no decision may
    see, ``ood`` holds families that are in none of the others. Order within a split is random but fixed.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    train: tuple[Task, ...]
    heldout: tuple[Task, ...]
    audit: tuple[Task, ...]
    ood: tuple[Task, ...]
    programs: Mapping[str, Program]
    """The program behind each task id."""

    def solutions(self, task: Task) -> tuple[str, ...]:
        """Right completions of one meaning in several forms; the first, after the prompt, is ``task.reference``."""
        return self.programs[task.task_id].bodies

    def prompts(self, task: Task) -> tuple[str, ...]:
        """The task's prompt in every wording of the grammar."""
        return self.programs[task.task_id].prompts

    def wrong_solutions(
        self, task: Task, rng: random.Random, count: int = 1, *, slips: tuple[float, ...] = SLIPS
    ) -> list[str]:
        """``count`` plausible completions that fail the task's tests: another condition, another constant,
        a missing or extra step, another reducer, and one in ten that is not even a Python function body.
        ``slips``: the chances of one, two, three such slips at once."""
        return wrong_bodies(self.programs[task.task_id], task, rng, count, slips)


@lru_cache(maxsize=2)
def load_testbed(seed: int = 0) -> Testbed:
    """Make the testbed: about 2,200 trained-family tasks and 160 of four further families, in a second or two.

    ``seed`` chooses meanings, wordings and order; it never moves a meaning from one split to another, so the
    shipped policies (trained on the training pool of seed 0) have seen no held-out meaning of any seed.
    A process makes it once; nobody may change what is returned.
    """
    rng = random.Random(f"testbed {seed}")
    banks = build_banks()
    found: list[_Found] = []
    seen: set[Any] = set()
    for families, quota in ((TRAINED, FAMILY_QUOTA), (OUT_OF_DISTRIBUTION, OUTSIDE_QUOTA)):
        for family in families:
            found += _distinct(family, quota, banks, seen, rng)
    tests = _tests(found, banks)

    outside = {family.name for family in OUT_OF_DISTRIBUTION}
    splits: dict[str, list[Task]] = {"train": [], "heldout": [], "audit": [], "ood": []}
    programs = {}
    for number, (item, cases) in enumerate(zip(found, tests, strict=True)):
        program = item.program
        prompt = rng.choice(program.prompts)
        task = Task(
            task_id=f"{program.family.name}-{number:04d}",
            prompt=prompt,
            entry_point="f",
            tests=CallTests(cases=cases),
            tier=program.tier,
            family=program.family.name,
            reference=prompt + program.bodies[0],
        )
        programs[task.task_id] = program
        splits["ood" if program.family.name in outside else _split(item)].append(task)
    for tasks in splits.values():
        rng.shuffle(tasks)
    return Testbed(**{name: tuple(tasks) for name, tasks in splits.items()}, programs=programs)


def _distinct(family: Family, quota: int, banks: Banks, seen: set[Any], rng: random.Random) -> Iterator[_Found]:
    """Up to ``quota`` programs of new meaning, simple ones first, so that a simple meaning is told simply."""
    by_tier: dict[str, list[Program]] = {"easy": [], "medium": [], "hard": []}
    for choice in product(*family.slots):
        if family.allows(choice):
            program = Program(family=family, choice=choice)
            by_tier[program.tier].append(program)
    taken = 0
    for tier, programs in by_tier.items():
        rng.shuffle(programs)
        limit = taken + int(TIER_SHARES[tier] * quota) if tier in TIER_SHARES else quota
        for program in programs:
            if taken >= limit:
                break
            item = _Found(program=program, meanings=meanings_of(program, banks))
            if seen.isdisjoint(item.meanings.items()) and _varies(item):
                seen.update(item.meanings.items())
                taken += 1
                yield item


def _varies(item: _Found) -> bool:
    """Whether at least two inputs give another output than the usual one: no constant passes such a task."""
    outputs = item.meaning[1]
    return Counter(outputs).most_common(1)[0][1] <= len(outputs) - 2


def _tests(found: list[_Found], banks: Banks) -> list[tuple[CallCase, ...]]:
    """Call tests for each program, chosen against every program that runs on its bank."""
    cases: list[tuple[CallCase, ...]] = [()] * len(found)
    for name, bank in banks.items():
        running = [i for i, item in enumerate(found) if name in item.meanings]
        chosen = choose_inputs([found[i].meanings[name] for i in running], LEAST_TESTS)
        for i, inputs in zip(running, chosen, strict=True):
            program = found[i].program
            if program.family.bank == name:
                arguments = [bank[j] for j in inputs]
                outputs = outputs_of(program, arguments)
                cases[i] = tuple(
                    CallCase(args=args, expected=output) for args, output in zip(arguments, outputs, strict=True)
                )
    return cases


def _split(item: _Found) -> str:
    digest = hashlib.sha256(repr(item.meaning).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in SPLIT_SHARES.items():
        place -= share
        if place < 0:
            return name
    return "audit"
