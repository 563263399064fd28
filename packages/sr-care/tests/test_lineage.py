from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sr_care import CapabilityDelta, Context, Entry, Strategy
from sr_care.lineage import FIRST, advantage, best, lineage


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
    policies = lineage([campaign(0, 0.2), campaign(1, -0.3), campaign(2, 0.1, start_from=0)], 0.05)
    assert best(policies) == 2
    gain, error = advantage(policies[2], policies[1])
    assert (gain, error) == (pytest.approx(0.4), pytest.approx(0.02 * 2**0.5))


def test_what_trained_nothing_changed_nothing():
    policies = lineage([campaign(0, 0.2), campaign(1, 0.1, steps=0)], 0.05)
    assert advantage(policies[1], policies[0]) == (0, 0)


changes = st.lists(st.tuples(st.floats(-0.3, 0.3), st.integers(-1, 9)), min_size=1, max_size=8)


@given(changes)
def test_advantages_are_opposite_and_nobody_beats_the_best(rows):
    past = [campaign(k, change, start_from=start if start < k else None) for k, (change, start) in enumerate(rows)]
    policies = lineage(past, 0.05)
    assert set(policies) == {FIRST, *range(len(rows))}
    top = policies[best(policies)]
    for one in policies.values():
        assert advantage(one, one) == (0, 0)
        assert advantage(top, one)[0] >= 0
        for other in policies.values():
            assert advantage(one, other)[0] == pytest.approx(-advantage(other, one)[0])
            assert advantage(one, other)[1] == pytest.approx(advantage(other, one)[1])
