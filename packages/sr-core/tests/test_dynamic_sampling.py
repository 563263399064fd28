from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import LetterGrade, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, Trainer, run_campaign
from sr_core.batch import Batch
from sr_core.config import DapoConfig, SamplingConfig
from sr_core.dynamic_sampling import replace_equal_groups

TASKS = CampaignTasks(train=make_tasks(8), heldout=make_tasks(2, 10))


class ParityGrader:
    """Gives one reward to every answer of the tasks in ``dull``, and alternating ones to the others'."""

    def __init__(self, dull: set[str]) -> None:
        self.dull = dull
        self.asked: list[list[str]] = []

    def grade(self, tasks: Any, completions: Any) -> list[LetterGrade]:
        self.asked.append(list(dict.fromkeys(t.task_id for t in tasks)))
        return [LetterGrade(0.0 if t.task_id in self.dull else float(i % 2)) for i, t in enumerate(tasks)]


def step(grader: ParityGrader, tries: int) -> tuple[Batch, Batch, list[str]]:
    """The first draw and what became of it, and the phases that were timed."""
    config = make_config(algorithm=DapoConfig(resample=tries), sampling=SamplingConfig(prompts=4, group_size=4))
    trainer = Trainer(make_policy(), grader, config)
    batch = TASKS.train[:4]
    first = trainer.grade(batch, trainer.rollout(batch, campaign=0, step=1))
    clocks = progress_clock()
    return first, replace_equal_groups(trainer, TASKS, batch, first, clocks, campaign=0, step=1), clocks.seen


class progress_clock:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, phase: str) -> progress_clock:
        self.seen.append(phase)
        return self

    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def test_groups_of_equal_rewards_are_replaced_by_other_tasks_and_all_tokens_count() -> None:
    grader = ParityGrader(dull={"t1", "t3"})
    first, result, phases = step(grader, tries=3)
    assert phases == ["rollout", "grade"]
    assert len(grader.asked[1]) == 2
    assert not set(grader.asked[1]) & {"t0", "t1", "t2", "t3"}
    assert (result.rewards_PG.std(1) > 0).all()
    fresh = [result.rollout.prompts[i] for i in (1, 3)]
    assert result.rollout.prompts[::2] == first.rollout.prompts[::2]
    assert fresh != [first.rollout.prompts[i] for i in (1, 3)]
    assert result.rollout.tokens[:4] == first.rollout.tokens[:4]
    second = sum(len(t) for group in (1, 3) for t in result.rollout.tokens[group * 4 : group * 4 + 4])
    assert result.sampled_tokens == first.sampled_tokens + second
    assert [len(t) for t in result.rollout.tokens] == [len(v) for v in result.rollout.logprobs]


def test_the_signals_stay_those_of_the_first_draw() -> None:
    first, result, _ = step(ParityGrader(dull={"t1", "t3"}), tries=1)
    expected = replace(first.stats(), sampled_tokens=float(result.sampled_tokens))
    assert result.stats() == expected
    assert expected.zero_std_groups == 0.5


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_the_tries_are_bounded_and_what_stays_equal_has_no_advantage(tries: int) -> None:
    grader = ParityGrader(dull={task.task_id for task in TASKS.train})
    first, result, _ = step(grader, tries=tries)
    assert len(grader.asked) == 1 + tries
    assert (result is first) == (tries == 0)
    assert (result.rewards_PG == 0).all()


def test_dapo_resamples_by_itself_and_a_step_without_any_signal_changes_nothing() -> None:
    grader = ParityGrader(dull={task.task_id for task in (*TASKS.train, *TASKS.heldout)})
    config = make_config(algorithm=DapoConfig())
    trainer = Trainer(make_policy(), grader, replace(config, campaign=replace(config.campaign, steps=1)))
    before = trainer.weights()
    rows: list[dict[str, Any]] = []
    run_campaign(trainer, TASKS, on_row=rows.append)
    assert len(grader.asked) == 2 + 1 + 3  # two evaluations, a draw and three more
    assert rows[1]["sampled_tokens"] > rows[1]["length"] * 12
    assert all(torch.equal(before[name], now) for name, now in trainer.weights().items())
