"""Know a collapse of a training run when it happens, and keep the peak."""

from sr_monitor.decision import Decision, Guard, Request
from sr_monitor.early_stop import EarlyStop
from sr_monitor.errors import MonitorError
from sr_monitor.guard import CollapseGuard
from sr_monitor.trajectory import Trajectory, collapse_rate

__all__ = [
    "CollapseGuard",
    "Decision",
    "EarlyStop",
    "Guard",
    "MonitorError",
    "Request",
    "Trajectory",
    "collapse_rate",
]
