import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care import CapabilityMemory, CarePlanner
from sr_care.entry import Boundary
from sr_care.errors import EntryError
from sr_care.paper_gate import PaperGate

CONTEXT = {
    "strategy": {
        "algorithm": "reinforce",
        "lr": 1e-3,
        "steps": 20,
        "penalty": None,
        "baseline": "batch_mean",
    },
    "state": {"task_family": "numbers", "pass1": 0.3, "entropy": None},
}


def outcome(peak, end, start=0.3, **more):
    return {
        "strategy": CONTEXT["strategy"],
        "state": CONTEXT["state"],
        "start": start,
        "peak": peak,
        "end": end,
        "kept": end,
        "peak_step": 9,
        "before": {"pass1": start},
        "after": {"pass1": end},
        "se": {"pass1": 0.03},
        **more,
    }


def planner(tmp_path, version="v2", run="r"):
    return CarePlanner(tmp_path / "m.db", version=version, run=run)


def test_v2_starts_with_the_full_budget_and_pilots_after_a_fall(tmp_path):
    care = planner(tmp_path)
    assert (care.plan(0, CONTEXT).action, care.plan(0, CONTEXT).steps) == ("reuse", 20)
    care.record(0, outcome(peak=0.5, end=0.2))
    assert (care.plan(1, CONTEXT).action, care.plan(1, CONTEXT).steps) == ("pilot", 10)
    care.record(1, outcome(peak=0.5, end=0.48))
    assert (care.plan(2, CONTEXT).action, care.plan(2, CONTEXT).steps) == ("reuse", 20)
    assert care.plan(2, CONTEXT).lr == 1e-3


def test_v1_halves_the_learning_rate_at_every_detection(tmp_path):
    care = planner(tmp_path, "v1")
    for campaign, end in enumerate([0.2, 0.48, 0.1]):
        care.record(campaign, outcome(peak=0.5, end=end))
    assert [care.plan(k, CONTEXT).lr for k in range(4)] == [1e-3, 5e-4, 5e-4, 2.5e-4]
    assert {care.plan(k, CONTEXT).steps for k in range(4)} == {20}


def test_the_budget_never_exceeds_what_the_campaign_would_have(tmp_path):
    short = {**CONTEXT, "strategy": {**CONTEXT["strategy"], "steps": 5}}
    assert planner(tmp_path).plan(0, short).steps == 5


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_plan_ignores_what_this_run_recorded_later_and_what_others_recorded(tmp_path, version):
    care, other = planner(tmp_path, version), planner(tmp_path, version, "other")
    care.record(0, outcome(peak=0.5, end=0.48))
    before = care.plan(1, CONTEXT)
    other.record(0, outcome(peak=0.5, end=0.0))
    care.record(1, outcome(peak=0.5, end=0.0))
    assert planner(tmp_path, version).plan(1, CONTEXT) == before


def test_recording_twice_is_recording_once(tmp_path):
    care = planner(tmp_path)
    for _ in range(2):
        care.record(0, outcome(peak=0.5, end=0.4))
    assert len(care.memory) == 1


def test_another_outcome_under_the_same_name_is_refused(tmp_path):
    care = planner(tmp_path)
    care.record(0, outcome(peak=0.5, end=0.4))
    with pytest.raises(EntryError, match="another run name"):
        care.record(0, outcome(peak=0.5, end=0.1))


def test_a_memory_object_serves_as_well_as_a_path(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        assert CarePlanner(memory, run="r").plan(0, CONTEXT).steps == 20


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"after": {"pass1": float("nan")}}, "pass1"),
        ({"before": {"speed": 1.0}, "after": {"speed": 1.0}}, "pass1, pass16"),
        ({"before": {}, "after": {}}, "at least one"),
        ({"strategy": {"lr": 1e-3}}, "algorithm"),
        ({"se": {"pass1": -0.1}}, "standard error"),
    ],
)
def test_a_malformed_outcome_is_refused_and_nothing_is_written(tmp_path, change, word):
    care = planner(tmp_path)
    with pytest.raises(EntryError, match=word):
        care.record(0, outcome(0.5, 0.4, **change))
    assert len(care.memory) == 0


def test_an_unknown_version_is_refused(tmp_path):
    with pytest.raises(EntryError, match="v1, v2"):
        planner(tmp_path, "v9")


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_the_budget_is_the_pilot_exactly_when_the_ratio_is_below_the_limit(peak, end):
    gate = PaperGate()
    expected = 10 if peak > 0 and end / peak < gate.limit else 20
    assert gate.budget(Boundary(peak=peak, end=end)) == expected


def test_a_pilot_longer_than_the_full_budget_is_refused():
    with pytest.raises(EntryError, match="pilot_steps"):
        PaperGate(pilot_steps=30)
