"""How a sample of each kind of tests is tried, and which outcome follows from what came of it."""

from __future__ import annotations

import marshal
import re
from dataclasses import dataclass, replace
from typing import Any

from sr_reward.errors import TaskError
from sr_reward.grading.compare import BROKEN, RAISED, RIGHT
from sr_reward.grading.extract import question_of
from sr_reward.grading.grade import INFRA_ERROR, NO_CODE, SEPARATIONS, UNFIT_TESTS, Grade
from sr_reward.grading.requests import ReaderFailed, compare_calls, compare_text, program_of, read_report
from sr_reward.rules import RULES
from sr_reward.sandbox import worker as protocol
from sr_reward.sandbox.child.judging import ENDED, UNFIT
from sr_reward.sandbox.pool import Job, Trial
from sr_reward.sandbox.worker import Answer
from sr_reward.task import AssertTests, CallTests, StdioCase, StdioTests, Task

CALLS_FACTOR = 10  # all calls of a program together may take so many times what one may
TOO_COSTLY = "its output cannot be compared within the reader's limits"


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """Seconds of CPU time per test (None: those of the task's format), whether a cut-off answer is trimmed, and where
    tests run that cannot run apart from the program: nowhere, or with ``separation="none"`` in its process."""

    timeout_s: float | None = None
    trim: bool = False
    separation: str = "processes"

    def __post_init__(self) -> None:
        if self.separation not in SEPARATIONS:
            raise TaskError(f"separation must be one of {', '.join(SEPARATIONS)}, got {self.separation!r}")

    def seconds_for(self, task: Task) -> float:
        """The CPU time of one run, of one call, or of all asserts."""
        return RULES[task.format].time_s if self.timeout_s is None else self.timeout_s


def grade_sample(
    task: Task,
    completion: str,
    settings: TrialSettings,
    *,
    solution: bool,
    number: int = 0,
    first_with: dict[object, int] | None = None,
) -> Trial[Grade | int]:
    """The trial of one sample. With ``first_with``, which it keeps up to date, the sample ``number`` may end with the
    number of an earlier one of the same program, whose grade is its own too."""
    try:
        source = yield from program_of(question_of(task, trim=settings.trim), completion, solution=solution)
        if source is None:
            return NO_CODE
        if first_with is not None:
            first = first_with.setdefault((id(task), source), number)
            if first != number:
                return first
        grade = yield from _trial(task, source, settings.seconds_for(task))
        if grade.is_unfit and settings.separation == "none" and isinstance(task.tests, AssertTests):
            together = yield from _try_together(task, task.tests, source, settings.seconds_for(task))
            return replace(together, separation="none")
        return grade
    except ReaderFailed as error:
        return Grade(outcome="infra_error", detail=str(error))


def _trial(task: Task, source: str, time_s: float) -> Trial[Grade]:
    if isinstance(task.tests, CallTests):
        return (yield from _try_calls(task, task.tests, source, time_s))
    if isinstance(task.tests, AssertTests):
        return (yield from _try_asserts(task, task.tests, source, time_s))
    return (yield from _try_stdio(task.tests, source, time_s))


def _warm(source: str) -> bool:
    return "import" in source


def _try_calls(task: Task, tests: CallTests, source: str, time_s: float) -> Trial[Grade]:
    body = marshal.dumps((source, task.entry_point, tests.encoded_inputs(), time_s))
    all_s = time_s * min(len(tests.cases), CALLS_FACTOR)
    answer = (yield Job(kind=protocol.CALLS, body=body, warm=_warm(source), timeout_s=all_s)).program
    if answer is None:
        return INFRA_ERROR
    stopped = _stopped(answer)
    if stopped:
        return stopped
    if answer.data == tests.usual_answer() and not tests.checker:
        return Grade(outcome="passed", seconds=answer.seconds)
    kind, text = yield from compare_calls(tests.encoded_rule(), answer.data)
    if kind == RAISED:
        return _raised(answer, *text.split("\n", 1))
    if kind == BROKEN:
        return _died(answer, text)
    if kind == RIGHT and tests.checker:
        cases = [(case.args, case.kwargs, case.expected) for case in tests.cases]
        return (yield from _check(tests.checker, cases, answer.data, answer.seconds))
    if kind == RIGHT:
        return Grade(outcome="passed", seconds=answer.seconds)
    return Grade(outcome="failed", seconds=answer.seconds, detail=text if kind else TOO_COSTLY)


def _try_stdio(tests: StdioTests, source: str, time_s: float) -> Trial[Grade]:
    seconds = 0.0
    for number, case in enumerate(tests.cases):
        body = marshal.dumps((source, case.stdin.encode("utf-8", "surrogatepass")))
        answer = (yield Job(kind=protocol.STDIO, body=body, warm=_warm(source), timeout_s=time_s)).program
        if answer is None:
            return INFRA_ERROR
        seconds += answer.seconds
        stopped = _stopped(answer)
        if stopped:
            return stopped
        report = read_report(answer.data)
        if report and report != ("", ""):
            return _raised(answer, *report)
        if answer.ended == "signalled" or answer.code:
            return _died(answer, "")
        if tests.checker:
            printed = answer.text.decode("utf-8", "replace")
            grade = yield from _check(tests.checker, [((case.stdin,), {}, case.stdout)], printed, seconds)
            right, reason = grade.outcome == "passed", grade.detail
            if grade.outcome == "infra_error":
                return grade
        else:
            right, reason = yield from _prints_right(tests, case, answer.text)
        if not right:
            return Grade(outcome="failed", seconds=seconds, detail=f"case {number}: {reason}")
    return Grade(outcome="passed", seconds=seconds)


