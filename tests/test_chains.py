"""Ten campaigns of twenty steps under every controller: the packages fit each other by shape, and hold together."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_care import CarePlanner
from sr_core import CampaignTasks, RunStore, Trainer, run_chain
from sr_core.config import ALGORITHM, CampaignConfig, EvaluateConfig, OptimConfig, SamplingConfig
from sr_core.protocols import LAST_ITERATE, Guard, Planner
from sr_monitor import LAST_ITERATE as THEIRS
from sr_monitor import CollapseGuard, EarlyStop

CAMPAIGNS, STEPS = 10, 20
Controllers = dict[str, Callable[[Path], tuple[Guard | None, Planner | None]]]
CONTROLLERS: Controllers = {
    "none": lambda _: (None, None),
    "es-next_budget": lambda _: (EarlyStop(mode="next_budget", samples=4), None),
    "es-patience": lambda _: (EarlyStop(mode="patience", samples=4), None),
    "care": lambda path: (None, CarePlanner(path / "memory.sqlite", version="v2", run="test")),
    "guard": lambda _: (CollapseGuard(samples=4), None),
}


def draw(campaign: int) -> CampaignTasks:
    return CampaignTasks(train=make_tasks(6, 6 * campaign), heldout=make_tasks(4, 100), audit=make_tasks(3, 200))


Books = tuple[dict[str, Any], list[dict[str, Any]]]  # the summary and the rows


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Books]:
    return cache(lambda controller, algorithm: run(tmp_path_factory.mktemp("chain"), controller, algorithm))


def run(tmp_path: Path, controller: str, algorithm: str) -> Books:
    config = make_config(
        sampling=SamplingConfig(prompts=2, group_size=3, temperature=1.0, max_new_tokens=3),
        algorithm=ALGORITHM[algorithm](),
        campaign=CampaignConfig(count=CAMPAIGNS, steps=STEPS, checkpoint_every=10),
        evaluate=EvaluateConfig(samples=4, audit_samples=1),
    )
    guard, planner = CONTROLLERS[controller](tmp_path)
    store = RunStore.create(tmp_path / "run", {})
    summary = run_chain(Trainer(make_policy(), LetterGrader(), config), draw, guard, planner, store=store)
    return summary.to_json(), store.rows()


@pytest.mark.parametrize("algorithm", ["reinforce", pytest.param("grpo", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_chain_runs_to_its_end_and_its_books_agree(
    chains: Callable[[str, str], Books], controller: str, algorithm: str
) -> None:
    summary, rows = chains(controller, algorithm)
    json.dumps(summary, allow_nan=False)
    assert len(summary["campaigns"]) == CAMPAIGNS
    for campaign in summary["campaigns"]:
        mine = [row for row in rows if row["campaign"] == campaign["campaign"]]
        assert [row["step"] for row in mine] == list(range(campaign["steps"] + 1))
        assert campaign["steps"] <= campaign["budget"] <= STEPS
        values = [row["heldout_pass1"] for row in mine if row["heldout_pass1"] is not None]
        assert campaign["peak"] == max(values)
        assert campaign["kept_step"] <= campaign["steps"]
    if controller == "none":
        assert len(rows) == CAMPAIGNS * (STEPS + 1)


def test_es_gives_the_next_campaign_the_last_peak_and_three_steps(chains: Callable[[str, str], Books]) -> None:
    summary, _ = chains("es-next_budget", "reinforce")
    for before, after in zip(summary["campaigns"], summary["campaigns"][1:], strict=False):
        assert after["budget"] == min(STEPS, before["peak_step"] + 3)
        assert before["kept_step"] == before["peak_step"]


def test_care_budgets_are_ten_or_twenty_by_the_last_ratio(chains: Callable[[str, str], Books]) -> None:
    summary, _ = chains("care", "reinforce")
    fell = [campaign["end"] < 0.7 * campaign["peak"] for campaign in summary["campaigns"]]
    assert True in fell[:-1]  # else the test shows nothing
    budgets = [campaign["budget"] for campaign in summary["campaigns"]]
    assert budgets == [20, *(10 if last else 20 for last in fell[:-1])]
    assert all(campaign["plan"]["reason"] for campaign in summary["campaigns"])


def test_the_guard_gets_the_last_iterate_measured_where_the_steps_are_means() -> None:
    assert LAST_ITERATE == THEIRS  # the packages do not import each other
    sections = {
        "optim": OptimConfig(lr=0.02, average=True),
        "campaign": CampaignConfig(count=2, steps=4, checkpoint_every=1),
        "evaluate": EvaluateConfig(samples=8, audit_samples=2),
    }
    rows: list[dict[str, Any]] = []
    trainer = Trainer(make_policy(), LetterGrader(), make_config(**sections))
    run_chain(trainer, draw, CollapseGuard(samples=8, last_iterate=True), None, on_row=rows.append)
    measured = [row["step"] for row in rows if row["last_iterate"] is not None]
    assert measured == [4, 4]
    assert all(row["last_iterate"]["heldout_samples"] == 8 for row in rows if row["step"] == 4)
