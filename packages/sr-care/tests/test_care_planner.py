import numpy as np
import pytest

from sr_care import CapabilityMemory, CarePlanner, Context, Strategy
from sr_care.errors import EntryError
from sr_care.planner import VERSIONS, Plan, PlannerConfig

SE = 0.02
FULL = ("v3", "memory_only", "gate_only", "no_revision")


class ScriptedPolicy:
    """A stand-in whose pass@1 climbs towards a ceiling and, past an onset within a campaign, breaks by
    chance."""

    def __init__(self, kind, seed):
        self.random = np.random.default_rng([seed, 7])
        self.level, self.ceiling = (0.25, 0.5) if kind == "rich" else (0.05, 0.3)
        self.onset, self.hazard = (16, 0.12) if kind == "rich" else (9, 0.25)

    def train(self, steps, speed):
        curve, wear = [self.level], 0.0
        rate = 0.06 * speed * min(1, self.level / 0.1) ** 0.5
        for _ in range(steps):
            wear += speed
            if self.random.random() < self.hazard / (1 + np.exp(-(wear - self.onset) / 1.5)):
                self.level *= self.random.uniform(0.1, 0.6)
            else:
                self.level += rate * (self.ceiling - self.level)
            curve.append(self.level)
        return curve


def context(pass1, **strategy):
    return {
        "strategy": {"algorithm": "reinforce", "lr": 1e-3, "steps": 20, "penalty": None, **strategy},
        "state": {"task_family": "scripted", "model_parameters": 1.1e6, "pass1": pass1},
    }


def outcome(start, peak, end, peak_step=9, steps=20, lr=1e-3):
    known = context(start, steps=steps, lr=lr)
    curve = {"start": start, "peak": peak, "peak_step": peak_step, "end": end, "kept": end}
    return {**known, **curve, "before": {"pass1": start}, "after": {"pass1": end}, "se": {"pass1": SE}}


def run_chain(kind, seed, planner, campaigns=10):
    """The end of a scripted chain and its plans; ``planner`` is called for a planner at every campaign, so
    that a chain killed and resumed between any two is the same as one that was not."""
    policy, plans = ScriptedPolicy(kind, seed), []
    saved = {-1: policy.level}
    random = np.random.default_rng([seed, 9])

    def measure(level):
        return float(np.clip(level + random.normal(0, SE / 2**0.5), 0, 1))

    for campaign in range(campaigns):
        known = context(measure(policy.level))
        plan = (
            planner().plan(campaign, known)
            if planner
            else Plan(action="reuse", steps=20, lr=1e-3, penalty=None, reason="naive")
        )
        if plan.start_from != "kept":
            policy.level = saved[plan.start_from]
        curve = [measure(level) for level in policy.train(plan.steps, plan.lr / 1e-3)]
        saved[campaign] = policy.level
        plans.append(plan)
        if planner:
            result = outcome(curve[0], max(curve), curve[-1], int(np.argmax(curve)), plan.steps, plan.lr)
            planner().record(campaign, {**result, "start_from": plan.start_from})
    if planner:  # a chain keeps what a next campaign would start from
        last = planner().plan(campaigns, context(None)).start_from
        return saved[campaigns - 1 if last == "kept" else last], plans
    return policy.level, plans


def one(memory, run, version, **more):
    planner = CarePlanner(memory, run=run, version=version, **more)
    return lambda: planner


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_memory_leaves_the_strategy_as_it_is(tmp_path, version):
    plan = CarePlanner(tmp_path / "m.db", version=version, run="r").plan(0, context(0.3))
    assert (plan.action, plan.steps, plan.lr, plan.penalty, plan.start_from) == ("reuse", 20, 1e-3, None, "kept")