def _prints_right(tests: StdioTests, case: StdioCase, printed: bytes) -> Trial[tuple[bool, str]]:
    accepted = (case.stdout, *case.accepted)
    ends = printed.rstrip()
    if any(ends == wanted.encode("utf-8", "surrogatepass").rstrip() for wanted in accepted):
        return True, ""
    kind, _ = yield from compare_text(accepted, tests.rule, tests.float_tolerance, printed)
    return kind == RIGHT, "other output" if kind else TOO_COSTLY


def _try_asserts(task: Task, tests: AssertTests, source: str, time_s: float) -> Trial[Grade]:
    outcome = yield Job(
        kind=protocol.SERVE,
        body=marshal.dumps((source, task.entry_point)),
        judge_body=marshal.dumps((judge_request(task, tests),)),
        warm=_warm(source),
        timeout_s=time_s,
    )
    answer, judge = outcome.program, outcome.judge
    if answer is None or judge is None:
        return INFRA_ERROR
    stopped = _stopped(answer)
    if stopped:
        return stopped
    if judge.ended in ("cpu", "idle", "wall"):
        return Grade(outcome="timeout", seconds=answer.seconds, detail="the tests took too long on its answers")
    verdict = read_report(judge.data)
    if verdict is None:
        return Grade(outcome="failed", seconds=answer.seconds, detail="the tests did not survive its answers")
    if verdict == ("", ""):
        return Grade(outcome="passed", seconds=answer.seconds)
    kind, message = verdict
    if kind == ENDED:
        return _died(answer, message)
    if kind == UNFIT:
        return _unfit(message)
    return _raised(answer, kind, message)


def _try_together(task: Task, tests: AssertTests, source: str, time_s: float) -> Trial[Grade]:
    """Tests that cannot run apart from the program, in its process."""
    body = marshal.dumps((source, judge_request(task, tests)))
    answer = (yield Job(kind=protocol.TOGETHER, body=body, timeout_s=time_s)).program
    if answer is None:
        return INFRA_ERROR
    stopped = _stopped(answer)
    if stopped:
        return stopped
    verdict = read_report(answer.data)
    if verdict is None:
        return _died(answer, "")
    if verdict == ("", ""):
        return Grade(outcome="passed", seconds=answer.seconds)
    kind, message = verdict
    return _unfit(message) if kind == UNFIT else _raised(answer, kind, message)


_DEFINED = re.compile(r"^(class|(?:async[ \t]+)?def)[ \t]+(\w+)", re.MULTILINE)


def judge_request(task: Task, tests: AssertTests) -> dict[str, Any]:
    """What the judge gets: the tests, and what the task says about the program's names."""
    prompt = task.prompt if task.prompt_is_code else ""
    defined = _DEFINED.findall(f"{prompt}\n{task.reference}")
    return {
        "code": tests.code,
        "entry_point": task.entry_point,
        "prompt": prompt,
        "cases": tests.cases,
        "functions": tuple({name for kind, name in defined if kind != "class"}),
        "classes": tuple({name for kind, name in defined if kind == "class"}),
    }


def _check(checker: str, cases: Any, given: Any, seconds: float) -> Trial[Grade]:
    """Let a task's own checker decide, in a judge process."""
    answer = (yield Job(kind=protocol.CHECK, body=marshal.dumps((checker, cases, given)))).program
    if answer is None:
        return INFRA_ERROR
    verdict = read_report(answer.data)
    if verdict == ("", ""):
        return Grade(outcome="passed", seconds=seconds)
    kind, message = verdict or (answer.ended, "the checker did not decide")
    if kind == UNFIT:
        return _unfit(message)
    return Grade(outcome="failed", seconds=seconds, detail=f"checker: {kind}: {message}")


def _stopped(answer: Answer) -> Grade | None:
    """The grade of a program that broke a limit."""
    if answer.ended in ("cpu", "idle", "wall"):
        return Grade(outcome="timeout", seconds=answer.seconds, detail=f"out of {answer.ended} time")
    if answer.ended == "signalled" and answer.code in _OUT_OF_TIME:
        return Grade(outcome="timeout", seconds=answer.seconds, detail="out of cpu time")
    if answer.ended == "memory":
        return Grade(outcome="memory", seconds=answer.seconds, detail="it held more than its memory (memory_mb)")
    if answer.ended == "output":
        detail = "it wrote more than it may (output_mb)"
        return Grade(outcome="failed", seconds=answer.seconds, detail=detail)
    return None


def _raised(answer: Answer, kind: str, message: str) -> Grade:
    # a program that ends itself has not answered, however politely it did so
    outcome = {"MemoryError": "memory", "SystemExit": "crashed", "KeyboardInterrupt": "crashed"}.get(kind, "failed")
    return Grade(outcome=outcome, seconds=answer.seconds, detail=f"{kind}: {message}".rstrip(": "))


def _unfit(message: str) -> Grade:
    return Grade(outcome="infra_error", detail=f"{UNFIT_TESTS}: {message}")


def _died(answer: Answer, reason: str) -> Grade:
    how = f"signal {answer.code}" if answer.ended == "signalled" else f"exit status {answer.code}"
    detail = f"it ended with {how} before it had answered" + (f" ({reason})" if reason else "")
    return Grade(outcome="crashed", seconds=answer.seconds, detail=detail)


_OUT_OF_TIME = (24, 27)  # SIGXCPU and SIGPROF, the same on every Linux and macOS
