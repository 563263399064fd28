"""The attack suite: programs that try to pass without solving, to see, to reach, to exhaust or to stay.

Every attack has a positive control: the same program, run without isolation, must succeed, so that "contained"
means that the isolation held and not that the attack was broken.
"""

from sr_reward.attacks.catalogue import ATTACKS
from sr_reward.attacks.model import Attack
from sr_reward.attacks.suite import Finding, run_suite

__all__ = ["ATTACKS", "Attack", "Finding", "run_suite"]
