"""The terms of a report, explained at its end: it works offline, so it brings its glossary along."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A term, its anchor in the report, and its meaning."""

    name: str
    anchor: str
    meaning: str


# docs/glossary.md has these, too
GLOSSARY = (
    Term(
        "held-out tasks", "held-out", "Tasks that are not trained on. The guard evaluates on them and decides by them."
    ),
    Term("audit set", "audit", "A test set that is never used for decisions."),
    Term("campaign", "campaign", "A fixed set of tasks and at most so many updates on them."),
    Term(
        "evaluation",
        "evaluation",
        "Sampling the held-out tasks and scoring the samples. Its result is an estimate, with noise.",
    ),
    Term(
        "peak",
        "peak",
        "The best held-out evaluation of a campaign; chosen from noisy ones, so biased upward.",
    ),
    Term("corrected", "corrected", "The peak without the upward bias of the best of many noisy evaluations."),
    Term("gap", "gap", "Peak minus end. Evaluation noise alone makes it positive."),
    Term("p", "p", "How often a policy that never changes shows as large a gap under the same evaluations."),
    Term(
        "onset",
        "onset",
        "The evaluation from which on the curve stays in the worse half between peak and end.",
    ),
    Term("in one step", "one-step", "The largest fall between two evaluations, as a share of the gap."),
    Term(
        "kept",
        "kept",
        "The policy that a campaign ends with: the next one starts from it. “last” is the last iterate itself, where "
        "the steps are averages of iterates.",
    ),
)
