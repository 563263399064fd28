from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care import BeliefRevision, CapabilityDelta, Context, Entry, Strategy
from sr_care.belief.effects import EffectModel
from sr_care.belief.information import Information
from sr_care.belief.replay import believe
from sr_care.belief.revision import Revision, RevisionConfig, mahalanobis
from sr_care.errors import EntryError

MEAN = np.zeros(6)
COVARIANCE = 0.04**2 * np.eye(6)
MODEL = EffectModel()
STRATEGY = Strategy(algorithm="reinforce", lr=1e-3, steps=20)
CONTEXT = Context(pass1=0.3, model_parameters=1.1e6)


def delta(value, error=0.03):
    return CapabilityDelta.from_errors({"pass1": value}, {"pass1": error})


def after(*values, state=None, config=None):
    revision, state = BeliefRevision(config), state or Revision()
    for campaign, value in enumerate(values):
        state = revision.observe(state, MEAN, COVARIANCE, delta(value), campaign=campaign)
    return state


def test_the_distance_of_one_capability_is_its_squared_z():
    distance, degrees, residual = mahalanobis(MEAN, COVARIANCE, delta(0.1, 0.03))
    assert degrees == 1
    assert distance == pytest.approx((0.1 / 0.05) ** 2)
    np.testing.assert_allclose(residual, [2, 0, 0, 0, 0, 0])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_distance_does_not_depend_on_the_units(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 0.05, (6, 6))
    covariance = root @ root.T + 0.01 * np.eye(6)
    values = dict(zip(("pass1", "hard", "ood"), rng.uniform(-0.3, 0.3, 3).tolist(), strict=True))
    observed = CapabilityDelta.from_errors(values, dict.fromkeys(values, 0.03))
    places = [0, 2, 3]
    total = (covariance + observed.matrix())[np.ix_(places, places)]
    residual = np.array(list(values.values()))
    expected = residual @ np.linalg.inv(total) @ residual
    assert mahalanobis(MEAN, covariance, observed)[0] == pytest.approx(expected)


def test_agreement_changes_nothing_in_a_calm_belief():
    calm = after(0.01, -0.02, 0.0)
    assert (calm.noise, calm.tightening, calm.weights, calm.failures) == (1.0, 1.0, (1.0, 1.0, 1.0), ())


def test_a_fall_beyond_the_limit_raises_the_noise_tightens_the_gate_and_marks_the_boundary():
    state = after(-0.3)
    assert (state.noise, state.tightening) == (2.0, 0.5)
    assert [f.campaign for f in state.failures] == [0]
    assert state.weights[0] == pytest.approx(state.distances[0][1] / state.distances[0][0])
    assert state.caution.ceiling == 1.0


def test_a_rise_beyond_the_limit_raises_the_noise_and_leaves_the_gate():
    state = after(0.3)
    assert (state.noise, state.tightening, state.failures) == (2.0, 1.0, ())


def test_agreement_relaxes_the_gate_again():
    states = [after(-0.3, *[0.0] * k) for k in range(7)]
    for a, b in pairwise(states):
        assert b.noise <= a.noise
        assert b.tightening >= a.tightening
    assert (states[-1].noise, states[-1].tightening, states[-1].caution.ceiling) == (1.0, 1.0, np.inf)


def test_a_failure_that_was_outlived_no_longer_bounds_the_dose_but_is_remembered():
    revision, state = BeliefRevision(), Revision()
    for campaign, (value, dose) in enumerate([(-0.3, 0.2), *[(0.0, 1.0)] * 6, (-0.3, 0.8)]):
        state = revision.observe(state, MEAN, COVARIANCE, delta(value), campaign=campaign, dose=dose)
    assert [f.dose for f in state.failures] == [0.2, 0.8]
    assert state.caution.ceiling == 0.8


@given(st.lists(st.floats(-1, 1), max_size=20))
@settings(max_examples=50, deadline=None)
def test_revision_stays_within_its_bounds(values):
    config = RevisionConfig()
    state = after(*values)
    assert 1 <= state.noise <= config.noise_max
    assert config.tighten_min <= state.tightening <= 1
    assert all(0 < weight <= 1 for weight in state.weights)
    assert len(state.weights) == len(values)


def test_outliers_in_opposite_directions_are_noise_and_no_shift():
    assert after(-0.4, 0.6).shifts == 0
    assert after(-0.4, -0.6).shifts == 1


def entries(values):
    return [
        Entry(strategy=STRATEGY, context=CONTEXT, delta=delta(v, 0.02), run="r", campaign=k)
        for k, v in enumerate(values)
    ]


def predicted(values, revision):
    belief = believe(MODEL, Information.none(), entries(values), revision=revision)
    return float(belief.posterior.predict([STRATEGY], CONTEXT).mean[0, 0]), belief.revision


def test_a_single_outlier_is_outlived_and_a_lasting_shift_is_believed():
    calm = [0.10] * 8
    outlier, state = predicted([*calm, -0.5, *[0.10] * 4], BeliefRevision())
    shifted, shift_state = predicted([*calm, -0.5, -0.5, -0.5, -0.5, -0.5], BeliefRevision())
    assert outlier == pytest.approx(0.10, abs=0.03)
    assert (state.shifts, state.stale, state.noise) == (0, 0, 1.0)
    assert min(state.weights) < 0.5
    assert shifted == pytest.approx(-0.5, abs=0.08)
    assert shift_state.shifts == 1
    assert shift_state.stale == 8
    assert set(shift_state.weights[8:]) == {1.0}


def test_without_revision_both_are_averaged():
    calm = [0.10] * 8
    revised = predicted([*calm, -0.5, -0.5, -0.5, -0.5, -0.5], BeliefRevision())[0]
    plain = predicted([*calm, -0.5, -0.5, -0.5, -0.5, -0.5], None)[0]
    assert plain > revised + 0.1


def test_a_belief_is_a_function_of_its_entries():
    values = [0.1, -0.4, 0.1, 0.05]
    one, other = (believe(MODEL, Information.none(), entries(values), revision=BeliefRevision()) for _ in "ab")
    assert one.revision == other.revision
    np.testing.assert_array_equal(one.posterior.weights()[0], other.posterior.weights()[0])


def test_a_covariance_that_is_none_is_refused():
    with pytest.raises(EntryError, match="positive definite"):
        mahalanobis(MEAN, -np.eye(6), delta(0.1))


@pytest.mark.parametrize("change", [{"alarm": 1.0}, {"agree": 0.999}, {"noise_factor": 0.5}, {"shift_after": 1}])
def test_an_impossible_revision_is_refused(change):
    with pytest.raises(EntryError, match="revision"):
        RevisionConfig(**change)
