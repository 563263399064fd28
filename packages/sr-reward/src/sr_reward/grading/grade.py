"""The verdict on one sample."""

from __future__ import annotations

from dataclasses import dataclass

SEPARATIONS = ("processes", "none")
UNFIT_TESTS = "the task's tests cannot run here"
OUTCOMES = ("passed", "failed", "timeout", "memory", "crashed", "no_code", "infra_error")


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The verdict on one sample: one of ``OUTCOMES``, the CPU seconds its program took, and a line on why.

    ``separation`` is ``none`` where tests and program ran in one process, which lets a program decide its verdict."""

    outcome: str
    seconds: float = 0.0
    detail: str = ""
    separation: str = "processes"

    @property
    def is_unfit(self) -> bool:
        """Whether the task's tests could not run, whatever the program does."""
        return self.outcome == "infra_error" and self.detail.startswith(UNFIT_TESTS)

    @property
    def reward(self) -> float | None:
        """1.0 where it passed, 0.0 where it did not, None where the grader itself failed (never a reward)."""
        if self.outcome == "infra_error":
            return None
        return 1.0 if self.outcome == "passed" else 0.0


NO_CODE = Grade(outcome="no_code", detail="the sample holds no code")
INFRA_ERROR = Grade(outcome="infra_error", detail="the sandbox failed twice on this program")
