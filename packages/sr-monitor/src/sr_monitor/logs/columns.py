"""Which columns of a log are what: the held-out metric, the training signals, the step.

Names are data (``names.json``, each with its source). A training metric is never taken for a held-out one: names that
are not in the table, but could be held-out, become candidates, which the user is told of.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from sr_monitor.analysis.curve import OURS, Kind, Metric
from sr_monitor.analysis.runs import Advice
from sr_monitor.errors import MonitorError

EVALUATION = ("heldout_se", "tasks", "samples_per_task")
# What --column may name on its left: `heldout` takes the scale from the values, `heldout_pass1` states a pass rate.
HELDOUT_NAMES = ("heldout", OURS)
_EVALUATES = {"eval", "evaluation", "val", "valid", "validation", "test", "dev", "heldout", "held", "holdout", "bench"}
_MEASURES = {
    *("acc", "accuracy", "pass", "pass1", "correct", "success", "solve", "solved", "score", "scores", "reward"),
    *("exact", "em", "f1", "win", "winrate", "return", "loss", "nll", "ppl", "perplexity"),
}
_BESIDE = {
    *("runtime", "second", "seconds", "time", "timing", "epoch", "step", "steps", "len", "length", "lengths", "std"),
    *(
        "entropy",
        "kl",
        "lr",
        "num",
        "count",
        "tokens",
        "token",
        "memory",
        "min",
        "max",
        "ratio",
        "clip",
        "grad",
        "norm",
    ),
    *("turns", "format", "learning", "rate_limit", "samples", "size", "seed", "id", "rank", "failed", "errors"),
}
# Names of what is better if it is lower, anywhere in a column's name or as its last word.
_LOSSES = {"loss", "nll", "ppl", "perplexity", "wer", "cer", "mae", "mse", "rmse", "bpb", "bpc"}
_LOWER = _LOSSES | {"error", "errors", "err", "entropy", "regret", "failure", "failures"}
_AVERAGES = {"mean", "avg", "average", "total", "rate", "rewards", "accuracies"}
# A rate may exceed its bounds by so much, as rounding does it.
_ROUNDING = 1e-5
# A column that holds a number in at most this share of the rows is measured now and then, as evaluations are.
_SPARSE = 0.6


@dataclass(frozen=True, kw_only=True)
class Found:
    """The columns of a run. metric: None where none is known to be held-out. signals: our name -> the log's."""

    metric: Metric | None
    signals: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


@cache
def names() -> dict[str, Any]:
    """The table of names, with its patterns compiled."""
    table: dict[str, Any] = json.loads((files("sr_monitor.logs") / "names.json").read_text(encoding="utf-8"))
    for row in [
        *table["heldout"],
        *table["never"],
        *table["steps"],
        *(r for s in table["signals"].values() for r in s),
    ]:
        row["pattern"] = re.compile(row["name"], re.IGNORECASE)
    return table


def never_heldout(column: str) -> bool:
    """Whether a name says that its values come from training."""
    return any(row["pattern"].fullmatch(column) for row in names()["never"])


def find(values: Mapping[str, Sequence[float]], given: Mapping[str, str]) -> Found:
    """The columns of a log whose finite numbers are ``values``; ``given``: our name -> the log's, before any pattern.

    Raises MonitorError for a name that is not ours, or that the log does not have.
    """
    present = set(values)
    _check(present, given)
    signals = {ours: found for ours in names()["signals"] if (found := _signal(ours, present, given))}
    chosen = next((given[name] for name in HELDOUT_NAMES if name in given), None)
    metric: Metric | None
    if chosen is not None:
        metric, notes = _given_metric(chosen, values[chosen], stated="heldout" not in given)
    else:
        rewarded = any("rew" in c.lower() or "score" in c.lower() for c in signals.get("train_reward", ()))
        metric, notes = _known_metric(values, learns_from_reward=rewarded and "rewards/accuracies" not in present)
    if metric is not None:
        signals = {
            name: cols for name, cols in signals.items() if name in EVALUATION or not {*cols} & {*metric.columns}
        }
    return Found(metric=metric, signals=signals, notes=notes)


