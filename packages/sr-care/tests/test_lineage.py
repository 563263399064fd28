from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sr_care import CapabilityDelta, Context, Entry, Strategy
from sr_care.lineage import FIRST, advantage, best, lineage

MERIT = {"pass1": 1.0, "pass16": 0.5}


def campaign(number, change, error=0.02, start_from=None, steps=20):
    return Entry(
        strategy=Strategy(algorithm="grpo", lr=1e-3, steps=steps),
        context=Context(),
        delta=CapabilityDelta.from_errors({"pass1": change}, {"pass1": error}),
        run="r",
        campaign=number,
        start_from=start_from,
    )


def test_policies_on_two_branches_are_compared_from_where_they_part():
    policies = lineage([campaign(0, 0.2), campaign(1, -0.3), campaign(2, 0.1, start_from=0)], MERIT, 0.05)
    assert best(policies) == 2
    gain, error = advantage(policies[2], policies[1])
    assert (gain, error) == (pytest.approx(0.4), pytest.approx(0.02 * 2**0.5))


def test_what_trained_nothing_changed_nothing():
    policies = lineage([campaign(0, 0.2), campaign(1, 0.1, steps=0)], MERIT, 0.05)
    assert advantage(policies[1], policies[0]) == (0, 0)


def test_merit_weighs_the_capabilities_and_their_shared_error():
    delta = CapabilityDelta(values={"pass16": -0.4, "pass1": 0.1}, covariance=((0.01, 0.001), (0.001, 0.0016)))
    entry = replace(campaign(0, 0.1), delta=delta)
    policies = lineage([entry], MERIT, 0.05)
    assert best(policies) == FIRST
    gain, error = advantage(policies[FIRST], policies[0])
    assert gain == pytest.approx(0.5 * 0.4 - 0.1)
    assert error**2 == pytest.approx(0.0016 + 0.25 * 0.01 + 2 * 0.5 * 0.001)


def test_what_was_not_measured_is_taken_as_unchanged():
    unknown = replace(campaign(0, 0.0), delta=CapabilityDelta.from_errors({"ood": -0.5}, {"ood": 0.01}))
    policies = lineage([unknown, campaign(1, 0.1)], MERIT, 0.05)
    assert advantage(policies[0], policies[FIRST]) == (0, pytest.approx(0.05))
    assert advantage(policies[1], policies[0]) == (pytest.approx(0.1), pytest.approx(0.02))


changes = st.lists(st.tuples(st.floats(-0.3, 0.3), st.integers(-1, 9)), min_size=1, max_size=8)


@given(changes)
def test_advantages_are_opposite_and_nobody_beats_the_best(rows):
    past = [campaign(k, change, start_from=start if start < k else None) for k, (change, start) in enumerate(rows)]
    policies = lineage(past, MERIT, 0.05)
    assert set(policies) == {FIRST, *range(len(rows))}
    top = policies[best(policies)]
    for one in policies.values():
        assert advantage(one, one) == (0, 0)
        assert advantage(top, one)[0] >= 0
        for other in policies.values():
            assert advantage(one, other)[0] == pytest.approx(-advantage(other, one)[0])
            assert advantage(one, other)[1] == pytest.approx(advantage(other, one)[1])
