import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care import CapabilityDelta, CareError, Context, Entry, Strategy
from sr_care.entry import CAPABILITIES
from sr_care.errors import EntryError

shares = st.none() | st.floats(0, 1)
strategies = st.builds(
    Strategy,
    algorithm=st.sampled_from(["reinforce", "grpo", "dapo", "mine"]),
    lr=st.floats(1e-8, 1e-1),
    steps=st.integers(0, 200),
    group_size=st.none() | st.integers(1, 64),
    prompts=st.none() | st.integers(1, 64),
    penalty=st.none() | st.floats(0, 1),
)
contexts = st.builds(
    Context,
    family=st.none() | st.sampled_from(["numbers", "strings"]),
    model_parameters=st.none() | st.floats(1e5, 1e11),
    pass1=shares,
    passk=shares,
    positive_rate=shares,
    entropy=st.none() | st.floats(0, 5),
    unique_share=shares,
)
deltas = st.dictionaries(st.sampled_from(CAPABILITIES), st.tuples(st.floats(-1, 1), st.floats(0, 0.3)), min_size=1).map(
    lambda both: CapabilityDelta.from_errors(
        {name: v for name, (v, _) in both.items()}, {name: e for name, (_, e) in both.items()}
    )
)
entries = st.builds(
    Entry, strategy=strategies, context=contexts, delta=deltas, run=st.just("r"), campaign=st.integers(0, 99)
)


@given(entries)
@settings(max_examples=50, deadline=None)
def test_an_entry_survives_json(entry):
    assert Entry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


@given(deltas)
@settings(max_examples=50, deadline=None)
def test_a_delta_survives_its_bytes(delta):
    again = CapabilityDelta.from_bytes(delta.to_bytes())
    assert dict(again.values) == dict(delta.values)
    np.testing.assert_array_equal(again.matrix(), delta.matrix())


@pytest.mark.parametrize(
    ("values", "covariance", "word"),
    [
        ({"pass1": math.nan}, ((0.1,),), "pass1"),
        ({"pass1": 0.1}, ((-0.1,),), "negative eigenvalue"),
        ({"pass1": 0.1, "hard": 0.0}, ((0.1, 0.2), (0.2, 0.1)), "negative eigenvalue"),
        ({"pass1": 0.1, "hard": 0.0}, ((0.1, 0.05), (0.0, 0.1)), "symmetric"),
        ({"pass1": 0.1}, ((math.inf,),), "finite"),
        ({"pass1": 0.1}, (), "1 × 1"),
        ({"speed": 0.1}, ((0.1,),), "pass1, pass16"),
        ({}, (), "at least one"),
    ],
)
def test_an_impossible_delta_is_refused_with_its_reason(values, covariance, word):
    with pytest.raises(EntryError, match=word):
        CapabilityDelta(values=values, covariance=covariance)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0},
        {"lr": math.nan},
        {"lr": True},
        {"steps": -1},
        {"steps": 2.5},
        {"algorithm": " "},
        {"penalty": -1},
    ],
)
def test_an_impossible_strategy_is_refused(change):
    with pytest.raises(CareError) as caught:
        Strategy(**{"algorithm": "grpo", "lr": 1e-3, "steps": 20, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"pass1": 1.2}, {"entropy": -1}, {"model_parameters": 0}, {"family": 3}])
def test_an_impossible_context_is_refused(change):
    with pytest.raises(EntryError):
        Context(**change)


def test_strategies_are_canonical():
    assert Strategy(algorithm=" GRPO ", lr=1e-3, steps=20) == Strategy(algorithm="grpo", lr=1e-3, steps=20)
