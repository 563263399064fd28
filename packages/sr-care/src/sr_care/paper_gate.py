"""The gate as the paper deployed it: end over peak pass@1 of the last campaign, a pilot when it fell."""

from __future__ import annotations

from dataclasses import dataclass

from sr_care.entry import Boundary
from sr_care.errors import EntryError, check_number


@dataclass(frozen=True, kw_only=True)
class PaperGate:
    """Baseline beside ``TransferGate``; the test is the paper's (as a reader reports it), the limit our
    choice.

    ``limit``: a campaign that ended below this share of its peak is a detection. The paper's threshold is
    unknown; its 7B campaigns ended at 48% of their peak on average and a collapse was a fall of 20 points
    from a mean peak of 34, that is to 41%, while evaluation noise alone (3 points of 34) leaves 91%. 0.7 lies
    between. ``pilot_steps`` and ``full_steps`` are the paper's budgets.
    """

    limit: float = 0.7
    pilot_steps: int = 10
    full_steps: int = 20

    def __post_init__(self) -> None:
        check_number("gate.limit", self.limit, 0, 1)
        check_number("gate.pilot_steps", self.pilot_steps, 1, whole=True)
        check_number("gate.full_steps", self.full_steps, 1, whole=True)
        if self.pilot_steps > self.full_steps:
            raise EntryError(f"gate.pilot_steps must not exceed full_steps, got {self.pilot_steps} > {self.full_steps}")

    def fell(self, boundary: Boundary | None) -> bool:
        """Whether a campaign is a detection; False when it was not measured or there was none."""
        ratio = boundary.ratio if boundary is not None else None
        return ratio is not None and ratio < self.limit

    def budget(self, last: Boundary | None) -> int:
        """Gradient steps for the next campaign, given the last one's curve."""
        return self.pilot_steps if self.fell(last) else self.full_steps
