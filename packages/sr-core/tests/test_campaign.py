from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, RunStore, Trainer, run_campaign, run_chain
from sr_core.config import ALGORITHM, PENALTY, CampaignConfig, EvaluateConfig, KlConfig, OptimConfig
from sr_core.errors import ConfigError, GraderError, NonFiniteError
from sr_core.evaluation.capabilities import CapabilityChange
from sr_core.evaluation.grading import find_ungradable
from sr_core.loop.summary import FIRST, Audit, CampaignPlan, CampaignSummary, ChainSummary
from sr_core.protocols import LAST_ITERATE
from sr_core.sections import build
from sr_core.seeds import seed_for
from sr_core.unguarded import Unguarded

TASKS = CampaignTasks(train=make_tasks(7), heldout=make_tasks(5, 10), audit=make_tasks(4, 20))


@dataclass(frozen=True)
class Answer:
    action: str = "continue"
    rule: str = "script"
    value: float | None = None
    limit: float | None = None
    reason: str = "as written"
    to_step: int | None = None
    lr_factor: float = 1.0
    reset_optimizer: bool = False


class ScriptedGuard(Unguarded):
    """Decides what its script says; holds and keeps ``keep``."""

    def __init__(self, script: dict[int, Answer], keep: int = 1) -> None:
        super().__init__(samples=4)
        self.script = script
        self.keep = keep
        self.seen: list[dict[str, Any]] = []
        self.reset_optimizer = True

    def decide(self, step, signals):  # type: ignore[no-untyped-def]
        super().decide(step, signals)
        self.seen.append(dict(signals))
        return self.script.get(step, Answer())

    def retained(self) -> frozenset[int]:
        return frozenset({self.keep} if self._step >= self.keep else ())

    def kept(self) -> int:
        return min(self.keep, self._step)


def make_trainer(grader: LetterGrader | None = None, **sections: Any) -> Trainer:
    return Trainer(make_policy(), grader or LetterGrader(), make_config(**sections))


def weights_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_campaign_writes_one_row_per_step_with_the_contract_keys() -> None:
    rows: list[dict[str, Any]] = []
    summary = run_campaign(make_trainer(), TASKS, on_row=rows.append)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    keys = {"campaign", "step", "train_reward", "heldout_pass1", "heldout_se", "entropy", "grad_norm", "kl", "length"}
    keys |= {"truncated", "zero_std_groups", "unique_share", "lr", "seconds", "decision"}
    for row in rows:
        assert keys <= row.keys()
        assert set(row["seconds"]) == {"rollout", "grade", "update", "evaluate"}
        json.dumps(row, allow_nan=False)
    assert rows[0]["train_reward"] is None
    assert rows[1]["train_reward"] is not None
    values = [row["heldout_pass1"] for row in rows]
    assert (summary.start, summary.peak, summary.end) == (values[0], max(values), values[-1])
    assert set(summary.to_json()["audit"]) >= {"start", "peak", "end", "kept"}


class Probing(ScriptedGuard):
    """Asks for one sample of two of the tasks."""

    def ask(self, step: int) -> Any:
        request = super().ask(step)
        return None if request is None else replace(request, tasks=(0, 2), samples=1)


def test_a_probe_of_some_tasks_enters_the_row_with_its_noise_but_without_counts() -> None:
    rows: list[dict[str, Any]] = []
    run_campaign(make_trainer(), TASKS, Probing({}), on_row=rows.append)
    for row in rows:
        assert row["heldout_passes"] is None
        assert row["heldout_se"] == pytest.approx((row["heldout_pass1"] * (1 - row["heldout_pass1"]) / 2) ** 0.5)


def test_the_kept_policy_is_what_the_guard_kept() -> None:
    trainer = make_trainer()
    at_one: list[dict[str, torch.Tensor]] = []

    def watch(row: dict[str, Any]) -> None:
        if row["step"] == 1:
            at_one.append(trainer.weights())

    summary = run_campaign(trainer, TASKS, ScriptedGuard({3: Answer("stop")}), on_row=watch)
    assert summary.steps == 3
    assert summary.kept_step == 1
    assert weights_equal(trainer.weights(), at_one[0])


