"""What is known about a run, on the terminal, as figures and as one HTML page."""

from sr_monitor.report.html import render, summarize, write_report

__all__ = ["render", "summarize", "write_report"]
