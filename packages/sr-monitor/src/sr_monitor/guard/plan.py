"""How much to evaluate: everything every time, or a little at every step and more where it matters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Of the samples a campaign may spend on evaluations: this part for the probes ...
PROBE_PART = 0.4
# ... and this part for one closer evaluation of one policy; a suspicion takes two of them, the end what is left.
CLOSER_PART = 0.17
FEWEST_PROBED = 8


@dataclass(frozen=True)
class Plan:
    """Sizes of the evaluations of one campaign.

    probe: indices of the tasks probed, None for all; the same every time, so that steps compare
    task by task. probe_samples, closer_samples, most_samples (ever): per task. probe_cost, bank: samples in all.
    """

    probe: tuple[int, ...] | None
    probe_samples: int
    closer_samples: int
    most_samples: int
    probe_cost: int
    bank: float
    tasks: int

    @classmethod
    def full(cls, samples: int) -> Plan:
        """All tasks, all samples, no limit."""
        return cls(None, samples, samples, samples, 0, math.inf, 1)

    @classmethod
    def within(cls, bank: float, *, evaluations: int, samples: int, tasks: int | None, campaign: int) -> Plan:
        """At most ``bank`` samples for ``evaluations`` probes and a few closer ones; at most ``samples`` per task each.

        The probed tasks are drawn from ``campaign`` alone. Until the number of tasks is known (the first evaluation),
        the probe is one sample of each.
        """
        if tasks is None:
            return cls(None, 1, 1, 1, 0, bank, 1)
        each = PROBE_PART * bank / evaluations
        probed = min(tasks, max(FEWEST_PROBED, int(each)))
        probe_samples = min(samples, max(1, int(each / probed)))
        probe = None
        if probed < tasks:
            order = np.random.default_rng([campaign, tasks]).permutation(tasks)
            probe = tuple(sorted(order[:probed].tolist()))
        closer_samples = min(samples, max(1, round(CLOSER_PART * bank / tasks)))
        return cls(probe, probe_samples, closer_samples, samples, probed * probe_samples, bank, tasks)

    def affordable(self, spent: int, probes_ahead: int, policies: int) -> int:
        """Samples per task for a closer evaluation of so many policies that leaves room for the probes ahead.

        Where none are ahead, all that is left.
        """
        if math.isinf(self.bank):
            return self.closer_samples
        left = self.bank - spent - probes_ahead * self.probe_cost
        most = self.closer_samples if probes_ahead else self.most_samples
        return max(0, min(most, int(left / (policies * self.tasks))))
