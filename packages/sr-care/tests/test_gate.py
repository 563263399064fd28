import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care import CapabilityDelta, Context, Entry, Strategy, TransferGate
from sr_care.belief.posterior import Posterior
from sr_care.belief.revision import Caution
from sr_care.errors import EntryError
from sr_care.gate import GateConfig

CONTEXT = Context(family="numbers", pass1=0.4, model_parameters=1.1e6)
PROPOSAL = Strategy(algorithm="reinforce", lr=1e-3, steps=20)


def seen(*outcomes, error=0.02, repeat=1):
    """The belief after campaigns of (steps, delta of pass@1, more deltas …)."""
    entries = [
        Entry(
            strategy=Strategy(algorithm="reinforce", lr=1e-3, steps=steps),
            context=CONTEXT,
            delta=CapabilityDelta.from_errors({"pass1": delta, **more}, dict.fromkeys(["pass1", *more], error)),
            run="r",
            campaign=k,
        )
        for k, (steps, delta, more) in enumerate((*o, {})[:3] for o in outcomes * repeat)
    ]
    return Posterior.empty().update(entries)


def decide(posterior, caution=None, **config):
    return TransferGate(GateConfig(**config)).decide(PROPOSAL, CONTEXT, posterior, caution)


def test_an_empty_memory_gives_neutral_advice():
    decision = decide(Posterior.empty())
    assert (decision.action, decision.strategy) == ("reuse", PROPOSAL)


def test_what_worked_is_reused():
    decision = decide(seen((20, 0.15), repeat=6))
    assert (decision.action, decision.strategy) == ("reuse", PROPOSAL)
    assert decision.outlook.risk <= decision.risk_limit


def test_what_falls_late_is_adapted_to_a_shorter_budget():
    decision = decide(seen((20, -0.15), (10, 0.12), repeat=6))
    assert decision.action == "adapt"
    assert decision.strategy.steps * decision.strategy.lr < PROPOSAL.steps * PROPOSAL.lr
    assert decision.outlook.risk <= decision.risk_limit < decision.proposal.risk


def test_what_always_falls_is_rejected_and_the_policy_held():
    decision = decide(seen((20, -0.2), (10, -0.15), (5, -0.1), repeat=8))
    assert (decision.action, decision.strategy.steps) == ("reject", 0)


def test_what_is_uncertain_is_piloted():
    decision = decide(seen((20, -0.02), error=0.3), risk_limit=0.05)
    assert (decision.action, decision.strategy.steps) == ("pilot", 10)


def test_a_pilot_takes_the_nearest_rate_whose_risk_is_borne():
    fell = seen((20, 0.01, {"well_formed": -0.2}), error=0.03)
    config = {"risk_limit": 0.01, "min_gain": 0.05}
    eager, careful = (decide(fell, **config, pilot_risk=risk) for risk in (0.99, 0.3))
    assert (eager.action, careful.action) == ("pilot", "pilot")
    assert eager.strategy.lr == PROPOSAL.lr > careful.strategy.lr
    assert eager.strategy.steps == careful.strategy.steps == 10
    assert careful.outlook.risk <= 0.3 < eager.outlook.risk


def test_a_protected_capability_can_forbid_what_pass1_allows():
    falls = seen((20, 0.15, {"hard": -0.5}), repeat=6)
    assert decide(falls, protected={"pass1": 0.05}).action == "reuse"
    decision = decide(falls)
    assert decision.strategy != PROPOSAL
    assert decision.proposal.effects["hard"][2] > 0.9


def test_a_capability_nobody_measured_is_no_ground_for_fear():
    assert set(decide(seen((20, 0.15))).outlook.effects) == {"pass1"}


