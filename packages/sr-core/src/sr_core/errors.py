"""What can go wrong in sr-core, as types. Loads no torch."""


class CoreError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""


class ConfigError(CoreError):
    """A configuration value breaks a rule."""


class PolicyError(CoreError):
    """A policy cannot be loaded or used."""


class RunError(CoreError):
    """A run directory cannot be written, continued or read."""


class GraderError(CoreError):
    """The grader failed for too many samples of a step to trust the rest."""


class NonFiniteError(PolicyError):
    """The policy's scores are no longer finite numbers; nothing can be sampled from it."""


class RankError(CoreError):
    """The processes of a run lost contact, or their states differ."""


class ElsewhereError(CoreError):
    """Another process of the run failed and reports the reason itself."""