def step_columns(present: Collection[str]) -> list[tuple[str, ...]]:
    """The columns that may hold the step, alternatives in the order of preference."""
    groups = (tuple(sorted(c for c in present if row["pattern"].fullmatch(c))) for row in names()["steps"])
    return [group for group in groups if group]


def candidates(values: Mapping[str, Sequence[float]], rows: int, signals: Mapping[str, Any]) -> list[str]:
    """Columns that could be held-out, the likeliest first, where no name is known."""
    found: list[tuple[int, str]] = []
    trained = bool({"loss", "grad_norm", "train_reward"} & set(signals))
    for column, numbers in values.items():
        words = _words(column)
        if not numbers or never_heldout(column) or words & _BESIDE or len(set(numbers)) < 2:
            continue
        # a bare "accuracy" in every row beside a loss is that of the batch; "mmlu accuracy" says what it is of
        sparse, qualified = len(numbers) <= _SPARSE * rows, bool(words - _MEASURES - _AVERAGES)
        if words & _EVALUATES:
            found.append((0 if words & _MEASURES else 1, column))
        elif words & _MEASURES and (sparse or qualified or not trained):
            found.append((2, column))
    return [column for _, column in sorted(found)]


def unknown(values: Mapping[str, Sequence[float]], signals: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns of numbers that vary and that no name of the table explains, in the order of their names."""
    known = {column for columns in signals.values() for column in columns}
    return [
        column
        for column, numbers in sorted(values.items())
        if len(set(numbers)) > 1 and column not in known and not never_heldout(column) and not _words(column) & _BESIDE
        if not any(row["pattern"].fullmatch(column) for row in names()["steps"])
        if not any(row["pattern"].fullmatch(column) for rows in names()["signals"].values() for row in rows)
    ]


def evaluates(name: str) -> bool:
    """Whether a name says that its values come from an evaluation."""
    return bool(_words(name) & _EVALUATES)


def lower_is_better(column: str) -> bool:
    """Whether a name says that its values fall when things improve: a loss, a perplexity, a rate of errors."""
    said = [word for word in _in_order(column) if word not in _AVERAGES]
    loss = bool(_LOSSES & {*said}) and not (_MEASURES - _LOSSES) & {*said}
    return bool(said) and (said[-1] in _LOWER or loss)


def _words(column: str) -> set[str]:
    """The words of a name, also without digits at their end."""
    words = set(_in_order(column))
    return (words | {word.rstrip("0123456789") for word in words}) - {""}


def _in_order(column: str) -> list[str]:
    """The words of a name in lower case, camelCase apart."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower())
    return [word for word in words if word]


def command(path: str, column: str) -> str:
    """The command that judges the log at ``path`` by ``column``."""
    return f"sr watch {shlex.quote(path)} --column {shlex.quote(f'heldout={column}')}"


def advice(format: str, present: Collection[str]) -> Advice | None:
    """What to do with the trainer that wrote these columns, None if it is not known.

    A single name counts for little, and one that hand-written loops use, too, for nothing.
    """
    table = names()["trainers"]
    counted = dict.fromkeys(table, 0)
    for rows in names()["signals"].values():
        for row in rows:
            if "hand-written" in row["trainer"]:
                continue
            matches = sum(bool(row["pattern"].fullmatch(column)) for column in present)
            for trainer in counted:
                counted[trainer] += matches * (trainer in row["trainer"])
    for trainer, told in table.items():
        counted[trainer] += 100 * (format in told["formats"])
    likeliest, second = sorted(counted, key=lambda trainer: -counted[trainer])[:2]
    if counted[likeliest] < 2 or counted[likeliest] == counted[second]:
        return None
    return Advice(trainer=likeliest, evaluate=table[likeliest]["evaluate"], setting=table[likeliest]["setting"])


def _check(present: Collection[str], given: Mapping[str, str]) -> None:
    ours = {"step", *HELDOUT_NAMES, *names()["signals"]}
    for name, theirs in given.items():
        if name not in ours:
            raise MonitorError(f"column map: unknown name {name!r}; choose from {', '.join(sorted(ours))}")
        if theirs not in present:
            raise MonitorError(
                f"column map: the log has no column {theirs!r}; it has {', '.join(sorted(present)[:20])}"
            )


def _signal(ours: str, present: Collection[str], given: Mapping[str, str]) -> tuple[str, ...]:
    if ours in given:
        return (given[ours],)
    for row in names()["signals"][ours]:
        if found := tuple(sorted(c for c in present if row["pattern"].fullmatch(c))):
            return found
    return ()


def _known_metric(
    values: Mapping[str, Sequence[float]], *, learns_from_reward: bool
) -> tuple[Metric | None, tuple[str, ...]]:
    """The metric by the first row of the table that matches; several columns of that row are averaged."""
    found: list[tuple[Metric, tuple[str, ...]]] = []
    notes: tuple[str, ...] = ()
    taken: set[str] = set()
    for row in names()["heldout"]:
        matches = _matches(row["pattern"], {c: v for c, v in values.items() if c not in taken})
        taken |= set(matches)
        if matches and row["kind"] == "loss" and learns_from_reward:
            notes = (f"{', '.join(matches)} is the loss of a policy gradient, which does not measure quality",)
        elif matches:
            numbers = [number for column in matches for number in values[column]]
            kind = "loss" if all(map(lower_is_better, matches)) else row["kind"]
            scaled, said = _scaled(tuple(matches), kind, numbers)
            samples = {match.groupdict().get("samples") for match in matches.values()}
            each = int(next(iter(samples)) or 0) if len(samples) == 1 else 0
            found.append((replace(scaled, samples_per_task=each or None), said))
    if not found:
        return None, notes
    metric, notes = found[0]
    others = [other.column for other, _ in found[1:] if other.kind != "loss"]
    if others:
        notes = (*notes, f"judged by {metric.label}; also held-out: {', '.join(others[:5])} (choose with --column)")
    return metric, notes


def _matches(pattern: re.Pattern[str], values: Mapping[str, Sequence[float]]) -> dict[str, re.Match[str]]:
    """The columns whose whole name matches and that are measured about as often as the most measured of them."""
    found = {
        column: match
        for column in sorted(values)
        if values[column] and not never_heldout(column) and (match := pattern.fullmatch(column))
    }
    most = max((len(values[column]) for column in found), default=0)
    return {column: match for column, match in found.items() if 2 * len(values[column]) > most}


def _given_metric(column: str, numbers: Sequence[float], *, stated: bool) -> tuple[Metric, tuple[str, ...]]:
    """The metric of a column that the user named. stated: as a pass rate."""
    words = _words(column)
    if stated:
        kind = "rate"
    elif lower_is_better(column):
        kind = "loss"
    elif words & {"reward", "rewards", "score", "scores", "return", "returns"}:
        kind = "score"
    else:
        kind = "rate"
    return _scaled((column,), kind, numbers)


def _scaled(columns: tuple[str, ...], kind: str, numbers: Sequence[float]) -> tuple[Metric, tuple[str, ...]]:
    """The metric with the scale that its values show; rates in percent are recognised."""
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    shown = Metric(columns=columns).column
    if kind in ("rate", "rate_if_unit") and low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return Metric(columns=columns), ()
    if kind == "rate" and low >= -_ROUNDING and high <= 100 + _ROUNDING:
        return Metric(columns=columns, percent=True), (f"{shown} is in percent (0 to 100) and was divided by 100",)
    notes = (f"{shown} goes from {low:g} to {high:g}, so it is judged as a score, not as a rate",)
    scale: Kind = "loss" if kind == "loss" else "score"
    return Metric(columns=columns, kind=scale), notes if kind.startswith("rate") and numbers else ()
