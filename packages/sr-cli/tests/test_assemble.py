from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from sr_care import CareError, CarePlanner
from sr_cli.assemble import given_tasks, make_grader, make_guard, make_planner, make_tasks
from sr_cli.config import CollapseConfig, RunConfig, TasksConfig, from_mapping
from sr_core.errors import ConfigError
from sr_core.evaluation.grading import find_ungradable
from sr_core.tasks import family_of
from sr_monitor import CollapseGuard, EarlyStop


def names(tasks: object) -> set[str]:
    return {task.task_id for task in tasks}  # type: ignore[attr-defined]


def test_the_guards_options_have_the_guards_own_defaults() -> None:
    own = {name: p.default for name, p in inspect.signature(CollapseGuard).parameters.items()}
    ours = CollapseConfig()
    for name in ("false_alarm", "margin", "max_rollbacks", "lr_factor"):
        assert getattr(ours, name) == own[name]
    assert ours.budget == own["share"]


def configured(**sections: dict[str, object]) -> RunConfig:
    return from_mapping(sections)


def test_each_guard_is_what_it_says() -> None:
    assert make_guard(configured()) is None
    stop = make_guard(configured(guard={"name": "early_stop", "mode": "patience", "patience": 5}))
    assert isinstance(stop, EarlyStop)
    assert (stop.mode, stop.patience) == ("patience", 5)
    guard = make_guard(configured(guard={"name": "collapse", "margin": 0.2, "budget": 0.1}))
    assert isinstance(guard, CollapseGuard)
    assert (guard.margin, guard.evaluation, guard.share, guard.last_iterate) == (0.2, "budget", 0.1, True)
    full = make_guard(configured(guard={"name": "collapse", "budget": 1}, optim={"average": False}))
    assert isinstance(full, CollapseGuard)
    assert (full.evaluation, full.last_iterate) == ("full", False)


def test_a_guard_and_a_planner_work_together(tmp_path: Path) -> None:
    both = configured(guard={"name": "collapse"}, planner={"name": "care", "version": "v3"})
    assert isinstance(make_guard(both), CollapseGuard)
    planner = make_planner(both, 0, tmp_path)
    assert isinstance(planner, CarePlanner)
    assert (tmp_path / "memory.sqlite").exists()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(CareError, match="the memory must exist"):
        make_planner(both, 0, tmp_path / "elsewhere", resumed=True)
    fixed = configured(guard={"name": "early_stop"}, planner={"name": "schedule", "budgets": [3, 0]})
    assert isinstance(make_guard(fixed), EarlyStop)
    schedule = make_planner(fixed, 0, tmp_path)
    assert schedule is not None
    steps = [schedule.plan(k, {"strategy": {"lr": 0.1}}).steps for k in range(3)]
    assert steps == [3, 0, 0]
    assert make_planner(configured(guard={"name": "collapse"}), 0, tmp_path) is None


def test_pools_never_cross_and_every_campaign_has_a_draw_of_its_own() -> None:
    fresh = make_tasks(TasksConfig(), 0)
    train = set().union(*(names(fresh(k).train) for k in range(5)))
    heldout = set().union(*(names(fresh(k).heldout) for k in range(5)))
    assert not train & heldout
    assert not (train | heldout) & names(fresh(0).audit)
    assert len(fresh(0).audit) >= 200
    assert names(fresh(0).train) != names(fresh(1).train)
    assert names(fresh(0).train) == names(make_tasks(TasksConfig(), 0)(0).train)
    assert names(make_tasks(TasksConfig(), 1)(0).train) != names(fresh(0).train)


def test_a_task_file_is_split_into_pools_that_never_cross(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    case = {"args": [1], "kwargs": {}, "expected": 1}
    tests = {"kind": "calls", "cases": [case]}
    rows = [{"task_id": f"t{i}", "prompt": "def f(x):\n", "entry_point": "f", "tests": tests} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw = make_tasks(TasksConfig(path=str(path), train=8, heldout=4, audit=5), 0)
    train = set().union(*(names(draw(k).train) for k in range(9)))
    heldout = set().union(*(names(draw(k).heldout) for k in range(9)))
    assert not train & heldout
    assert not (train | heldout) & names(draw(0).audit)
    with pytest.raises(ConfigError, match=r"must be at most 20 .* got 12 \+ 5 \+ 5"):
        make_tasks(TasksConfig(path=str(path), train=12, heldout=5, audit=5), 0)


def test_tasks_whose_tests_cannot_run_are_named_when_they_are_loaded_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "HumanEval.jsonl.gz.jsonl"
    right = {"kind": "asserts", "code": "assert f(1) == 1\n"}
    broken = {"kind": "asserts", "code": "import a_package_that_nobody_has\nassert f(1) == 1\n"}
    rows = [
        {"task_id": f"t{i}", "prompt": "def f(x):\n", "entry_point": "f", "tests": broken if i == 3 else right}
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configured(tasks={"path": str(path), "train": 4, "heldout": 3, "audit": 0})
    with make_grader(config) as grader:
        left_out = find_ungradable(grader, given_tasks(config.tasks))
    assert list(left_out) == ["t3"]
    assert "a_package_that_nobody_has" in left_out["t3"]
    draw = make_tasks(config.tasks, 0, left_out)
    assert "t3" not in set().union(*(names(draw(k).train) | names(draw(k).heldout) for k in range(6)))
    assert draw(0).family == "HumanEval"
    with pytest.raises(ConfigError, match="must be at most 7"):
        make_tasks(TasksConfig(path=str(path), train=5, heldout=3, audit=0), 0, left_out)


@pytest.mark.parametrize("key", ["audit", *(pytest.param(k, marks=pytest.mark.nightly) for k in ("train", "heldout"))])
def test_more_tasks_than_the_testbed_has_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"tasks.{key} must be at most .* got 99999"):
        make_tasks(TasksConfig(**{key: 99999}), 0)


@pytest.mark.parametrize("path", ["HumanEval.jsonl.gz", "dir/HumanEval.jsonl", "HumanEval"])
def test_a_family_is_named_as_its_file_without_endings(path: str) -> None:
    assert family_of(path) == "HumanEval"
    assert family_of("a/qwen2.5-tasks.json") == "qwen2.5-tasks"
