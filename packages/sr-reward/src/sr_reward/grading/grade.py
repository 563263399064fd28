"""The verdict on one sample."""

from __future__ import annotations

from dataclasses import dataclass

OUTCOMES = ("passed", "failed", "timeout", "memory", "crashed", "no_code", "infra_error")


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


NO_CODE = Grade(outcome="no_code", detail="the sample holds no code")
INFRA_ERROR = Grade(outcome="infra_error", detail="the sandbox failed twice on this program")