@pytest.mark.parametrize("version", FULL)
def test_a_killed_and_resumed_chain_decides_the_same_whatever_others_write_meanwhile(tmp_path, version):
    with CapabilityMemory(tmp_path / "calm.db") as memory:
        undisturbed = run_chain("fragile", 1, one(memory, "r", version), campaigns=6)
    count = iter(range(1000))

    def resumed():
        number = next(count)
        if number:
            CarePlanner(tmp_path / "busy.db", run=f"other-{number}").record(0, outcome(0.3, 0.3, 0.01))
        return CarePlanner(tmp_path / "busy.db", run="r", version=version)

    assert run_chain("fragile", 1, resumed, campaigns=6) == undisturbed


@pytest.mark.parametrize("version", FULL)
def test_a_plan_ignores_what_this_run_recorded_later(tmp_path, version):
    care = CarePlanner(tmp_path / "m.db", version=version, run="r")
    care.record(0, outcome(0.3, 0.45, 0.4))
    before = care.plan(1, context(0.4))
    care.record(1, outcome(0.4, 0.4, 0.0))
    assert care.plan(1, context(0.4)) == before
    assert care.plan(2, context(0.4)) != before


@pytest.mark.parametrize("kind", ["rich", "fragile"])
def test_the_full_mechanism_ends_above_the_deployed_one_and_above_none(tmp_path, kind):
    ends = {"naive": [run_chain(kind, seed, None)[0] for seed in range(8)]}
    for version in ("v2", "v3"):
        with CapabilityMemory(tmp_path / f"{version}.db") as memory:
            memory._db.execute("PRAGMA synchronous = OFF")  # durability is tested elsewhere, and slow on busy disks
            for seed in range(8):  # each chain alone: the memory of the others is forgotten
                ends.setdefault(version, []).append(run_chain(kind, seed, one(memory, "r", version))[0])
                memory.forget(run="r")
    means = {name: float(np.mean(values)) for name, values in ends.items()}
    assert means["v3"] > means["v2"] + 0.05
    assert means["v3"] > means["naive"] + 0.05


