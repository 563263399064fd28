"""A rule from outside: a Python entry point, or a table of decisions made elsewhere on exported logs."""

from __future__ import annotations

import csv
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sr_monitor.errors import MonitorError
from sr_monitor.guard.decision import Guard
from sr_monitor.tracebench.play import SAMPLES, Detector, Outcome, Rule, detected, guarded, outcome
from sr_monitor.tracebench.trace import Pool, Trace

COLUMNS = ("run", "alarm", "kept")


def entry_point(name: str) -> Rule:
    """The rule that ``module:attribute`` makes: a callable without arguments that returns a Detector or a Guard.

    It is called once per run. Raises MonitorError where it cannot be found, or makes something else.
    """
    if ":" not in name:
        raise MonitorError(f"a detector must be given as MODULE:NAME, got {name!r}, for example my_rule:Detector")
    try:
        make = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise MonitorError(
            f"the detector {name} cannot be found ({error}): run where its module can be imported"
        ) from None
    if not callable(make):
        raise MonitorError(f"{name} must be callable without arguments, got {type(make).__name__}: give its class")
    made = make()
    if isinstance(made, Guard):
        return guarded(lambda trace: make())
    if isinstance(made, Detector):
        return detected(make)
    raise MonitorError(
        f"{name} must make an object with begin, update and kept (sr_monitor.tracebench.Detector), or a guard, "
        f"got {type(made).__name__}"
    )


def decisions(path: Path, traces: Sequence[Trace]) -> Rule:
    """The rule that decided as a CSV file says: ``run,alarm,kept[,drawn]``, one row per trace.

    alarm: a step, or empty for none. kept: a step up to the alarm. drawn: evaluation samples used; without this column,
    16 per held-out task and step until the alarm, as exported. Raises MonitorError, with the line, on anything else.
    """
    known = {trace.name: trace for trace in traces}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise MonitorError(f"{path}: columns run, alarm and kept are needed, {', '.join(missing)} not found")
            rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MonitorError(f"{path} cannot be read as CSV ({error}): name another file") from None
    decided: dict[str, Outcome] = {}
    for place, row in rows:
        if row["run"] not in known:
            raise MonitorError(
                f"{place}: {row['run']!r} is no run of this part; its names are those that --export writes"
            )
        if row["run"] in decided:
            raise MonitorError(f"{place}: {row['run']} is decided twice; keep one row per run")
        decided[row["run"]] = _decided(known[row["run"]], row, place)
    if absent := sorted(known.keys() - decided.keys()):
        raise MonitorError(f"{path}: {len(absent)} runs are missing, {absent[0]} for one; a row per run is needed")
    return lambda trace: decided[trace.name]


def _decided(trace: Trace, row: Mapping[str, str | None], place: str) -> Outcome:
    alarm = _whole(row["alarm"], "alarm", trace.last, place) if row["alarm"] else None
    executed = trace.last if alarm is None else alarm
    made = outcome(trace, alarm, _whole(row["kept"], "kept", executed, place))
    every = (executed + 1) * trace.tasks
    drawn = row.get("drawn")
    return replace(made, drawn=_whole(drawn, "drawn", every * trace.pool, place) if drawn else every * SAMPLES)


def _whole(text: str | None, name: str, most: int, place: str) -> int:
    if text is None or not text.strip().isdecimal() or int(text) > most:
        raise MonitorError(f"{place}: {name} must be a whole number from 0 to {most}, got {text!r}")
    return int(text)


def export(traces: Sequence[Trace], folder: Path) -> None:
    """Write each run as NAME.csv: step, held-out pass@1 on 16 samples per task, passes of each task, logged signals.

    The samples are those that every other rule sees first. What is audited is not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for trace in traces:
        pool = Pool(trace)
        signals = sorted(trace.signals[0])
        with (folder / f"{trace.name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "heldout_pass1", "tasks", "samples_per_task", "passes", *signals])
            for step, logged in enumerate(trace.signals):
                passes, samples = pool.draw(step, SAMPLES)
                rate = sum(passes) / (len(passes) * samples)
                head = [step, f"{rate:.6f}", len(passes), samples, " ".join(map(str, passes))]
                writer.writerow(head + ["" if (value := logged.get(name)) is None else value for name in signals])
