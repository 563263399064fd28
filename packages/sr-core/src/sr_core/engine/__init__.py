"""The engine: sampling from a policy and scoring completions, with what the samples of a prompt share computed once."""

from sr_core.engine.engine import Engine
from sr_core.engine.scoring import Scores

__all__ = ["Engine", "Scores"]
