"""Know a collapse of a training run when it happens, and keep the peak."""

from sr_monitor.decision import LAST_ITERATE, Decision, Guard, Request
from sr_monitor.early_stop import EarlyStop
from sr_monitor.errors import MonitorError
from sr_monitor.guard import CollapseGuard
from sr_monitor.noise import NoiseNull, corrected_peak, noise_null, null_of
from sr_monitor.oracles import hindsight_oracle, regret, trace_oracle
from sr_monitor.readers import read_runs
from sr_monitor.runs import Run
from sr_monitor.statistics import Interval, bootstrap, paired_bootstrap, wilson
from sr_monitor.trajectory import Trajectory, collapse_rate
from sr_monitor.verdict import Verdict, judge

__all__ = [
    "LAST_ITERATE",
    "CollapseGuard",
    "Decision",
    "EarlyStop",
    "Guard",
    "Interval",
    "MonitorError",
    "NoiseNull",
    "Request",
    "Run",
    "Trajectory",
    "Verdict",
    "bootstrap",
    "collapse_rate",
    "corrected_peak",
    "hindsight_oracle",
    "judge",
    "noise_null",
    "null_of",
    "paired_bootstrap",
    "read_runs",
    "regret",
    "trace_oracle",
    "wilson",
]
