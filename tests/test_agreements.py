"""What packages that never import each other must say alike."""

import torch

from sr_care.belief.effects import GROUP_NORMALISED
from sr_core.algorithm_config import ALGORITHM
from sr_core.algorithms import ALGORITHMS, make_algorithm


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
