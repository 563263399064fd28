"""Stop texts while sampling: a completion ends with the token that completes one of its prompt's stop texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sr_core.policy import Policy

__all__ = ["Stops"]


class Stops:
    """Finds the completions that have just written a stop text, and keeps their lengths in ``ended``, by number.

    ``stops``: the texts of each prompt, which has ``group`` samples. After every token a window of the last ones is
    decoded: as many as a stop may take, at one byte a token, and one more, whose leading space a decoder may drop.
    """

    def __init__(self, policy: Policy, stops: Sequence[Sequence[str]], group: int) -> None:
        self.policy, self.stops, self.group = policy, stops, group
        self.ended: dict[int, int] = {}
        self.window = 1 + max((len(text.encode()) for texts in stops for text in texts), default=0)

    @property
    def any(self) -> bool:
        """Whether there is anything to find."""
        return self.window > 1

    def find(self, ids_NT: Tensor, number_S: Tensor, length: int) -> Tensor:
        """Which of the samples ``number_S`` stop with their token number ``length`` (from 1), as S booleans."""
        tails = ids_NT[number_S, max(0, length - self.window) : length].tolist()
        numbers = number_S.tolist()
        stopped = torch.zeros(len(numbers), dtype=torch.bool)
        for place, (number, text) in enumerate(zip(numbers, self.policy.decode(tails), strict=True)):
            if any(stop in text for stop in self.stops[number // self.group]):
                stopped[place] = True
                self.ended[number] = length
        return stopped.to(number_S.device)
