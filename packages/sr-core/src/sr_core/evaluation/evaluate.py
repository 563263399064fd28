"""Measuring a policy on tasks: k samples each, at the training temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sr_core.config import SamplingConfig
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.engine import Engine
from sr_core.errors import GraderError
from sr_core.evaluation.grading import grade_all
from sr_core.protocols import Grade, Grader, Task

__all__ = ["Evaluation", "HeldOut", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """``passes[i]`` of ``samples`` completions of task i passed; ``examples`` shows the first completion of each.

    ``unique[i]`` of them are different texts, and ``well_formed[i]`` hold a program that Python can parse, as far as
    the verdicts tell: one without code, or with a ``detail`` that names a syntax error, says no. ``halves``: pass@1 on
    every other sample of each task and on the rest, so that a policy can be chosen by one and measured by the other.
    ``infra_errors``: samples without a verdict. ``finite``: whether the policy could be sampled from.
    """

    passes: list[int]
    unique: list[int]
    well_formed: list[int]
    samples: int
    examples: list[dict[str, Any]]
    halves: tuple[float, float]
    infra_errors: int = 0
    finite: bool = True

    @classmethod
    def of_nothing(cls, tasks: int, samples: int) -> Evaluation:
        """Zero passes, for a policy with non-finite scores."""
        none = [0] * tasks
        return cls(
            passes=none, unique=none, well_formed=none, samples=samples, examples=[], halves=(0.0, 0.0), finite=False
        )

    @property
    def pass1(self) -> float:
        """Mean over tasks of the share that passed."""
        return sum(self.passes) / (len(self.passes) * self.samples)

    @property
    def se(self) -> float:
        """Standard error of ``pass1`` from drawing samples on *these* tasks (not from drawing tasks).

        A single sample says nothing about a task's own spread: then that of equally hard tasks, the largest it can be.
        """
        rates = [self.pass1] * len(self.passes) if self.samples == 1 else [p / self.samples for p in self.passes]
        within = sum(r * (1 - r) for r in rates) / max(self.samples - 1, 1)
        return math.sqrt(within) / len(rates)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A held-out evaluation as a step's row has it; ``unique``, ``well_formed`` and ``passes`` are counts by task.

    Counts of some of the tasks cannot be compared task by task: then ``passes`` and ``samples`` are None.
    ``infra_errors``: samples without a verdict (None in rows of older versions).
    """

    pass1: float
    se: float
    unique: list[int]
    well_formed: list[int]
    passes: list[int] | None
    samples: int | None
    infra_errors: int | None = 0

    @classmethod
    def of(cls, measured: Evaluation, *, of_all: bool) -> HeldOut:
        """``of_all``: whether all held-out tasks were measured."""
        return cls(
            pass1=measured.pass1,
            se=measured.se,
            unique=measured.unique,
            well_formed=measured.well_formed,
            passes=measured.passes if of_all else None,
            samples=measured.samples if of_all else None,
            infra_errors=measured.infra_errors,
        )


def evaluate(
    engine: Engine,
    tasks: Sequence[Task],
    samples: int,
    grader: Grader,
    sampling: SamplingConfig,
    rng: torch.Generator,
    *,
    max_infra_share: float = 0.25,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Draw and grade ``samples`` completions per task, each process its share.

    Samples that the grader could not judge are graded once more. What then still has no verdict counts by the share of
    its task's judged samples that passed, or of all judged samples where its task has none, so that a broken grader
    moves the mean neither way. Raises GraderError when more than ``max_infra_share`` of the samples have no verdict, or
    all.
    """
    policy = engine.policy
    with ranks.sync_errors():
        prompts = policy.prompts(tasks, sampling.stop)
        mine = ranks.share(len(tasks))
        rollout = engine.sample(prompts, samples, sampling, rng, only=mine)
    texts = ranks.gather(policy.answers(prompts[mine.start : mine.stop], rollout.tokens))
    repeated = [task for task in tasks for _ in range(samples)]
    grades = grade_all(grader, repeated, texts, max_infra_share=max_infra_share, ranks=ranks)
    judged = [g for g in grades if g.reward is not None]
    if not judged:
        raise GraderError(f"the grader gave no verdict on any of {len(grades)} samples: see its log")
    passes, unique, well_formed = [], [], []
    for i in range(len(tasks)):
        own = slice(i * samples, (i + 1) * samples)
        known = [g for g in grades[own] if g.reward is not None] or judged
        passes.append(round(sum(g.reward or 0.0 for g in known) * samples / len(known)))
        unique.append(len(set(texts[own])))
        well_formed.append(round(sum(map(_is_well_formed, known)) * samples / len(known)))
    examples = [
        {
            "task_id": task.task_id,
            "prompt": task.prompt,
            "completion": texts[i * samples],
            "outcome": grades[i * samples].outcome,
        }
        for i, task in enumerate(tasks)
    ]
    return Evaluation(
        passes=passes,
        unique=unique,
        well_formed=well_formed,
        samples=samples,
        infra_errors=len(grades) - len(judged),
        examples=examples,
        halves=(_rate(grades, samples, 0), _rate(grades, samples, 1)),
    )


def _rate(grades: Sequence[Grade], samples: int, half: int) -> float:
    """Share that passed of every other judged sample of each task, from ``half`` on; a single sample is both halves."""
    rewards = [g.reward for i, g in enumerate(grades) if samples == 1 or i % samples % 2 == half]
    judged = [reward for reward in rewards if reward is not None]
    return sum(judged) / max(len(judged), 1)


def _is_well_formed(grade: Grade) -> bool:
    syntax = ("SyntaxError", "IndentationError", "TabError")
    return grade.outcome != "no_code" and not getattr(grade, "detail", "").startswith(syntax)