def test_memory_of_other_seeds_spares_a_new_one_the_first_collapse(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        for seed in range(3):
            run_chain("fragile", seed, one(memory, f"r{seed}", "v3"))
        plan = CarePlanner(memory, version="v3", run="new").plan(0, context(0.05))
        blind = CarePlanner(memory, version="gate_only", run="new").plan(0, context(0.05))
    assert plan.steps * plan.lr < blind.steps * blind.lr == 20 * 1e-3


def test_after_a_collapse_the_chain_goes_back_to_the_better_policy(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    care.record(0, outcome(0.3, 0.5, 0.5, peak_step=20))
    assert care.plan(1, context(0.5)).start_from == "kept"
    care.record(1, outcome(0.5, 0.5, 0.1))
    assert care.plan(2, context(0.1)).start_from == 0
    assert care.retained(2) == {0}


def test_the_chain_goes_back_where_answers_have_become_alike_without_a_gain(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    fell = outcome(0.07, 0.1, 0.08)
    fell["before"]["pass16"], fell["after"]["pass16"], fell["se"]["pass16"] = 0.65, 0.2, 0.1
    care.record(0, fell)
    assert care.plan(1, context(0.08)).start_from == -1
    by_pass1 = CarePlanner(tmp_path / "m.db", version="v3", run="r", config=PlannerConfig(merit={"pass1": 1}))
    assert by_pass1.plan(1, context(0.08)).start_from == "kept"


def test_a_difference_within_the_error_is_no_reason_to_go_back(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    care.record(0, outcome(0.3, 0.5, 0.5, peak_step=20))
    care.record(1, outcome(0.5, 0.5, 0.5 - 1.5 * SE))
    assert care.plan(2, context(0.47)).start_from == "kept"


def test_the_variance_of_freshly_drawn_tasks_is_no_reason_to_go_back(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    care.record(0, outcome(0.5, 0.6, 0.6, peak_step=20))
    care.record(1, outcome(0.3, 0.4, 0.4, peak_step=20))  # harder tasks, and another gain on them
    assert care.plan(2, context(0.4)).start_from == "kept"
    assert care.retained(2) == {1}


def test_the_chain_goes_back_to_its_beginning_unless_the_trainer_keeps_no_policies(tmp_path):
    for z, start in ((1.645, -1), (None, "kept")):
        care = CarePlanner(tmp_path / f"{z}.db", version="v3", run="r", config=PlannerConfig(return_z=z))
        care.record(0, outcome(0.3, 0.4, 0.05))
        assert care.plan(1, context(0.05)).start_from == start
        assert care.retained(1) == (frozenset() if z is None else {-1})


def test_holding_does_not_last_for_ever(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    for k in range(6):
        care.record(k, outcome(0.4, 0.4, 0.4 - 0.02 * k, peak_step=0, steps=20 - 3 * k))
    care.record(6, outcome(0.4, 0.4, 0.1, peak_step=0))
    care.record(7, outcome(0.4, 0.4, 0.1, peak_step=0, steps=5))
    actions = [care.plan(8 + k, context(0.4)).action for k in range(3)]
    assert actions == ["reject", "reject", "pilot"]
    assert [care.plan(8, context(0.4)).steps, care.plan(10, context(0.4)).steps] == [0, 10]


def test_a_held_campaign_without_a_measurement_is_no_entry(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    care.record(0, {"strategy": context(0.3, steps=0)["strategy"], "before": {"pass1": None}, "after": {}})
    assert len(care.memory) == 0
    with pytest.raises(EntryError, match="at least one"):
        care.record(0, {"strategy": context(0.3)["strategy"]})


def test_an_outlier_is_remembered_with_less_confidence(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    for k in range(5):
        care.record(k, outcome(0.3, 0.4, 0.4, peak_step=20))
    care.record(5, outcome(0.6, 0.6, 0.0, peak_step=0))
    confidences = [entry.confidence for entry in care.memory.entries()]
    assert confidences[:5] == [1.0] * 5
    assert confidences[5] < 0.9
    assert care.belief(6).revision.failures[0].campaign == 5


def test_recording_twice_is_recording_once_even_when_it_was_an_outlier(tmp_path):
    care = CarePlanner(tmp_path / "m.db", version="v3", run="r")
    care.record(0, outcome(0.3, 0.4, 0.4))
    for _ in range(2):
        care.record(1, outcome(1.0, 1.0, 0.0))
    assert len(care.memory) == 2


def test_the_ablations_leave_out_what_they_say(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        plans = {v: run_chain("fragile", 2, one(memory, v, v))[1] for v in ("memory_only", "no_revision")}
        gate_only = CarePlanner(memory, version="gate_only", run="memory_only")
        assert gate_only.belief(9).posterior.count[0] == 1
        believer = CarePlanner(memory, version="no_revision", run="no_revision")
        assert believer.belief(9).revision.noise == 1
        assert all(entry.confidence == 1 for entry in memory.entries(run="no_revision"))
    assert {plan.action for plan in plans["memory_only"]} <= {"reuse", "adapt"}


def test_the_answer_names_entries_that_are_remembered_and_alike(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        run_chain("rich", 0, one(memory, "r", "v3"), campaigns=6)
        decision = CarePlanner(memory, version="v3", run="new").decide(0, context(0.3))
        found = {entry.id for entry in memory.entries()}
    assert len(decision.entries) == 5
    assert set(decision.entries) <= found


def test_a_belief_over_many_foreign_entries_still_listens_to_its_own(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        for number in range(300):
            CarePlanner(memory, run=f"other-{number}").record(0, outcome(0.3, 0.4, 0.4, peak_step=20))
        care = CarePlanner(memory, version="v3", run="r")
        asked = [Strategy(algorithm="reinforce", lr=1e-3, steps=20)], Context(pass1=0.3, model_parameters=1.1e6)
        before = care.belief(0).posterior.predict(*asked).mean[0, 0]
        for k in range(4):
            care.record(k, outcome(0.3, 0.3, 0.1, peak_step=0))
        after = care.belief(4).posterior.predict(*asked).mean[0, 0]
    assert before == pytest.approx(0.1, abs=0.03)
    assert after < -0.05
