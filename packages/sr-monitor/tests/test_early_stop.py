"""EarlyStop does what the paper describes, in both readings."""

import pytest
from scripted_campaigns import FINITE

from sr_monitor import EarlyStop, MonitorError


def run(guard: EarlyStop, curve: list[int], campaign: int = 0) -> tuple[int, list[str]]:
    """Plays passing counts (of one task, 16 samples) until the guard stops; the budget and the actions."""
    budget = guard.begin(campaign, len(curve) - 1)
    actions = []
    for step, passes in enumerate(curve[: budget + 1]):
        request = guard.ask(step)
        assert request is not None
        assert request.samples == 16
        guard.tell(step, [passes], 16)
        assert guard.ask(step) is None
        actions.append(guard.decide(step, FINITE).action)
        if actions[-1] == "stop":
            break
    return budget, actions


def test_next_budget_is_three_steps_more_than_the_last_peak() -> None:
    guard = EarlyStop(mode="next_budget")
    assert run(guard, [4, 8, 12, 6, 5, 4, 3, 2, 1])[0] == 8
    assert guard.kept() == 2
    assert run(guard, [12] + [4] * 20)[0] == 5
    assert guard.kept() == 0
    assert run(guard, [4] * 21)[0] == 3


def test_next_budget_never_exceeds_the_steps_there_are() -> None:
    guard = EarlyStop(mode="next_budget")
    run(guard, [1, 2, 3, 4])
    assert run(guard, [1, 2, 3, 4])[0] == 3


def test_patience_stops_three_steps_after_the_peak() -> None:
    guard = EarlyStop(mode="patience")
    assert run(guard, [4, 8, 12, 6, 5, 4, 3])[1] == ["continue"] * 5 + ["stop"]
    assert guard.kept() == 2


def test_patience_counts_only_gains_above_min_delta() -> None:
    assert run(EarlyStop(mode="patience", min_delta=0.1), [4, 5, 5, 5, 5])[1][-1] == "stop"
    assert run(EarlyStop(mode="patience"), [4, 5, 6, 7, 8])[1][-1] == "continue"


def test_non_finite_signals_stop() -> None:
    guard = EarlyStop()
    guard.begin(0, 5)
    guard.tell(0, [4], 16)
    assert guard.decide(0, {"grad_norm": float("nan")}).rule == "non_finite"


def test_a_restored_guard_answers_the_same() -> None:
    whole, first, second = EarlyStop(), EarlyStop(), EarlyStop()
    run(whole, [4, 8, 12, 6])
    run(first, [4, 8, 12, 6])
    second.load_state_dict(first.state_dict())
    assert run(second, [1] * 30) == run(whole, [1] * 30)


@pytest.mark.parametrize("bad", [{"mode": "best"}, {"patience": 0}, {"samples": 0}, {"min_delta": 1.5}])
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(MonitorError, match="early stop"):
        EarlyStop(**bad)  # type: ignore[arg-type]
