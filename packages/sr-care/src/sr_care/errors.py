"""What can go wrong in sr-care, as types."""


class CareError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""