def test_a_policy_is_audited_on_the_same_random_numbers_wherever_its_campaign_ends() -> None:
    streams: list[set[tuple[int, str]]] = []
    for guard in (ScriptedGuard({}), ScriptedGuard({2: Answer("stop")})):
        trainer = make_trainer()
        seen: set[tuple[int, str]] = set()

        def evaluate(
            *args: Any, step: int, purpose: str, seen: Any = seen, real: Any = trainer.evaluate, **k: Any
        ) -> Any:
            if purpose.startswith("audit"):
                seen.add((step, purpose))
            return real(*args, step=step, purpose=purpose, **k)

        trainer.evaluate = evaluate  # type: ignore[method-assign]
        run_campaign(trainer, TASKS, guard)
        streams.append(seen)
    whole, stopped = ({purpose: step for step, purpose in seen} for seen in streams)
    shared = whole.keys() & stopped.keys()
    assert {"audit-of-0", "audit-of-1"} <= shared
    assert all(whole[purpose] == stopped[purpose] for purpose in shared)


def test_a_roll_back_restores_weights_cuts_the_rate_and_forgets_the_moments() -> None:
    trainer = make_trainer()
    after: dict[int, dict[str, torch.Tensor]] = {}
    rates: dict[int, float] = {}

    def watch(row: dict[str, Any]) -> None:
        after[row["step"]] = trainer.weights()
        rates[row["step"]] = row["lr"]
        if row["step"] == 3:
            assert trainer.optimizer.state_dict()["state"] == {}

    back = Answer("roll_back", to_step=1, lr_factor=0.5, reset_optimizer=True)
    run_campaign(trainer, TASKS, ScriptedGuard({3: back}), on_row=watch)
    assert weights_equal(after[3], after[1])
    assert not weights_equal(after[2], after[1])
    assert rates[4] == rates[3] / 2


def test_a_guard_may_only_roll_back_to_what_it_holds() -> None:
    trainer = make_trainer(evaluate=EvaluateConfig(samples=4, audit_samples=0))
    with pytest.raises(ConfigError, match="a step that it retains, got 2"):
        run_campaign(trainer, TASKS, ScriptedGuard({3: Answer("roll_back", to_step=2)}))


def test_the_guard_sees_every_step_and_a_skipped_one_as_not_finite() -> None:
    trainer = make_trainer()
    guard = ScriptedGuard({})
    poison = {"at": 2}
    plain_update = trainer.update

    def update(graded: Any) -> Any:
        poison["at"] -= 1
        if poison["at"] == 0:
            for group in trainer.optimizer.param_groups:
                group["params"][0].register_hook(lambda g: g * float("nan")) if not poison.get("done") else None
            poison["done"] = 1
        return plain_update(graded)

    trainer.update = update  # type: ignore[method-assign]
    rows: list[dict[str, Any]] = []
    summary = run_campaign(trainer, TASKS, guard, on_row=rows.append)
    assert summary.skipped == 3
    # nothing new to measure, so nothing that could be taken for a peak
    assert [row["heldout_pass1"] is None for row in rows] == [False, False, True, True, True]
    assert [s["finite"] for s in guard.seen] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert rows[2]["grad_norm"] is None
    assert all(torch.isfinite(w).all() for w in trainer.weights().values())


def test_a_policy_with_broken_weights_passes_nothing_and_is_reported() -> None:
    trainer = make_trainer(seed=1, optim=OptimConfig(lr=1e30))
    guard = ScriptedGuard({1: Answer("stop")}, keep=0)
    rows: list[dict[str, Any]] = []
    summary = run_campaign(trainer, TASKS, guard, on_row=rows.append)
    assert guard.seen[1]["finite"] == 0.0
    assert summary.end == 0.0
    assert all(torch.isfinite(w).all() for w in trainer.weights().values())
    with pytest.raises(NonFiniteError):
        run_campaign(make_trainer(seed=1, optim=OptimConfig(lr=1e30)), TASKS)


