from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from sr_cli.assemble import make_guard, make_planner, make_tasks
from sr_cli.config import ControllerConfig, RunConfig, TasksConfig, from_mapping
from sr_core.errors import ConfigError
from sr_monitor import CollapseGuard, EarlyStop


def names(tasks: object) -> set[str]:
    return {task.task_id for task in tasks}  # type: ignore[attr-defined]


def test_the_guards_options_have_the_guards_own_defaults() -> None:
    own = {name: p.default for name, p in inspect.signature(CollapseGuard).parameters.items()}
    ours = ControllerConfig()
    for name in ("false_alarm", "margin", "max_rollbacks", "lr_factor", "share"):
        assert getattr(ours, name) == own[name]
    # a run of ours draws its own evaluations, which cost more than a step if nothing bounds them
    assert (ours.evaluation, own["evaluation"]) == ("budget", "full")


def test_each_controller_is_what_it_says(tmp_path: Path) -> None:
    def controller(**values: object) -> RunConfig:
        return from_mapping({"controller": values})

    assert make_guard(controller(name="none")) is None
    assert isinstance(make_guard(controller(name="es", mode="patience")), EarlyStop)
    guard = make_guard(controller(name="guard", margin=0.2))
    assert isinstance(guard, CollapseGuard)
    assert guard.margin == 0.2
    assert make_planner(controller(name="guard"), 0, tmp_path) is None
    assert make_planner(controller(name="care"), 0, tmp_path) is not None


def test_pools_never_cross_and_draws_are_fresh_or_the_same() -> None:
    fresh, same = make_tasks(TasksConfig(), 0), make_tasks(TasksConfig(draw="same"), 0)
    train = set().union(*(names(fresh(k).train) for k in range(5)))
    heldout = set().union(*(names(fresh(k).heldout) for k in range(5)))
    assert not train & heldout
    assert not (train | heldout) & names(fresh(0).audit)
    assert len(fresh(0).audit) >= 200
    assert names(fresh(0).train) != names(fresh(1).train)
    assert names(same(0).train) == names(same(1).train)
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


def test_more_tasks_than_the_testbed_has_are_refused() -> None:
    for key in ("train", "heldout", "audit"):
        with pytest.raises(ConfigError, match=f"tasks.{key} must be at most .* got 99999"):
            make_tasks(TasksConfig(**{key: 99999}), 0)
