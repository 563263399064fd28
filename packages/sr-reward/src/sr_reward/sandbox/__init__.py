"""Isolated workers that run programs and return what they wrote."""

from sr_reward.sandbox.sandbox import LEVELS, Sandbox

__all__ = ["LEVELS", "Sandbox"]
