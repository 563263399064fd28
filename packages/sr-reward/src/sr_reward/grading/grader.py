"""Grades completions against tasks: programs go out as data, outputs come back as data, the verdict is made here."""

from __future__ import annotations

import marshal
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sr_reward.errors import TaskError
from sr_reward.grading.compare import matches, parse_outputs, same_text
from sr_reward.grading.extract import program_text
from sr_reward.sandbox import Sandbox
from sr_reward.sandbox import worker as protocol
from sr_reward.sandbox.child.codec import CodecError
from sr_reward.sandbox.child.judge import UNFIT
from sr_reward.sandbox.pool import Job, Trial
from sr_reward.sandbox.worker import Answer
from sr_reward.task import AssertTests, CallCase, CallTests, StdioTests, Task

OUTCOMES = ("passed", "failed", "timeout", "memory", "crashed", "no_code", "infra_error")

_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The verdict on one sample: one of ``OUTCOMES``, the CPU seconds its program took, and a line on why."""

    outcome: str
    seconds: float = 0.0
    detail: str = ""

    @property
    def reward(self) -> float | None:
        """1.0 where it passed, 0.0 where it did not, None where the grader itself failed (never a reward)."""
        if self.outcome == "infra_error":
            return None
        return 1.0 if self.outcome == "passed" else 0.0


class CodeGrader:
    """Grades model-written Python.

    ``workers`` lanes (default: one per usable core) run programs behind the walls of ``isolation`` (see
    ``Sandbox``; ``require_isolation`` names the weakest level that is accepted). ``timeout_s`` is CPU time per
    program, so a loaded machine changes no verdict; a program that merely sleeps is stopped after the same time.
    ``memory_mb`` bounds its address space. With ``deduplicate``, equal programs for one deterministic task are
    run once per batch. Nothing is started before the first call of ``grade``; one call at a time is served,
    others wait. Errors: ``TaskError`` for input that does not fit, ``IsolationError`` where walls do not stand.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float = 3.0,
        memory_mb: int = 512,
        isolation: str = "auto",
        require_isolation: str | None = None,
        deduplicate: bool = True,
    ) -> None:
        self.deduplicate = deduplicate
        self.sandbox = Sandbox(
            workers=workers,
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            isolation=isolation,
            require_isolation=require_isolation,
        )

    @property
    def isolation(self) -> str:
        """The level that stands: ``full``, ``landlock`` or ``limits``. Starts the workers if need be."""
        return self.sandbox.isolation

    def grade(self, tasks: Sequence[Task], completions: Sequence[str], *, solutions: bool = False) -> list[Grade]:
        """One grade per sample, in order: ``completions[i]`` answers ``tasks[i]``.

        A completion continues its task's prompt; with ``solutions`` each is a whole program. Code is taken out
        of chat-like text by the rules of ``sr_reward.grading.extract``.
        """
        grades: list[Grade] = [NO_CODE] * len(tasks)
        for index, grade in self.stream(tasks, completions, solutions=solutions):
            grades[index] = grade
        return grades

    def stream(
        self, tasks: Sequence[Task], completions: Sequence[str], *, solutions: bool | Sequence[bool] = False
    ) -> Iterator[tuple[int, Grade]]:
        """``(index, grade)`` as each sample is decided, in no fixed order. ``solutions`` may be given per sample."""
        if len(tasks) != len(completions):
            raise TaskError(
                f"tasks and completions go in pairs, got {len(tasks)} and {len(completions)}; repeat each task"
            )
        whole = [solutions] * len(tasks) if isinstance(solutions, bool) else solutions
        copies: dict[object, list[int]] = {}
        programs: list[tuple[Task, str]] = []
        slots: list[list[int]] = []
        for index, (task, completion) in enumerate(zip(tasks, completions, strict=True)):
            source = program_text(task, completion, solution=whole[index])
            if source is None:
                yield index, NO_CODE
                continue
            key = (id(task), source) if self.deduplicate and task.deterministic else index
            if key not in copies:
                copies[key] = []
                programs.append((task, source))
                slots.append(copies[key])
            copies[key].append(index)
        trials = [_trial(task, source) for task, source in programs]
        for number, grade in self.sandbox.stream(trials):
            for index in slots[number]:
                yield index, grade

    def close(self) -> None:
        """End the workers. The grader may be used again."""
        self.sandbox.close()

    def __enter__(self) -> CodeGrader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


