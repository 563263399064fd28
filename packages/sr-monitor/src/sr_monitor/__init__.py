"""sr-monitor."""

from sr_monitor.errors import MonitorError

__all__ = ["MonitorError"]
