"""A benchmark of rules that watch training runs, on recorded real ones: ``python -m sr_monitor.tracebench``."""

from sr_monitor.tracebench import truth
from sr_monitor.tracebench.play import SAMPLES, Detector, Outcome, Rule, detected, guarded
from sr_monitor.tracebench.score import Score, table
from sr_monitor.tracebench.submit import decisions, entry_point, export
from sr_monitor.tracebench.trace import Pool, Trace, load, split

__all__ = [
    "SAMPLES",
    "Detector",
    "Outcome",
    "Pool",
    "Rule",
    "Score",
    "Trace",
    "decisions",
    "detected",
    "entry_point",
    "export",
    "guarded",
    "load",
    "split",
    "table",
    "truth",
]