def test_adapting_moves_to_the_nearest_change_that_meets_the_limit():
    gate = TransferGate(GateConfig(gain_margin=1.0))
    posterior = seen((20, -0.15), (10, 0.12), repeat=6)
    decision = gate.decide(PROPOSAL, CONTEXT, posterior)
    nearer = gate.candidates(PROPOSAL)
    nearer = nearer[: nearer.index(decision.strategy)]
    for outlook in gate.outlook(nearer, CONTEXT, posterior):
        assert outlook.risk > decision.risk_limit or outlook.gain < 0


@given(st.integers(1, 60), st.floats(1e-6, 1e-2), st.none() | st.floats(0.01, 1))
@settings(max_examples=40, deadline=None)
def test_changes_never_do_more_than_was_proposed(steps, lr, penalty):
    proposal = Strategy(algorithm="grpo", lr=lr, steps=steps, penalty=penalty)
    candidates = TransferGate().candidates(proposal)
    assert candidates[0] == proposal
    assert len(set(candidates)) == len(candidates)
    for c in candidates:
        assert 0 < c.steps <= steps
        assert c.lr <= lr
        assert (c.penalty is None) == (penalty is None)
        assert penalty is None or c.penalty >= penalty


@given(st.floats(-0.3, 0.3), st.floats(0.05, 0.5), st.floats(1, 16), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_whatever_is_not_held_or_piloted_meets_the_risk_limit(delta, error, noise, count):
    decision = decide(seen((20, delta), error=error, repeat=count), Caution(noise=noise, tightening=0.5))
    if decision.action in ("reuse", "adapt"):
        assert decision.outlook.risk <= decision.risk_limit == GateConfig().risk_limit / 2
        assert decision.outlook.gain >= 0


@given(st.floats(-0.3, 0.3), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_tighter_gate_never_allows_a_larger_dose(delta, count):
    posterior = seen((20, delta), (10, 0.1), repeat=count)
    free, tight = (decide(posterior, Caution(tightening=t), gain_margin=1.0) for t in (1.0, 0.5))
    if tight.action in ("reuse", "adapt"):
        assert free.action in ("reuse", "adapt")
        gate = TransferGate()
        places = [gate.candidates(PROPOSAL).index(d.strategy) for d in (free, tight)]
        assert places[0] <= places[1]


def test_nothing_at_or_above_a_failed_dose_is_done():
    posterior = seen((20, 0.15), repeat=6)
    decision = decide(posterior, Caution(ceiling=0.6))
    assert posterior.model.dose(_rows(decision.strategy))[0] < 0.6
    assert decide(posterior, Caution(ceiling=0.0)).action == "reject"


def _rows(strategy):
    from sr_care.belief.effects import query_rows

    return query_rows([strategy], CONTEXT)


def test_doubts_about_several_capabilities_do_not_add_up():
    more = {"hard": 0.03, "ood": 0.03, "well_formed": 0.03}
    alone, together = (decide(seen((20, 0.05, also), repeat=4)).proposal for also in ({}, more))
    assert together.risk == max(below for _, _, below in together.effects.values())
    assert together.risk < alone.risk + 0.1


def test_a_policy_near_zero_has_less_to_lose_in_points():
    low = Context(pass1=0.04, model_parameters=1.1e6)
    posterior = seen((20, 0.0), repeat=3)
    gate = TransferGate(GateConfig(protected={"pass1": 0.05}))
    assert gate.outlook([PROPOSAL], low, posterior)[0].risk > gate.outlook([PROPOSAL], CONTEXT, posterior)[0].risk


@pytest.mark.parametrize(
    "config",
    [{"protected": {"speed": 0.1}}, {"risk_limit": 1.5}, {"step_shares": (2.0,)}, {"pilot_steps": 0}],
)
def test_an_impossible_gate_is_refused(config):
    with pytest.raises(EntryError):
        GateConfig(**config)


def test_the_answer_explains_itself_with_its_numbers():
    decision = decide(seen((20, -0.15), (10, 0.12), repeat=6))
    assert f"{decision.outlook.risk:.0%}" in decision.reason
    assert f"{decision.outlook.gain:+.1%}" in decision.reason
    assert np.isfinite(decision.outlook.gain_sd)