NO_CODE = Grade(outcome="no_code", detail="the sample holds no code")
INFRA_ERROR = Grade(outcome="infra_error", detail="the sandbox failed twice on this program")


def _trial(task: Task, source: str) -> Trial[Grade]:
    warm = _IMPORT.search(source) is not None
    if isinstance(task.tests, CallTests):
        return _try_calls(task, task.tests, source, warm)
    if isinstance(task.tests, AssertTests):
        return _try_asserts(task, task.tests, source, warm)
    return _try_stdio(task.tests, source, warm)


def _try_calls(task: Task, tests: CallTests, source: str, warm: bool) -> Trial[Grade]:
    body = marshal.dumps((source, task.entry_point, tests.encoded_inputs()))
    answer = (yield Job(kind=protocol.CALLS, body=body, warm=warm)).program
    if answer is None:
        return INFRA_ERROR
    stopped = _stopped(answer)
    if stopped:
        return stopped
    try:
        outputs = parse_outputs(answer.data)
    except CodecError as error:
        return _died(answer, str(error))
    error_row = _reported_error(outputs)
    if error_row:
        return _raised(answer, *error_row)
    if not (isinstance(outputs, list) and len(outputs) == len(tests.cases)):
        return _died(answer, "its answers are incomplete")
    if not all(isinstance(row, list) and len(row) == 2 and row[0] == 1 for row in outputs):
        return _died(answer, "its answers are malformed")
    if tests.checker:
        cases = [(case.args, case.kwargs, case.expected) for case in tests.cases]
        return (yield from _check(tests.checker, cases, answer.data, answer.seconds))
    for number, (case, (_, output)) in enumerate(zip(tests.cases, outputs, strict=True)):
        if not _accepts(tests, case, output):
            return Grade(outcome="failed", seconds=answer.seconds, detail=f"case {number}: another value")
    return Grade(outcome="passed", seconds=answer.seconds)


def _accepts(tests: CallTests, case: CallCase, output: Any) -> bool:
    """Whether a parsed output is one of those that a case accepts."""
    try:
        for wanted in (case.expected, *case.accepted):
            if matches(output, wanted, tolerance=tests.float_tolerance, exact_types=tests.exact_types):
                return True
    except (CodecError, TypeError, ValueError, OverflowError, RecursionError):
        pass  # a malformed or monstrous output equals nothing
    return False


def _try_stdio(tests: StdioTests, source: str, warm: bool) -> Trial[Grade]:
    seconds = 0.0
    for number, case in enumerate(tests.cases):
        body = marshal.dumps((source, case.stdin.encode("utf-8", "surrogatepass")))
        answer = (yield Job(kind=protocol.STDIO, body=body, warm=warm)).program
        if answer is None:
            return INFRA_ERROR
        seconds += answer.seconds
        stopped = _stopped(answer)
        if stopped:
            return stopped
        printed = answer.text.decode("utf-8", "replace")
        if tests.checker:
            grade = yield from _check(tests.checker, [((case.stdin,), {}, case.stdout)], printed, seconds)
            right, reason = grade.outcome == "passed", grade.detail
            if grade.outcome == "infra_error":
                return grade
        else:
            right = any(
                same_text(printed, wanted, tolerance=tests.float_tolerance) for wanted in (case.stdout, *case.accepted)
            )
            reason = "other output"
        try:
            outputs = parse_outputs(answer.data)
        except CodecError:
            outputs = None
        error_row = _reported_error(outputs)
        if error_row:
            return _raised(answer, *error_row)
        if answer.ended == "signalled" or answer.code:
            return _died(answer, "")
        if not right:
            return Grade(outcome="failed", seconds=seconds, detail=f"case {number}: {reason}")
    return Grade(outcome="passed", seconds=seconds)