class UnreliableGrader(LetterGrader):
    """Never judges a share ``failing`` of all answers, the same ones when asked again."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def grade(self, tasks: Any, completions: Any) -> Any:
        grades = super().grade(tasks, completions)
        for i, (task, text) in enumerate(zip(tasks, completions, strict=True)):
            if zlib.crc32(f"{task.task_id} {text}".encode()) < self.share * 2**32:
                grades[i] = replace(grades[i], reward=None)
        return grades


def test_a_grader_that_fails_for_a_tenth_of_the_samples_is_trained_without_them() -> None:
    trainer = make_trainer(
        UnreliableGrader(0.1),
        sampling=replace(make_config().sampling, group_size=8),
        evaluate=EvaluateConfig(samples=16, audit_samples=0),
    )
    seen: list[Any] = []
    plain_update = trainer.update
    trainer.update = lambda graded: seen.append(graded) or plain_update(graded)  # type: ignore[method-assign, func-returns-value]
    rows: list[dict[str, Any]] = []
    run_campaign(trainer, TASKS, on_row=rows.append)
    assert rows[-1]["step"] == 4
    assert sum(row["infra_errors"] or 0 for row in rows) > 0
    for row, graded in zip(rows[1:], seen, strict=True):
        assert row["infra_errors"] == float((~graded.valid_PG).sum())
        assert row["train_reward"] == float(graded.rewards_PG[graded.valid_PG].mean())
        assert (trainer.algorithm.advantages(graded.rewards_PG, graded.valid_PG)[~graded.valid_PG] == 0).all()


def test_a_grader_that_fails_for_nine_tenths_stops_the_run() -> None:
    message = r"failed on \d+ of \d+ samples \(limit 25%, campaign\.max_infra_share\), of tasks t1.*fix the grader"
    with pytest.raises(GraderError, match=message):
        run_campaign(make_trainer(UnreliableGrader(0.9)), TASKS)
    silent = make_trainer(UnreliableGrader(1.0), campaign=CampaignConfig(steps=2, max_infra_share=1.0))
    with pytest.raises(GraderError, match="no verdict on any of 20 samples"):  # whatever the share, it judges nothing
        run_campaign(silent, TASKS)


class WithoutTests(LetterGrader):
    """Gives no verdict on any answer to the tasks ``broken``."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = broken

    def grade(self, tasks: Any, completions: Any) -> Any:
        grades = super().grade(tasks, completions)
        return [replace(g, reward=None) if t.task_id in self.broken else g for t, g in zip(tasks, grades, strict=True)]


def test_a_task_without_tests_is_found_by_name() -> None:
    grader = WithoutTests("t11", "t13")
    assert find_ungradable(grader, TASKS.heldout) == dict.fromkeys(("t11", "t13"), "infra_error")
    assert find_ungradable(LetterGrader(), TASKS.heldout) == {}


def test_one_task_without_tests_does_not_stop_a_run_and_counts_as_the_others_do() -> None:
    rows: list[dict[str, Any]] = []
    run_campaign(make_trainer(WithoutTests("t11")), TASKS, on_row=rows.append)
    assert [row["heldout_infra_errors"] for row in rows] == [4] * 5
    for row in rows:
        others = [passed for i, passed in enumerate(row["heldout_passes"]) if i != 1]
        assert row["heldout_passes"][1] == round(sum(others) / 4)
    with pytest.raises(GraderError, match=r"failed on 8 of 20 samples .*of tasks t11, t13\."):
        run_campaign(make_trainer(WithoutTests("t11", "t13")), TASKS)


