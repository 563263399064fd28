"""Tables for people: what came of a run, or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from sr_cli.live import percent

MEASURED = ("start", "peak", "end", "kept")


def summary_table(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Start, peak, end and kept of each summary, on held-out tasks and, where measured, on the audit set."""
    table = Table("run", "measured on", *MEASURED, "peak at step")
    for name, summary in summaries.items():
        at = str(summary["peak_step"])
        if len(summary["campaigns"]) > 1:
            at += f" of campaign {summary['peak_campaign']}"
        table.add_row(name, "held-out", *(percent(summary[key]) for key in MEASURED), at)
        if "audit" in summary:
            table.add_row("", "audit", *(percent(summary["audit"][key]) for key in MEASURED), "")
    return table
