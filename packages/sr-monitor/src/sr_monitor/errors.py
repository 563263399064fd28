"""What can go wrong in sr-monitor, as types."""


class MonitorError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""


class NothingYet(MonitorError):
    """A file or folder without rows of a log, as a run has before its first step."""