@given(st.integers(0, 6), st.integers(1, 8))
@settings(max_examples=12, deadline=None)
def test_the_rate_rises_linearly_then_stays(warmup: int, updates: int) -> None:
    trainer = make_trainer(optim=OptimConfig(lr=0.008, warmup_steps=warmup))
    batch = list(TASKS.train[:2])
    graded = trainer.grade(batch, trainer.rollout(batch, campaign=0, step=1))
    rates = []
    for _ in range(updates):
        trainer.update(graded)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.008 * min(1, (i + 1) / max(warmup, 1)) for i in range(updates)])
    trainer.reset_optimizer()
    trainer.update(graded)
    assert trainer.optimizer.param_groups[0]["lr"] == rates[0]


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_epoch_trains_on_every_task_once(train: int, prompts: int, seed: int) -> None:
    tasks = CampaignTasks(train=make_tasks(train), heldout=make_tasks(1))
    config = make_config(sampling=replace(make_config().sampling, prompts=prompts), seed=seed)
    drawn = [t.task_id for step in range(1, 1 + train) for t in tasks.draw(config, 0, step)]
    for epoch in range(len(drawn) // train):
        assert sorted(drawn[epoch * train : (epoch + 1) * train]) == sorted(t.task_id for t in tasks.train)


@given(st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3))
def test_seeds_of_different_draws_differ(a: tuple[int, int, int], b: tuple[int, int, int]) -> None:
    assert (seed_for(*a, "rollout") == seed_for(*b, "rollout")) == (a == b)
    assert seed_for(*a, "rollout") != seed_for(*a, "heldout-0-of-1")


@dataclass(frozen=True)
class Advice:
    action: str
    steps: int
    lr: float
    penalty: float | None
    reason: str
    start_from: Any = "kept"


class ScriptedPlanner:
    """Halves the learning rate every campaign and holds the policy in the third; starts from where ``starts`` says."""

    def __init__(self, starts: dict[int, int] | None = None) -> None:
        self.starts = starts or {}
        self.outcomes: list[tuple[int, dict[str, Any]]] = []

    def retained(self, campaign: int) -> frozenset[int]:
        return frozenset(start for at, start in self.starts.items() if at >= campaign > start)

    def plan(self, campaign: int, context: Any) -> Advice:
        strategy = context["strategy"]
        steps = 0 if campaign == 2 else strategy["steps"] - campaign
        start = self.starts.get(campaign, "kept")
        return Advice(
            "reject" if steps == 0 else "adapt", steps, strategy["lr"] / 2**campaign, None, "as written", start
        )

    def record(self, campaign: int, outcome: Any) -> None:
        self.outcomes.append((campaign, dict(outcome)))


class Killed(Exception):
    """Stands for the process ending here."""


def first_in_the_gate(*values: Any) -> list[Any]:
    """Parameters of a test that trains for seconds: the first runs in the gate, all of them nightly."""
    return [values[0], *(pytest.param(value, marks=pytest.mark.nightly) for value in values[1:])]


def chain(
    folder: Path,
    trainer: Trainer,
    *,
    fresh: bool,
    forgets: bool,
    kill_at: tuple[str, int] | None = None,
    planner: ScriptedPlanner | None = None,
    guard: ScriptedGuard | None = None,
) -> dict[str, Any]:
    store = RunStore.create(folder, {"seed": 0}) if fresh else RunStore.open(folder)
    if kill_at is not None:
        where, count = kill_at
        owner: Any = store if hasattr(store, where) else trainer
        plain, calls = getattr(owner, where), {"left": count}

        def killing(*args: Any, **kwargs: Any) -> Any:
            calls["left"] -= 1
            if calls["left"] == 0:
                raise Killed
            return plain(*args, **kwargs)

        setattr(owner, where, killing)
    guard = guard or ScriptedGuard({2: Answer("roll_back", to_step=1, lr_factor=0.5, reset_optimizer=forgets)})
    guard.reset_optimizer = forgets
    return run_chain(trainer, lambda _: TASKS, guard, planner, store=store)


VERBS = ["rollout", "grade", "update", "evaluate", "append", "save", "roll_back"]
KILLS = [(verb, count, every) for verb in VERBS for count in (1, 2, 7) for every in (1, 3)]


def short_campaigns(count: int, steps: int) -> dict[str, Any]:
    """Sections of campaigns with a checkpoint at every step and few samples."""
    return {
        "campaign": CampaignConfig(count=count, steps=steps, checkpoint_every=1),
        "evaluate": EvaluateConfig(samples=2, audit_samples=2),
    }


