"""What packages that never import each other must say alike."""

import torch

from sr_care.belief.effects import GROUP_NORMALISED
from sr_core.algorithm_config import ALGORITHM
from sr_core.algorithms import ALGORITHMS, make_algorithm
from sr_core.optim import movement
from sr_core.optim import step_size as rule
from sr_monitor.integrations import movement as callback_movement
from sr_monitor.integrations import step_size as callback


def test_care_knows_which_algorithms_divide_by_the_spread_of_a_group() -> None:
    rewards_PG = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
    scaled_PG = rewards_PG * torch.tensor([[1.0], [0.25]])  # the second group alone has a smaller spread
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool)
    normalised = set()
    for name in ALGORITHMS:
        one, other = (
            make_algorithm(ALGORITHM[name](), max_tokens=8).advantages(rewards, valid_PG)[1]
            for rewards in (rewards_PG, scaled_PG)
        )
        if torch.allclose(one, other, rtol=1e-3):
            normalised.add(name)
    assert normalised == GROUP_NORMALISED


def test_the_callback_measures_steps_by_the_rule_of_the_trainer() -> None:
    shared = set(vars(rule)) & set(vars(callback))
    numbers = {name for name in shared if name.isupper() and isinstance(getattr(rule, name), int | float)}
    assert numbers >= {"SHARE_OF_ENTROPY", "LEAST_ENTROPY", "AIM", "SEARCHED", "MEASUREMENTS", "GAIN", "FALL", "RISE"}
    assert {name: getattr(rule, name) for name in numbers} == {name: getattr(callback, name) for name in numbers}
    assert (rule.RATES, movement.KEPT) == (callback.RATES, callback_movement.KEPT)
