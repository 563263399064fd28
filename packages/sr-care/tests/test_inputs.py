"""Whatever is given, the answer is a CareError or something that is remembered as it is."""

import copy
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sr_care import CapabilityDelta, CapabilityMemory, CareError, CarePlanner, Context, Entry, Strategy
from sr_care.entry import Boundary
from sr_care.errors import EntryError

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**70, 10**400]), st.floats(), st.text(max_size=3)
)
ANYTHING = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=2), SCALARS, max_size=2))
WHOLE = Entry(
    strategy=Strategy(algorithm="grpo", lr=1e-3, steps=20, group_size=8, prompts=4, penalty=0.1),
    context=Context(
        family="f", model_parameters=1e9, pass1=0.3, passk=0.6, positive_rate=0.3, entropy=1, unique_share=1
    ),
    delta=CapabilityDelta.from_errors({"pass1": 0.1, "hard": 0.2}, {"pass1": 0.03, "hard": 0.05}),
    boundary=Boundary(start=0.3, peak=0.4, peak_step=9, end=0.35, kept=0.4),
    run="r",
    campaign=3,
    seed=1,
    start_from=1,
).to_dict()
OUTCOME = {
    "strategy": WHOLE["strategy"],
    "state": WHOLE["context"],
    **WHOLE["boundary"],
    "start_from": "kept",
    "before": {"pass1": 0.3, "hard": 0.1},
    "after": {"pass1": 0.4, "hard": 0.2},
    "se": {"pass1": 0.03},
    "covariance": {"pass1": {"pass1": 0.001, "hard": 0.0}},
}
COVARIANCE = np.array([[0.0015, 0.0004 * (1 + 1e-13)], [0.0004, 0.0009]])  # symmetric but for rounding


def places(values, path=()):
    """The path to every value in nested mappings, those to mappings included."""
    for name, value in values.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from places(value, (*path, name))


def changed(values, path, value):
    values = inner = copy.deepcopy(values)
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return values


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    with CapabilityMemory(tmp_path_factory.mktemp("inputs") / "m.db") as memory:
        memory._db.execute("PRAGMA synchronous = OFF")
        yield memory


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(list(places(WHOLE))), value=ANYTHING)
def test_an_entry_is_refused_or_remembered_as_it_is(memory, path, value):
    try:
        entry = Entry.from_dict(changed(WHOLE, path, value))
    except EntryError:
        return
    number = memory.append(entry)
    found = memory.entry(number)
    memory.forget(ids=[number])
    for part in ("strategy", "context", "delta", "boundary", "run", "campaign", "seed", "start_from", "confidence"):
        assert getattr(found, part) == getattr(entry, part)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(list(places(OUTCOME))), value=ANYTHING, version=st.sampled_from(["v2", "v3"]))
def test_a_planner_takes_an_outcome_or_refuses_it(memory, path, value, version):
    planner, outcome = CarePlanner(memory, version=version, run="r"), changed(OUTCOME, path, value)
    try:
        planner.record(0, outcome)
        planner.record(0, outcome)
        planner.plan(1, outcome)
    except CareError:
        pass
    if list(memory.entries(run="r")):
        memory.forget(run="r")


@pytest.mark.parametrize("campaign", [-1, 1.5, "0", None, math.nan])
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_a_campaign_is_a_whole_number(memory, version, campaign):
    planner = CarePlanner(memory, version=version, run="r")
    for ask in (planner.plan, planner.record):
        with pytest.raises(EntryError, match="campaign must be a whole number"):
            ask(campaign, OUTCOME)


@pytest.mark.parametrize("wrong", [{"run": ""}, {"run": 5}, {"run": "a\udcff"}, {"seed": 2**64}, {"seed": "x"}])
def test_a_planner_refuses_at_once_what_its_record_could_not_write(memory, wrong):
    with pytest.raises(EntryError, match="planner's"):
        CarePlanner(memory, **{"run": "r", **wrong})


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_a_plan_refuses_a_state_that_its_record_would_refuse(memory, version):
    asked = {"strategy": WHOLE["strategy"], "state": {"pass1": 30}}
    with pytest.raises(EntryError, match=r"context.pass1 must be a finite number in \[0, 1\], got 30"):
        CarePlanner(memory, version=version, run="r").plan(0, asked)


def test_percentages_are_refused_even_where_their_difference_is_a_share(memory):
    outcome = {**OUTCOME, "before": {"pass1": 32.0}, "after": {"pass1": 32.5}}
    with pytest.raises(EntryError, match=r"outcome.before.pass1 must be a finite number in \[0, 1\], got 32.0"):
        CarePlanner(memory, run="r").record(0, outcome)


def test_an_outcome_without_a_change_names_what_is_missing(memory):
    with pytest.raises(EntryError, match=r"both in 'before' and in 'after', got \{'pass1': 0.3\} and None"):
        CarePlanner(memory, run="r").record(0, {**OUTCOME, "before": {"pass1": 0.3}, "after": None})


def test_numbers_of_numpy_are_taken_for_what_they_are(memory):
    planner = CarePlanner(memory, run="numpy", version="v3", seed=np.int64(1))
    strategy = {"algorithm": "grpo", "lr": np.float32(1e-3), "steps": np.int64(20), "group_size": 8.0}
    plan = planner.plan(np.int64(0), {"strategy": strategy, "state": {"pass1": np.float32(0.25)}})
    assert (plan.steps, type(plan.steps), type(plan.lr)) == (20, int, float)
    curve = {"peak": np.float32(0.5), "peak_step": np.argmax([0, 1]), "end": np.float64(0.25)}
    before, after = {"pass1": np.float32(0.25)}, {"pass1": np.float16(0.5)}
    planner.record(np.int64(0), {"strategy": strategy, **curve, "before": before, "after": after})
    found = memory.find("numpy", 0)
    assert (found.strategy.steps, found.boundary.peak_step, found.boundary.peak) == (20, 1, 0.5)
    assert (found.delta.values, found.seed) == ({"pass1": 0.25}, 1)


def test_a_covariance_with_rounding_errors_is_recorded_twice_as_once(memory):
    names = ("pass1", "hard")
    rows = {a: {b: COVARIANCE[i, j] for j, b in enumerate(names)} for i, a in enumerate(names)}
    planner = CarePlanner(memory, run="rounding", version="v3")
    for _ in range(2):
        planner.record(0, {**OUTCOME, "covariance": rows})
    with pytest.raises(EntryError, match="another outcome"):
        planner.record(0, OUTCOME)


def test_two_processes_may_record_the_same_outcome_at_once(tmp_path, monkeypatch):
    mine, other = (CarePlanner(tmp_path / "m.db", version="v3", run="r") for _ in range(2))
    find = mine.memory.find

    def find_before_the_other_writes(run, campaign):
        found = find(run, campaign)
        other.record(campaign, OUTCOME)
        return found

    monkeypatch.setattr(mine.memory, "find", find_before_the_other_writes)
    mine.record(0, OUTCOME)
    assert len(mine.memory) == 1
    monkeypatch.setattr(other, "record", lambda *_: None)
    with pytest.raises(EntryError, match="another outcome"):
        mine.record(0, {**OUTCOME, "after": {"pass1": 0.1}})
