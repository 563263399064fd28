"""Adapters, each against the real library where it is installed."""

import asyncio
import json
from pathlib import Path

import pytest

from sr_reward import CallCase, CallTests, CodeGrader, Task, TaskError
from sr_reward.grading.grade import INFRA_ERROR
from sr_reward.integrations import trl as trl_adapter
from sr_reward.integrations import verl as verl_adapter

TASK = Task(
    task_id="t1",
    prompt="def f(x):\n",
    entry_point="f",
    tests=CallTests(cases=(CallCase(args=(1,), expected=2), CallCase(args=(4,), expected=5))),
)
ROW = {
    "task_id": "t1",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "tests": {"kind": "calls", "cases": [{"args": [1], "expected": 2}]},
}
POLICY = next(iter(Path(__file__).resolve().parents[2].glob("sr-core/src/sr_core/policy/shipped/pocket-rich")), None)


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1) as made:
        yield made


def broken(*_, **__):
    return [INFRA_ERROR]


def test_trl_rewards_texts_and_chats(grader):
    reward = trl_adapter.reward_function([TASK], grader=grader)
    texts = ["    return x + 1\n", "    return x\n"]
    chats = [[{"role": "assistant", "content": f"```python\ndef f(x):\n{text}```"}] for text in texts]
    assert reward(completions=texts, prompts=["p"] * 2, task_id=["t1"] * 2) == [1.0, 0.0]
    assert reward(completions=chats, prompts=["p"] * 2, task_id=["t1"] * 2) == [1.0, 0.0]


def test_trl_gets_none_for_a_broken_sandbox(grader, monkeypatch):
    monkeypatch.setattr(grader, "grade", broken)
    assert trl_adapter.reward_function([TASK], grader=grader)(completions=["x"], task_id=["t1"]) == [None]


def test_trl_names_what_is_missing(grader):
    reward = trl_adapter.reward_function([TASK], grader=grader)
    with pytest.raises(TaskError, match="column 'task_id'"):
        reward(completions=["x"])
    with pytest.raises(TaskError, match="t9"):
        reward(completions=["x"], task_id=["t9"])


@pytest.mark.skipif(POLICY is None, reason="needs the shipped policy pocket-rich")
def test_trl_trains_with_it(tmp_path, grader):
    """Three steps of the real GRPOTrainer on a shipped policy, with rewards that differ within groups."""
    trl = pytest.importorskip("trl", reason="the bench group has trl")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    given = []
    reward = trl_adapter.reward_function([TASK], grader=grader)

    def recorded(**columns):
        given.append(reward(**columns))
        return given[-1]

    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=16,
        max_steps=3,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
    )
    trainer = trl.GRPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(POLICY),
        processing_class=transformers.AutoTokenizer.from_pretrained(POLICY),
        args=config,
        reward_funcs=recorded,
        train_dataset=datasets.Dataset.from_list([{"prompt": TASK.prompt, "task_id": "t1"}] * 8),
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert len(given) == 3
    assert all(value in (0.0, 1.0) for rewards in given for value in rewards)


def test_verl_scores_whole_programs_and_completions():
    score = verl_adapter.compute_score
    right = "def f(x):\n    return x + 1\n"
    assert score("code", right, ROW) == {"score": 1.0, "infra_error": 0.0}
    assert score("code", right.replace("1", "2"), json.dumps(ROW))["score"] == 0.0
    assert score("code", "    return x + 1\n", ROW, {"completion": True})["score"] == 1.0


def test_verl_gets_the_mean_of_the_task_for_a_broken_sandbox(monkeypatch):
    row = {**ROW, "task_id": "t2"}
    for text in ("return x + 1", "return x + 1", "return x + 1", "return x"):
        verl_adapter.compute_score("code", f"def f(x):\n    {text}\n", row)
    monkeypatch.setattr(CodeGrader, "grade", broken)
    assert verl_adapter.compute_score("code", "x", row) == {"score": 0.75, "infra_error": 1.0}
    assert verl_adapter.compute_score("code", "x", {**ROW, "task_id": "t3"})["score"] == 0.5


@pytest.mark.skipif(POLICY is None, reason="needs the tokenizer of the shipped policy pocket-rich")
@pytest.mark.parametrize("sandbox", ["works", "broken"])
def test_verl_rewards_through_its_own_manager(monkeypatch, sandbox):
    """The function as verl's configuration names it, called by verl's reward manager on token ids."""
    why = "needs verl (beside the bench group: uv pip install --no-deps verl tensordict pyvers orjson hydra-core)"
    managers = pytest.importorskip("verl.workers.reward_manager", reason=why, exc_type=ImportError)
    from types import SimpleNamespace

    import numpy as np
    import torch
    from transformers import AutoTokenizer
    from verl import DataProto
    from verl.trainer.ppo import reward as verl_reward

    named = {"path": verl_adapter.__file__, "name": "compute_score"}
    config = {"custom_reward_function": named, "reward": {"custom_reward_function": named}}
    found = verl_reward.get_custom_reward_fn(SimpleNamespace(get=config.get, **config))
    if sandbox == "broken":
        monkeypatch.setattr(CodeGrader, "grade", broken)
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    texts = ["def f(x):\n    return x + 1\n", "def f(x):\n    return x + 2\n"]
    replies = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, replies))
    data = DataProto.from_dict(
        tensors={
            "prompts": torch.ones(2, 1, dtype=torch.long),
            "responses": torch.tensor([ids + [0] * (width - len(ids)) for ids in replies]),
            "attention_mask": torch.tensor([[1] + [1] * len(ids) + [0] * (width - len(ids)) for ids in replies]),
        },
        non_tensors={
            "data_source": np.array(["code", "code"], dtype=object),
            "reward_model": np.array([{"ground_truth": {**ROW, "task_id": sandbox}}] * 2, dtype=object),
            "extra_info": np.array([{}, {}], dtype=object),
        },
    )
    given = managers.NaiveRewardManager(tokenizer, num_examine=0, compute_score=found)(data, return_dict=True)
    scores = given["reward_tensor"].sum(-1).tolist()
    assert scores == ([1.0, 0.0] if sandbox == "works" else [0.5, 0.5])
    assert given["reward_extra_info"]["infra_error"] == [float(sandbox == "broken")] * 2


def test_verifiers_scores_with_it_and_leaves_a_broken_sandbox_unscored(monkeypatch):
    """The real library's own scoring: ``Task.score`` on a ``Trace``, as its rollouts end."""
    vf = pytest.importorskip("verifiers.v1", reason="needs verifiers: uv sync --inexact --group verifiers")
    from sr_reward.integrations.verifiers import CodeData, CodeTask

    def score(text):
        task = CodeTask(CodeData(row=ROW))
        agent = vf.AgentInfo(config=vf.AgentConfig())
        trace = vf.Trace(agent=agent, task=vf.TraceTask(type="CodeTask", data=task.data), root_reply=text)
        asyncio.run(task.score(trace))
        return trace

    assert score("```python\ndef f(x):\n    return x + 1\n```").reward == 1.0
    assert score("def f(x):\n    return x\n").reward == 0.0
    monkeypatch.setattr(CodeGrader, "grade", broken)
    with pytest.raises(vf.SandboxError):
        score("def f(x):\n    return x\n")
