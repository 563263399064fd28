"""sr-care."""

from sr_care.errors import CareError

__all__ = ["CareError"]
