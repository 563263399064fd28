"""Know a collapse of a training run when it happens, and keep the peak."""

from sr_monitor.decision import Decision, Guard, Request
from sr_monitor.early_stop import EarlyStop
from sr_monitor.errors import MonitorError
from sr_monitor.guard import CollapseGuard
from sr_monitor.noise import NoiseNull, corrected_peak, noise_null, null_of
from sr_monitor.oracles import hindsight_oracle, regret, trace_oracle
from sr_monitor.statistics import Interval, bootstrap, paired_bootstrap, wilson
from sr_monitor.trajectory import Trajectory, collapse_rate

__all__ = [
    "CollapseGuard",
    "Decision",
    "EarlyStop",
    "Guard",
    "Interval",
    "MonitorError",
    "NoiseNull",
    "Request",
    "Trajectory",
    "bootstrap",
    "collapse_rate",
    "corrected_peak",
    "hindsight_oracle",
    "noise_null",
    "null_of",
    "paired_bootstrap",
    "regret",
    "trace_oracle",
    "wilson",
]
