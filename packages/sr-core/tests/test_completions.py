"""Completions for an evaluation: the same for a task among any others, and what decides them as plain values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import make_policy, make_tasks

from sr_core.config import SamplingConfig
from sr_core.errors import PolicyError
from sr_core.evaluation import completions
from sr_core.evaluation.completions import Sampler, fingerprint

SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=6)


def test_a_task_gets_the_same_completions_in_any_batch_and_any_part(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, tasks = make_policy(), make_tasks(5)
    whole = list(Sampler(policy, SAMPLING, 3, 0).complete(tasks))
    part = list(Sampler(policy, replace(SAMPLING, batch_size=3), 3, 0).complete(tasks[2:4]))
    assert [answers.texts for answers in part] == [answers.texts for answers in whole[2:4]]
    assert [answers.texts for answers in Sampler(policy, SAMPLING, 3, 1).complete(tasks)] != [a.texts for a in whole]
    monkeypatch.setattr(completions, "CACHE_BYTES", 1)
    small = Sampler(policy, SAMPLING, 3, 0)
    assert small.sampling.batch_size == 1
    assert [answers.texts for answers in small.complete(tasks)] == [answers.texts for answers in whole]


def test_what_decides_the_completions_is_known() -> None:
    tasks = make_tasks(3)
    about = Sampler(make_policy(), SAMPLING, 3, 0).about(tasks)
    assert about == Sampler(make_policy(), SAMPLING, 3, 0).about(tasks)
    other = Sampler(make_policy(seed=1), replace(SAMPLING, stop=["a"]), 3, 0).about(tasks)
    assert {key for key in about if about[key] != other[key]} == {"weights", "prompts", "sampling"}
    assert fingerprint(make_policy()) == about["weights"]


def test_a_prompt_without_room_for_its_completion_is_refused_with_the_way_out() -> None:
    sampler = Sampler(make_policy(), replace(SAMPLING, max_new_tokens=127), 1, 0)
    with pytest.raises(PolicyError, match=r"at most 128 tokens.*t0.*lower it"):
        list(sampler.complete(make_tasks(1)))