def _try_asserts(task: Task, tests: AssertTests, source: str, warm: bool) -> Trial[Grade]:
    prompt = task.prompt if task.prompt_is_code else ""
    outcome = yield Job(
        kind=protocol.SERVE,
        body=marshal.dumps((source, task.entry_point)),
        judge_body=marshal.dumps((tests.code, task.entry_point, prompt)),
        warm=warm,
    )
    answer, judge = outcome.program, outcome.judge
    if answer is None or judge is None:
        return INFRA_ERROR
    stopped = _stopped(answer)
    if stopped:
        return stopped
    if judge.ended in ("cpu", "idle"):
        return Grade(outcome="timeout", seconds=answer.seconds, detail="the tests took too long on its answers")
    try:
        verdict = parse_outputs(judge.data)
    except CodecError:
        return Grade(outcome="failed", seconds=answer.seconds, detail="the tests did not survive its answers")
    if verdict == [1]:
        return Grade(outcome="passed", seconds=answer.seconds)
    kind, message = _reported_error(verdict) or ("", "")
    if kind == "ProgramEnded":
        return _died(answer, message)
    if kind == UNFIT:
        return _unfit(message)
    return _raised(answer, kind, message)


def _check(checker: str, cases: Any, given: Any, seconds: float) -> Trial[Grade]:
    """Let a task's own checker decide, in a judge process."""
    answer = (yield Job(kind=protocol.CHECK, body=marshal.dumps((checker, cases, given)))).program
    if answer is None:
        return INFRA_ERROR
    try:
        verdict = parse_outputs(answer.data)
    except CodecError:
        verdict = None
    if verdict == [1]:
        return Grade(outcome="passed", seconds=seconds)
    kind, message = _reported_error(verdict) or (answer.ended, "the checker did not decide")
    if kind == UNFIT:
        return _unfit(message)
    return Grade(outcome="failed", seconds=seconds, detail=f"checker: {kind}: {message}")


def _reported_error(outputs: object) -> tuple[str, str] | None:
    """The error a process reports as ``[0, kind, message]``, by itself or as the last of its rows."""
    if isinstance(outputs, list) and outputs and isinstance(outputs[-1], list):
        outputs = outputs[-1]
    if isinstance(outputs, list) and len(outputs) == 3 and outputs[0] == 0:
        kind, message = outputs[1:]
        if isinstance(kind, str) and isinstance(message, str):
            return kind[:80], message[:300]
    return None


def _stopped(answer: Answer) -> Grade | None:
    """The grade of a program that broke a limit."""
    if answer.ended in ("cpu", "idle") or (answer.ended == "signalled" and answer.code == _SIGXCPU):
        return Grade(outcome="timeout", seconds=answer.seconds, detail=f"out of {answer.ended} time")
    if answer.ended == "output":
        detail = f"it wrote more than {protocol.OUTPUT_BYTES >> 20} MiB"
        return Grade(outcome="failed", seconds=answer.seconds, detail=detail)
    return None


def _raised(answer: Answer, kind: str, message: str) -> Grade:
    # a program that ends itself has not answered, however politely it did so
    outcome = {"MemoryError": "memory", "SystemExit": "crashed", "KeyboardInterrupt": "crashed"}.get(kind, "failed")
    return Grade(outcome=outcome, seconds=answer.seconds, detail=f"{kind}: {message}".rstrip(": "))


def _unfit(message: str) -> Grade:
    return Grade(outcome="infra_error", detail=f"the task's tests cannot run here: {message}")


def _died(answer: Answer, reason: str) -> Grade:
    how = f"signal {answer.code}" if answer.ended == "signalled" else f"exit status {answer.code}"
    detail = f"it ended with {how} before it had answered" + (f" ({reason})" if reason else "")
    return Grade(outcome="crashed", seconds=answer.seconds, detail=detail)


_SIGXCPU = 24  # the same on every Linux and macOS
