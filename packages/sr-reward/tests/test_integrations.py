"""Adapters, each against the real library where it is installed."""

import asyncio
import json
from pathlib import Path

import pytest

from sr_reward import CallCase, CallTests, CodeGrader, Task, TaskError
from sr_reward.grader import INFRA_ERROR
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
POLICY = next(iter(Path(__file__).resolve().parents[2].glob("sr-core/src/sr_core/policies/pocket-rich")), None)


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


def test_verl_finds_the_function_as_its_configuration_names_it():
    reward = pytest.importorskip("verl.trainer.ppo.reward", reason="needs verl")
    from types import SimpleNamespace

    config = {"custom_reward_function": {"path": verl_adapter.__file__, "name": "compute_score"}}
    found = reward.get_custom_reward_fn(SimpleNamespace(get=config.get, **config))
    assert found("code", "def f(x):\n    return x + 1\n", ROW)["score"] == 1.0


def test_verifiers_scores_with_it_and_leaves_a_broken_sandbox_unscored(monkeypatch):
    """The real library's own scoring: ``Task.score`` on a ``Trace``, as its rollouts end."""
    vf = pytest.importorskip("verifiers.v1", reason="the bench group has verifiers, from Python 3.11")
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