# of the 42, the gate has each verb once, each count and each interval with some of them
@pytest.mark.parametrize(
    ("where", "count", "every"),
    [
        pytest.param(*kill, marks=[] if number % 6 == number // 6 % 6 else pytest.mark.nightly)
        for number, kill in enumerate(KILLS)
    ],
)
def test_a_killed_chain_resumes_bit_for_bit(tmp_path: Path, where: str, count: int, every: int) -> None:
    sections = {
        "campaign": CampaignConfig(count=2, steps=3, checkpoint_every=every),
        "evaluate": EvaluateConfig(samples=2, audit_samples=2),
        "penalty": KlConfig(reference="campaign_start"),
    }
    killed_and_whole_agree(tmp_path, sections, (where, count))


@pytest.mark.parametrize(
    ("penalty", "algorithm"),
    [
        ({"name": "ewc", "coefficient": 100.0, "fisher_samples": 9}, {"name": "dapo"}),
        ({"name": "ewc", "coefficient": 100.0, "fisher_samples": 9, "reference": "campaign_start"}, {}),
        (
            {"name": "kl", "estimator": "k2", "target": 1e-3},
            {"entropy_bonus": 0.01, "entropy_target": 1.0, "baseline": "ema"},
        ),
    ],
)
@pytest.mark.parametrize("count", first_in_the_gate(6, 2))
def test_a_killed_chain_resumes_with_what_its_penalties_learnt(
    tmp_path: Path, penalty: dict[str, Any], algorithm: dict[str, Any], count: int
) -> None:
    sections = {
        **short_campaigns(2, 3),
        "penalty": build(PENALTY, penalty, "penalty"),
        "algorithm": build(ALGORITHM, algorithm, "algorithm"),
    }
    killed_and_whole_agree(tmp_path, sections, ("update", count))


@pytest.mark.parametrize("kill_at", first_in_the_gate(("roll_back", 1), ("update", 3), ("save", 3), ("update", 6)))
def test_a_killed_chain_goes_back_to_the_same_moments(tmp_path: Path, kill_at: tuple[str, int]) -> None:
    sections = short_campaigns(2, 4)
    killed_and_whole_agree(tmp_path, sections, kill_at, forgets=False)


@pytest.mark.parametrize("kill_at", first_in_the_gate(("roll_back", 1), ("update", 3), ("save", 3), ("update", 6)))
def test_a_killed_chain_goes_back_to_the_same_mean(tmp_path: Path, kill_at: tuple[str, int]) -> None:
    sections = short_campaigns(2, 4)
    sections |= {"optim": OptimConfig(lr=0.05, average=True)}
    killed_and_whole_agree(tmp_path, sections, kill_at)


def killed_and_whole_agree(
    tmp_path: Path,
    sections: dict[str, Any],
    kill_at: tuple[str, int],
    *,
    forgets: bool = True,
    starts: dict[int, int] | None = None,
    guard: Callable[[], ScriptedGuard | None] = lambda: None,
) -> None:
    def run(name: str, trainer: Trainer, **how: Any) -> dict[str, Any]:
        planner = ScriptedPlanner(starts) if starts else None
        return chain(tmp_path / name, trainer, forgets=forgets, planner=planner, guard=guard(), **how)

    whole = make_trainer(**sections)
    expected = run("whole", whole, fresh=True)
    try:
        run("cut", make_trainer(**sections), fresh=True, kill_at=kill_at)
    except Killed:
        resumed = make_trainer(**sections)
        assert run("cut", resumed, fresh=False) == expected
        assert weights_equal(resumed.weights(), whole.weights())
    stores = [RunStore.open(tmp_path / name) for name in ("whole", "cut")]
    for name in ("metrics.jsonl", "samples.jsonl"):
        ours, theirs = (timeless(store.rows(name)) for store in stores)
        assert ours == theirs


def test_a_chain_starts_each_campaign_from_the_policy_kept_before() -> None:
    trainer = make_trainer(campaign=CampaignConfig(count=3, steps=3))
    starts: list[dict[str, torch.Tensor]] = []
    kept: list[dict[str, torch.Tensor]] = []

    def watch(row: dict[str, Any]) -> None:
        if row["step"] == 0:
            starts.append(trainer.weights())
        if row["step"] == 1:
            kept.append(trainer.weights())

    summary = run_chain(trainer, lambda _: TASKS, ScriptedGuard({}), on_row=watch)
    assert len(summary.campaigns) == 3
    assert all(weights_equal(starts[i + 1], kept[i]) for i in range(2))
    assert weights_equal(trainer.weights(), kept[2])
    for before, after in zip(summary.campaigns, summary.campaigns[1:], strict=False):
        assert after.audit.start == before.audit.kept


def campaign_summary(campaign: int, peak: float | None, audited: float) -> CampaignSummary:
    audit = Audit(
        start=0.1 + campaign, peak=audited, end=0.2 + campaign, kept=0.3 + campaign, tasks=9, samples=16, halves=None
    )
    return CampaignSummary(
        campaign=campaign,
        start=0.3,
        peak=peak,
        peak_step=5,
        end=0.2,
        kept=0.2,
        kept_step=5,
        kept_iterate=False,
        steps=8,
        budget=8,
        skipped=0,
        se=0.1,
        signals={},
        capabilities=None,
        audit=audit,
    )


def test_the_audited_peak_of_a_chain_is_that_of_the_policy_it_names() -> None:
    campaigns = [campaign_summary(0, 0.60, 0.41), campaign_summary(1, 0.50, 0.52), campaign_summary(2, None, 0.90)]
    whole = ChainSummary.of(campaigns)
    assert whole.audit is not None
    assert (whole.peak, whole.peak_campaign, whole.audit.peak) == (0.60, 0, 0.41)
    assert (whole.audit.start, whole.audit.end, whole.audit.kept) == (0.1, 2.2, 2.3)
    assert [ChainSummary.of(campaigns, carried).audit.kept for carried in (1, FIRST)] == [1.3, 0.1]


def test_a_summary_reads_like_its_json_and_is_read_back_from_it() -> None:
    plan = CampaignPlan(action="reuse", steps=3, lr=0.1, penalty=None, start_from="kept", reason="-", state={"a": 1})
    capabilities = CapabilityChange(before={"pass1": 0.1}, after={"pass1": 0.2}, covariance={"pass1": {"pass1": 0.3}})
    summary = replace(campaign_summary(1, 0.5, 0.4), plan=plan, ood=None, ood_samples=0, capabilities=capabilities)
    written = json.loads(json.dumps(summary.to_json()))
    assert CampaignSummary.from_json(written) == summary
    assert CampaignSummary.from_json(written | {"of_another_version": 1}) == summary
    assert summary["audit"]["kept"] == written["audit"]["kept"] == 1.3
    assert not {"audit", "plan", "ood", "ood_samples"} & replace(summary, audit=None, plan=None).to_json().keys()


def test_a_planner_sets_the_budget_and_rate_and_learns_the_outcome() -> None:
    trainer = make_trainer(campaign=CampaignConfig(count=3, steps=3))
    planner = ScriptedPlanner()
    rows: list[dict[str, Any]] = []
    run_chain(trainer, lambda _: TASKS, planner=planner, on_row=rows.append)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 0, 1, 2, 0]
    assert {row["campaign"]: row["lr"] for row in rows} == {0: 0.01, 1: 0.005, 2: 0.0025}
    assert [campaign for campaign, _ in planner.outcomes] == [0, 1, 2]
    assert planner.outcomes[1][1]["strategy"]["steps"] == 2
    assert {"start", "peak", "end", "kept", "before", "after", "se"} <= planner.outcomes[0][1].keys()


