"""What can go wrong in sr-reward, as types."""


class RewardError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""


class TaskError(RewardError, ValueError):
    """A task, a sample or a setting that breaks a rule."""


class FormatError(RewardError, ValueError):
    """A file that does not hold what it should; the message names file and line."""


class IsolationError(RewardError, RuntimeError):
    """The isolation that was asked for is not available on this machine."""
