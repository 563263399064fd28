"""What a launcher (``accelerate launch``, ``torchrun``) says about the process that it started. Loads no torch."""

from __future__ import annotations

import os

__all__ = ["leads", "neighbours"]


def leads() -> bool:
    """Whether this process speaks for the run: the first one, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def neighbours() -> int:
    """How many processes of the run this machine has, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
