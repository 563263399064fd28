"""sr-reward."""

from sr_reward.errors import RewardError

__all__ = ["RewardError"]
