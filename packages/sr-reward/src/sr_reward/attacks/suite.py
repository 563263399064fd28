"""Runs the attacks, each at the levels of isolation and each without any."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sr_reward.attacks import naive
from sr_reward.attacks.model import BUSY_S, OPEN, Attack
from sr_reward.attacks.world import World
from sr_reward.errors import IsolationError
from sr_reward.grading.grader import CodeGrader
from sr_reward.sandbox import LEVELS, Sandbox
from sr_reward.sandbox.worker import interpreter
from sr_reward.task import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task, Tests

TIMEOUT_S = 0.3
MEMORY_MB = 256
OUTPUT_MB = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one attack: whether its positive control succeeded, and per level whether it was contained."""

    attack: Attack
    control: bool
    contained: dict[str, bool] = field(default_factory=dict)


def run_suite(
    attacks: Sequence[Attack],
    *,
    levels: Sequence[str] = LEVELS,
    controls: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Finding]:
    """Run every attack at each level that is available here, and its positive control.

    Other levels are left out of the findings. Every attack is bounded and aimed at what the suite
    itself sets up; still, at level ``limits`` and in the controls attacks do succeed.
    """
    world = World()
    graders: dict[str, CodeGrader] = {}
    try:
        for level in levels:
            grader = CodeGrader(
                workers=1,
                timeout_s=TIMEOUT_S,
                memory_mb=MEMORY_MB,
                output_mb=OUTPUT_MB,
                isolation=level,
                deduplicate=False,
            )
            try:
                graders[grader.isolation] = grader
            except IsolationError:
                continue
        bare = CodeGrader(workers=1, timeout_s=10.0, deduplicate=False)
        bare.sandbox = Sandbox.without_isolation(timeout_s=10.0)
        findings = []
        for number, attack in enumerate(attacks):
            contained = {level: not _succeeds(attack, grader, world) for level, grader in graders.items()}
            control = False
            if controls and attack.control == OPEN:
                control = _succeeds(attack, bare, world)
            elif controls:
                control = _succeeds_naively(attack, world)
            findings.append(Finding(attack=attack, control=control, contained=contained))
            progress(number + 1)
        bare.close()
        return findings
    finally:
        for grader in graders.values():
            grader.close()
        world.close()


def _succeeds(attack: Attack, grader: CodeGrader, world: World) -> bool:
    world.refresh()
    task = _task(attack, world)
    for number, program in enumerate(attack.before):
        before = Task(task_id=f"before-{number}", prompt="", entry_point="f", tests=_ANY)
        grader.grade([before], [program], solutions=True)
    if attack.effect == "grader_busy":
        grader.grade([task], ["```\npass\n```"])  # starts what is started once
    began = time.thread_time()
    (grade,) = grader.grade([task], [attack.program], solutions=True)
    if attack.effect == "grader_busy":
        return time.thread_time() - began > BUSY_S or grade.outcome == "infra_error"
    if attack.effect:
        return world.shows(attack.effect) or grade.outcome == "infra_error"
    return grade.outcome in ("passed", "infra_error")


_ANY = CallTests(cases=(CallCase(args=(1,), expected=None), CallCase(args=(), expected=None)))


def _task(attack: Attack, world: World) -> Task:
    tests: Tests
    if attack.prints:
        tests = StdioTests(cases=(StdioCase(stdin="", stdout=attack.prints),))
    elif attack.asserts:
        tests = AssertTests(code=attack.asserts)
    elif attack.control == OPEN:
        expected = attack.expected
        if isinstance(expected, str):
            expected = world.values.get(expected, expected)
        args = tuple(world.values[name] for name in attack.args)
        tests = CallTests(cases=(CallCase(args=args, expected=expected),))
    elif attack.args:
        args = tuple(world.values[name] for name in attack.args)
        tests = CallTests(cases=(CallCase(args=args, expected=4),))
    else:
        tests = CallTests(cases=(CallCase(args=(2,), expected=4), CallCase(args=(3,), expected=9)))
    entry_point = "" if attack.prints else "f"
    return Task(task_id=attack.name, prompt=attack.prompt, entry_point=entry_point, tests=tests)


def _succeeds_naively(attack: Attack, world: World) -> bool:
    world.refresh()
    request: dict[str, object] = {
        "program": attack.program,
        "asserts": attack.asserts,
        "prompt": attack.prompt,
        "before": attack.before,
        "args": [world.values[name] for name in attack.args] or [2],
    }
    succeeded = naive.attack_succeeds(request, attack.control, interpreter(), str(world.folder))
    return world.shows(attack.effect) if attack.effect not in ("", "grader_busy") else succeeded
