"""Know a collapse of a training run when it happens, and keep the peak."""

from sr_monitor.analysis.noise import NoiseNull, corrected_peak, noise_null, null_of
from sr_monitor.analysis.oracles import hindsight_oracle, regret, trace_oracle
from sr_monitor.analysis.runs import Run
from sr_monitor.analysis.statistics import Interval, bootstrap, paired_bootstrap, wilson
from sr_monitor.analysis.trajectory import Trajectory, collapse_rate
from sr_monitor.analysis.verdict import Verdict, judge
from sr_monitor.errors import MonitorError, NothingYet
from sr_monitor.guard.collapse_guard import CollapseGuard
from sr_monitor.guard.decision import LAST_ITERATE, Decision, Guard, Request
from sr_monitor.guard.early_stop import EarlyStop
from sr_monitor.logs.readers import read_runs

__all__ = [
    "LAST_ITERATE",
    "CollapseGuard",
    "Decision",
    "EarlyStop",
    "Guard",
    "Interval",
    "MonitorError",
    "NoiseNull",
    "NothingYet",
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
