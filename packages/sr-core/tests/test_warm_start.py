"""The supervised start: what is learned, what is not, and what comes of it on disk."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_policy

from sr_core.config import PolicyConfig
from sr_core.errors import ConfigError, RunError
from sr_core.policy import Policy
from sr_core.policy.prompts import EncodedPrompt
from sr_core.runs import disk
from sr_core.sections import build, parse_settings
from sr_core.warm_start import Example, WarmStart, describe, examples_of, start_policy, warm_start


@dataclass(frozen=True)
class Solved:
    """Repeat the prompt's letter."""

    task_id: str
    prompt: str
    reference: str = ""
    prompt_is_code: bool = True


TASKS = [Solved(f"t{i}", letter + ":", letter + ":" + letter * (1 + i)) for i, letter in enumerate("abcd")]
PLAN = WarmStart(examples=60, batch=4, lr=2e-2)


def test_the_answers_become_likely_and_end() -> None:
    policy = make_policy()
    examples = examples_of(policy, TASKS, "tasks")
    assert [policy.decode([one.answer]) for one in examples] == [["a"], ["bb"], ["ccc"], ["dddd"]]
    assert all(one.answer[-1] == policy.eos_id for one in examples)
    losses = warm_start(policy, examples, PLAN)
    assert len(losses) == PLAN.steps == 15
    assert losses[-1] < 0.5 < 1 < losses[0]


def test_the_first_loss_is_that_of_the_answers_tokens_alone() -> None:
    policy = make_policy()
    examples = [Example(prompt=[2, 3], answer=[4, 0]), Example(prompt=[5], answer=[6, 7, 0])]
    with torch.no_grad():
        total = 0.0
        for one in examples:
            ids = torch.tensor([[*one.prompt, *one.answer]])
            logprobs = policy.model(input_ids=ids).logits[0].log_softmax(1)
            places = range(len(one.prompt), ids.shape[1])
            total -= sum(float(logprobs[place - 1, ids[0, place]]) for place in places)
    losses = warm_start(policy, examples, WarmStart(examples=2, batch=2))
    assert losses == [pytest.approx(total / 5, rel=1e-5)]


def test_parts_of_a_batch_change_no_weight() -> None:
    examples = [Example(prompt=[2 + i % 8] * (1 + i % 3), answer=[3 + i % 5] * (1 + i % 4) + [0]) for i in range(12)]
    whole, parts = make_policy(), make_policy()
    plan = WarmStart(examples=24, batch=8, lr=1e-3)
    first = warm_start(whole, examples, plan)
    assert warm_start(parts, examples, replace(plan, micro_batch_tokens=5)) == pytest.approx(first, rel=1e-4)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_every_example_is_shown_once_before_any_is_shown_again() -> None:
    seen: list[int] = []
    policy = make_policy()
    examples = [Example(prompt=[2], answer=[3 + i, 0]) for i in range(7)]

    class Noting(list[Example]):
        def __getitem__(self, place: Any) -> Any:
            seen.append(place)
            return super().__getitem__(place)

    warm_start(policy, Noting(examples), WarmStart(examples=14, batch=4))
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7))


def test_the_folder_is_a_policy_and_says_where_it_comes_from(tmp_path: Path) -> None:
    make_policy().save(tmp_path / "raw")
    told: list[float] = []
    config = PolicyConfig(path=str(tmp_path / "raw"))
    losses = start_policy(config, TASKS, "four letters", PLAN, tmp_path / "new" / "started", told.append)
    assert told == losses
    started = Policy.load(str(tmp_path / "new" / "started"))
    again = warm_start(started, examples_of(started, TASKS, ""), WarmStart(examples=4, batch=4))
    assert again[0] < 0.5
    said = json.loads((tmp_path / "new" / "started" / "warm_start.json").read_text())
    assert (said["policy"], said["tasks"], said["losses"]) == (config.path, "four letters", losses)
    with pytest.raises(RunError, match="must be new or empty"):
        start_policy(config, TASKS, "four letters", PLAN, tmp_path / "new" / "started")


def test_tasks_without_references_are_refused() -> None:
    with pytest.raises(ConfigError, match="none of the 2 tasks of 'bare' has one"):
        examples_of(make_policy(), [Solved("a", "a:"), Solved("b", "b:", " \n")], "bare")


def test_a_disk_without_room_is_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_policy().save(tmp_path / "raw")
    monkeypatch.setattr(disk, "SPARE", 1 << 60)  # no disk has this much
    told: list[float] = []
    with pytest.raises(RunError, match=r"the policy needs .* GB on the disk"):
        start_policy(PolicyConfig(path=str(tmp_path / "raw")), TASKS, "x", PLAN, tmp_path / "out", told.append)
    assert not told
    assert not (tmp_path / "out").exists()


def test_a_program_that_does_not_continue_its_prompt_is_the_whole_answer() -> None:
    policy = make_policy()
    (example,) = examples_of(policy, [Solved("t", "ab", "cd", prompt_is_code=False)], "x")
    assert policy.decode([example.answer]) == ["cd"]


@pytest.mark.parametrize(
    ("prefill", "answer"),
    [("", "```python\nab\n```"), ("```python\n", "ab\n```"), ("```py", "\nab\n```"), ("```a```", "```python\nab\n```")],
)
def test_an_answer_in_chat_closes_the_block_that_the_prefill_opened(
    prefill: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy()
    policy.prompt = "chat"
    written: list[str] = []
    monkeypatch.setattr("sr_core.warm_start.continuation_ids", lambda _, text: written.append(text) or [2])
    asked = EncodedPrompt(ids=[2], prefill=prefill)
    monkeypatch.setattr(policy, "prompts", lambda tasks: [asked for _ in tasks])
    examples_of(policy, [Solved("t", "b", "ab")], "x")
    assert written == [answer]


def test_tasks_that_are_too_long_are_left_out_and_nothing_else_is_an_error() -> None:
    policy = make_policy()
    long = [Solved("long", "a:", "a:" + "b" * 126), Solved("longer", "a:", "a:" + "b" * 200)]
    assert len(examples_of(policy, [*TASKS, *long], "x")) == len(TASKS)
    assert len(examples_of(policy, [replace(long[0], reference="a:" + "b" * 125)], "x")) == 1
    with pytest.raises(ConfigError, match=r"at most 128 tokens.*shortest of the 2 of 'x' has 129"):
        examples_of(policy, long, "x")


def test_what_to_do_next_keeps_the_tasks_and_how_they_were_put() -> None:
    config = PolicyConfig(path="raw", prompt="completion", template="my own.toml", shots=0, lora_rank=4)
    said = describe([2.0, 0.5], config, "a b.jsonl", Path("out/started"))
    command = shlex.split(said.partition("Next: ")[2])
    values = parse_settings(command[3:-2:2], {})
    assert values["tasks"] == {"path": "a b.jsonl"}
    assert build(PolicyConfig, values["policy"], "policy") == replace(config, path="out/started", lora_rank=0)
    assert "tasks" not in describe([2.0, 0.5], config, "testbed", Path("out"))


def test_the_same_seed_starts_the_same_and_another_does_not() -> None:
    made = [make_policy() for _ in range(3)]
    tasks = [Solved(f"t{i}", letter + ":", letter + ":" + "abcd"[: 1 + i % 4]) for i, letter in enumerate("abcdefghij")]
    losses = [
        warm_start(p, examples_of(p, tasks, ""), replace(PLAN, examples=6, batch=2, seed=seed))
        for p, seed in zip(made, (0, 0, 1), strict=True)
    ]
    assert losses[0] == losses[1] != losses[2]