def test_a_planner_learns_the_change_from_the_start_to_the_kept_policy_even_without_counts_by_task() -> None:
    rows: list[dict[str, Any]] = []
    planner = ScriptedPlanner()
    trainer = make_trainer(campaign=CampaignConfig(count=1, steps=3))
    summary = run_chain(trainer, lambda _: TASKS, Probing({}), planner, on_row=rows.append)
    (campaign,), (_, outcome) = summary.campaigns, planner.outcomes[0]
    assert campaign.capabilities is None
    assert campaign.kept_step == 1
    assert outcome["before"] == {"pass1": rows[0]["heldout_pass1"]}
    assert outcome["after"] == {"pass1": rows[1]["heldout_pass1"]}


def test_a_chain_goes_back_to_what_its_planner_had_held_and_hands_on_what_a_next_campaign_would_start_from() -> None:
    trainer = make_trainer(campaign=CampaignConfig(count=3, steps=3))
    first = trainer.weights()
    starts: list[dict[str, torch.Tensor]] = []

    def watch(row: dict[str, Any]) -> None:
        if row["step"] == 0:
            starts.append(trainer.weights())

    summary = run_chain(trainer, lambda _: TASKS, planner=ScriptedPlanner({1: -1, 2: 0, 3: 0}), on_row=watch)
    assert weights_equal(starts[1], first)
    assert weights_equal(trainer.weights(), starts[2])
    assert not weights_equal(starts[2], first)
    audits = [campaign.audit for campaign in summary.campaigns]
    assert audits[1].start == audits[0].start
    assert audits[2].start == audits[0].kept == summary.audit.kept
    assert (summary.kept_campaign, summary.kept) == (0, summary.campaigns[0].kept)


