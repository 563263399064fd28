"""pass@k of graded samples: which k, over which tasks, and how a person reads it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sr_reward.errors import TaskError
from sr_reward.formats import Sample
from sr_reward.grading.grade import OUTCOMES, Grade
from sr_reward.grading.stats import PassAtK, mean_pass_at_k

_REASONS = 3  # the most frequent so many are said


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of graded samples: the number of their tasks, pass@k, and how often each outcome."""

    tasks: int
    scores: list[PassAtK]
    outcomes: Counter[str]

    def as_json(self) -> dict[str, Any]:
        """The part of ``sr grade --json`` that is about outcomes."""
        return {
            **{f"pass@{score.k}": score.value for score in self.scores},
            "intervals": {f"pass@{score.k}": [score.low, score.high] for score in self.scores},
            "outcomes": {outcome: self.outcomes[outcome] for outcome in OUTCOMES},
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        for score in self.scores:
            yield f"  pass@{score.k:<4} {score.value:7.2%}   95% interval {score.low:.1%} to {score.high:.1%}"
        for outcome in OUTCOMES:
            if self.outcomes[outcome]:
                yield f"  {outcome:<12} {self.outcomes[outcome]}"


def summarize(samples: Sequence[Sample], outcomes: Sequence[str], k: str | None) -> Summary:
    """pass@k for each k, outcomes counted, and the number of tasks. Infrastructure failures are no samples."""
    per_task: dict[str, list[str]] = defaultdict(list)
    for sample, outcome in zip(samples, outcomes, strict=True):
        per_task[sample.task_id].append(outcome)
    judged = [[outcome for outcome in found if outcome != "infra_error"] for found in per_task.values()]
    counts = [(len(found), found.count("passed")) for found in judged if found]
    scores = [mean_pass_at_k(counts, wanted) for wanted in read_ks(k, counts)]
    return Summary(tasks=len(per_task), scores=scores, outcomes=Counter(outcomes))


def read_ks(text: str | None, counts: Sequence[tuple[int, int]]) -> list[int]:
    """The ks to report: those asked for, each once, of which every task must have samples; by default 1 and, where
    there are enough samples, 10."""
    fewest = min((n for n, _ in counts), default=0)
    if text is None:
        return [k for k in (1, 10) if k <= fewest]
    try:
        ks = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        ks = [0]
    if min(ks) < 1:
        raise TaskError(f"--k takes numbers of at least 1 with commas between, got {text!r}; for example 1,10")
    if max(ks) > fewest:
        raise TaskError(
            f"pass@{max(ks)} needs {max(ks)} graded samples of every task, got {fewest} of one; ask for a smaller k"
        )
    return ks


def ungraded_lines(samples: Sequence[Sample], grades: Sequence[Grade], separation: str) -> Iterator[str]:
    """How many samples have no verdict, of how many tasks, why, and what to do."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for sample, grade in zip(samples, grades, strict=True):
        if grade.outcome == "infra_error":
            reasons[grade.detail].append(sample.task_id)
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1]))[:_REASONS]:
        tasks = len(set(names))
        count = f"{len(names)} sample{'s' if len(names) > 1 else ''} of {tasks} task{'s' if tasks > 1 else ''}"
        yield f"{count} not graded, such as {names[0]}: {reason or 'no reason was given'}"
    if unfit := unfit_tasks(samples, grades):
        advice = "give the packages that they import with --packages DIR"
        if separation != "none":
            advice += ", or run tests that need the program's process there with --separation none"
        count = f"{len(unfit)} task{'s have' if len(unfit) > 1 else ' has'} tests that cannot run here"
        yield f"{count}: {advice}"


def unfit_tasks(samples: Sequence[Sample], grades: Sequence[Grade]) -> set[str]:
    """The tasks whose tests cannot run here, whatever the program."""
    return {sample.task_id for sample, grade in zip(samples, grades, strict=True) if grade.is_unfit}
