"""What can go wrong in sr-reward, as types."""


class RewardError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""