def test_a_planner_may_only_go_back_to_what_it_had_held() -> None:
    planner = ScriptedPlanner({1: -1})
    planner.retained = lambda campaign: frozenset()  # type: ignore[method-assign]
    trainer = make_trainer(campaign=CampaignConfig(count=2, steps=1))
    with pytest.raises(ConfigError, match=r"may start from a policy it retains \(\[\]\) or from 'kept', got -1"):
        run_chain(trainer, lambda _: TASKS, planner=planner)


@pytest.mark.parametrize(
    "kill_at", first_in_the_gate(("update", 4), ("save", 4), ("save", 5), ("evaluate", 12), ("save", 8))
)
def test_a_killed_chain_goes_back_to_the_same_earlier_policies(tmp_path: Path, kill_at: tuple[str, int]) -> None:
    sections = short_campaigns(4, 3)
    killed_and_whole_agree(tmp_path, sections, kill_at, starts={1: -1, 2: 0, 3: 0, 4: 0})
    kept = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").glob("*-kept"))
    assert kept == ["c0000-kept"]  # what is not wanted any more is gone


def averaging(**sections: Any) -> Trainer:
    return make_trainer(optim=OptimConfig(lr=0.05, average=True), **sections)


def mean_of(iterates: Sequence[Mapping[str, torch.Tensor]], name: str) -> torch.Tensor:
    return torch.stack([weights[name] for weights in iterates]).mean(0)


def test_with_averaging_the_mean_of_the_iterates_is_handed_on_and_training_goes_on_from_the_last() -> None:
    plain, averaged = make_trainer(optim=OptimConfig(lr=0.05)), averaging()
    iterates: list[dict[str, torch.Tensor]] = []
    run_campaign(plain, TASKS, on_row=lambda _: iterates.append(plain.weights()))
    seen: list[dict[str, torch.Tensor]] = []
    run_campaign(averaged, TASKS, on_row=lambda _: seen.append(averaged.weights()))
    assert len(seen) == len(iterates) > 3
    assert all(weights_equal(a, b) for a, b in zip(seen, iterates, strict=True))
    for name, mean in averaged.weights().items():
        torch.testing.assert_close(mean, mean_of(iterates, name), atol=1e-6, rtol=1e-5)


def watching(trainer: Trainer) -> tuple[list[dict[str, Any]], list[dict[str, torch.Tensor]], Callable[..., None]]:
    """The rows and the iterates of a campaign, filled by what is returned third, its ``on_row``."""
    rows: list[dict[str, Any]] = []
    iterates: list[dict[str, torch.Tensor]] = []

    def watch(row: dict[str, Any]) -> None:
        rows.append(row)
        iterates.append(trainer.weights())

    return rows, iterates, watch


