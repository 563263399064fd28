"""Grades completions against tasks: programs go out as data, outputs come back as data.

Nothing that a model wrote or that a program returned is parsed, compiled or compared in this process (see
``grading.reader``); it handles text at linear cost only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sr_reward.errors import TaskError
from sr_reward.grading.extract import question_of
from sr_reward.grading.grade import NO_CODE, Grade
from sr_reward.grading.requests import READER, program_of
from sr_reward.grading.trials import TrialSettings, grade_sample
from sr_reward.sandbox import Sandbox
from sr_reward.task import Task


class CodeGrader:
    """Grades model-written Python.

    ``workers`` lanes (default: one per usable core) run programs at an ``isolation`` level (see ``Sandbox``;
    ``require_isolation`` names the weakest level that is accepted). ``timeout_s`` is CPU time, so a loaded machine
    changes no verdict; a program that merely sleeps is stopped after the same time. It holds for each run of a script,
    for each call (all calls of a program together may take ten times that), and for all asserts together; None takes
    the time of each task's format (``sr_reward.rules``). ``memory_mb`` bounds what a program holds at once,
    ``output_mb`` what it returns and what it prints. With ``deduplicate``, equal programs for one deterministic task
    are run once per batch. ``trim`` lets an answer that was cut off count up to its last whole statement.

    Test code runs in a process of its own; with ``separation="none"`` tests that cannot (they would be
    ``infra_error``) run in the program's, where it can decide its own verdict, and their grades say so. ``packages`` is
    a virtual environment's directory whose packages programs and tests may import, read-only. Nothing is started before
    the first call of ``grade``; one call at a time is served, others wait. Errors: ``TaskError`` for input that does
    not fit, ``IsolationError`` where a level is not available.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float | None = None,
        memory_mb: int = 512,
        output_mb: int = 16,
        isolation: str = "auto",
        require_isolation: str | None = None,
        deduplicate: bool = True,
        separation: str = "processes",
        packages: str | None = None,
        trim: bool = False,
    ) -> None:
        self.deduplicate = deduplicate
        self.settings = TrialSettings(timeout_s=timeout_s, trim=trim, separation=separation)
        self.sandbox = Sandbox(
            workers=workers,
            timeout_s=3.0 if timeout_s is None else timeout_s,
            memory_mb=memory_mb,
            output_mb=output_mb,
            isolation=isolation,
            require_isolation=require_isolation,
            packages=packages,
            reader=READER,
        )

    @property
    def isolation(self) -> str:
        """The level in force: ``full``, ``landlock`` or ``limits``. Starts the workers if need be."""
        return self.sandbox.isolation

    def grade(self, tasks: Sequence[Task], completions: Sequence[str], *, solutions: bool = False) -> list[Grade]:
        """One grade per sample, in order: ``completions[i]`` answers ``tasks[i]``.

        A completion continues its task's prompt; with ``solutions`` each is a whole program. Code is taken out
        of chat-like text by the rules of ``sr_reward.grading.extract``, in the reader's process.
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
        first_with: dict[object, int] = {}
        numbers, trials = [], []
        for number, (task, completion, solution) in enumerate(zip(tasks, completions, whole, strict=True)):
            if not completion or completion.isspace():
                yield number, NO_CODE
                continue
            shared = first_with if self.deduplicate and task.deterministic else None
            numbers.append(number)
            trials.append(
                grade_sample(task, completion, self.settings, solution=solution, number=number, first_with=shared)
            )
        known: dict[int, Grade] = {}
        equal: dict[int, list[int]] = {}  # samples that wait for the grade of an equal one
        for place, found in self.sandbox.stream(trials):
            number = numbers[place]
            if isinstance(found, int):
                if found not in known:
                    equal.setdefault(found, []).append(number)
                    continue
                found = known[found]
            known[number] = found
            yield number, found
            for other in equal.pop(number, ()):
                known[other] = found
                yield other, found

    def programs(self, tasks: Sequence[Task], completions: Sequence[str]) -> list[str | None]:
        """The program that would be run for each completion, None where there is no code in it; nothing is run."""
        trials = [
            program_of(question_of(task, trim=self.settings.trim), completion, solution=False)
            for task, completion in zip(tasks, completions, strict=True)
        ]
        return self.sandbox.run(trials)

    def close(self) -> None:
        """End the workers. The grader may be used again."""
        self.sandbox.close()

    def __enter__(self) -> CodeGrader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