def test_with_averaging_the_mean_is_what_is_measured_and_held() -> None:
    trainer = averaging()
    rows, iterates, watch = watching(trainer)
    run_campaign(trainer, TASKS, ScriptedGuard({}, keep=2), on_row=watch)
    held = trainer.weights()
    for name, mean in held.items():
        torch.testing.assert_close(mean, mean_of(iterates[:3], name), atol=1e-6, rtol=1e-5)
    again = make_trainer()
    again.load_weights(held)
    measured = again.evaluate(TASKS.heldout, 4, campaign=0, step=2, purpose="heldout-0-of-2")
    assert measured.passes == rows[2]["heldout_passes"]


class KeepsTheIterate(ScriptedGuard):
    """Asks for the last iterate at step ``last``, too, and keeps it."""

    def __init__(self, last: int) -> None:
        super().__init__({})
        self.last, self.more = last, False

    def ask(self, step: int) -> Any:
        first = super().ask(step)
        if first is not None:
            self.first, self.more = first, step == self.last
            return first
        self.more, more = False, self.more
        return replace(self.first, step=LAST_ITERATE) if more else None

    def tell(self, step: int, passes: Any, samples: int, tasks: Any = None) -> None:
        super().tell(max(step, self._told), passes, samples, tasks)

    def kept(self) -> int:
        return LAST_ITERATE if self._step == self.last else super().kept()


def test_a_guard_may_keep_the_last_iterate_in_place_of_a_mean() -> None:
    trainer = averaging()
    rows, iterates, watch = watching(trainer)
    summary = run_campaign(trainer, TASKS, KeepsTheIterate(4), on_row=watch)
    assert weights_equal(trainer.weights(), iterates[-1])
    assert [row["last_iterate"] is None for row in rows] == [True] * 4 + [False]
    assert (summary.kept_step, summary.kept_iterate) == (4, True)
    again = make_trainer()
    again.load_weights(iterates[-1])
    measured = again.evaluate(TASKS.heldout, 4, campaign=0, step=4, purpose="heldout-1")
    assert measured.passes == rows[-1]["last_iterate"]["heldout_passes"]
    assert summary.kept == measured.pass1
    assert summary.capabilities.after["pass1"] == pytest.approx(measured.pass1)
    assert (
        summary.audit.kept
        == again.evaluate(
            TASKS.audit, trainer.config.evaluate.audit_samples, campaign=0, step=4, purpose="audit-of--1"
        ).pass1
    )


@pytest.mark.parametrize("kill_at", first_in_the_gate(("update", 4), ("save", 5), ("evaluate", 8), ("update", 6)))
def test_a_killed_chain_keeps_the_same_last_iterates(tmp_path: Path, kill_at: tuple[str, int]) -> None:
    sections = short_campaigns(2, 4)
    sections |= {"optim": OptimConfig(lr=0.05, average=True)}
    killed_and_whole_agree(tmp_path, sections, kill_at, guard=lambda: KeepsTheIterate(4))


def test_policies_looked_at_again_share_their_random_numbers_but_not_those_of_the_look_before() -> None:
    class Again(ScriptedGuard):
        """After the look at step 2, asks for the start and for step 2, twice."""

        def ask(self, step: int) -> Any:
            first = super().ask(step)
            if first is not None:
                self.first, self.more = first, [0, 2, 0, 2] if step == 2 else []
                return first
            return replace(self.first, step=self.more.pop(0)) if self.more else None

        def tell(self, step: int, passes: Any, samples: int, tasks: Any = None) -> None:
            super().tell(max(step, self._told), passes, samples, tasks)

    class Watched(Trainer):
        asked: ClassVar[list[tuple[int, int]]] = []  # step, seed of the random stream

        def evaluate(self, tasks: Any, samples: int, *, campaign: int, step: int, purpose: str) -> Any:
            self.asked.append((step, seed_for(self.config.seed, campaign, step, purpose)))
            return super().evaluate(tasks, samples, campaign=campaign, step=step, purpose=purpose)

    tasks = replace(TASKS, audit=())
    trainer = Watched(make_policy(), LetterGrader(), make_config())
    run_campaign(trainer, tasks, Again({2: Answer("stop")}, keep=0))
    first, *again = [seed for step, seed in trainer.asked if step == 2]
    assert again[0] == again[1] != again[2] == again[3]
    assert first not in again
