"""Entries and decisions of a memory as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from sr_care.entry import CAPABILITIES, Context, Entry, Strategy
from sr_care.gate import Decision
from sr_care.memory.store import CapabilityMemory

COLUMNS = ("id", "run", "campaign", "algorithm", "lr", "steps", "family", "pass@1", "change", "conf.")
EFFECTS = ("if done as asked", "expected", "90% interval", "risk of a fall")


def question(memory: CapabilityMemory, given: Mapping[str, Any]) -> tuple[Strategy, Context]:
    """A strategy and a context to ask about: those of the newest campaign that trained, with the fields ``given`` in
    their place."""
    newest = next((entry for entry in memory.entries(newest_first=True) if entry.strategy.steps > 0), None)
    strategy = {f.name: given[f.name] for f in fields(Strategy) if f.name in given}
    context = {f.name: given[f.name] for f in fields(Context) if f.name in given}
    if newest is None:
        return Strategy.from_mapping(strategy), Context(**context)
    return replace(newest.strategy, **strategy), replace(newest.context, **context)


def entry_cells(entry: Entry) -> list[str]:
    """An entry as a row of ``COLUMNS``."""
    strategy, level = entry.strategy, entry.context.pass1
    cells = [str(entry.id), entry.run, str(entry.campaign), strategy.algorithm, f"{strategy.lr:g}", str(strategy.steps)]
    cells += [entry.context.family or "–", "–" if level is None else f"{level:.1%}"]
    return [*cells, change(entry), f"{entry.confidence:.2f}"]


def entry_lines(entry: Entry) -> Iterator[str]:
    """All that is known of an entry."""
    plain = entry.to_dict()
    yield f"entry {entry.id}: run {entry.run}, campaign {entry.campaign}, recorded {entry.recorded_at}"
    for part in ("strategy", "context", "boundary"):
        known = [f"{name} {_short(value)}" for name, value in plain[part].items() if value is not None]
        yield f"  {part:<13}{', '.join(known) or '–'}"
    errors = entry.delta.matrix().diagonal()
    for name, value in entry.delta.values.items():
        error = math.sqrt(errors[CAPABILITIES.index(name)])
        yield f"  {name:<13}{100 * value:+.1f} ± {100 * error:.1f} points"
    if entry.start_from is not None:
        yield f"  {'started from':<13}the policy that campaign {entry.start_from} kept (-1: the first one)"
    yield f"  {'confidence':<13}{entry.confidence:.2f}"


def question_line(strategy: Strategy, context: Context, total: int) -> str:
    """What is asked of a memory of ``total`` entries."""
    level = "unknown" if context.pass1 is None else f"{context.pass1:.1%}"
    return f"{total} entries remembered. Asked: {named(strategy)} at pass@1 {level}, {context.family or 'any tasks'}"


def effect_cells(decision: Decision) -> Iterator[list[str]]:
    """The expected effects of what was asked, as rows of ``EFFECTS``."""
    for name, (mean, spread, below) in decision.proposal.effects.items():
        low, high = mean - 1.645 * spread, mean + 1.645 * spread
        yield [name, f"{100 * mean:+.1f}", f"{100 * low:+.1f} … {100 * high:+.1f}", f"{below:.0%}"]


def decision_lines(decision: Decision, grounds: Sequence[Entry]) -> Iterator[str]:
    """The answer, and the entries it rests on."""
    yield f"{decision.action.upper()}: {named(decision.strategy)}. {decision.reason}."
    for entry in grounds:
        yield f"  rests on entry {entry.id}: {named(entry.strategy)} changed pass@1 by {change(entry)}"


def named(strategy: Strategy) -> str:
    """A strategy in a few words."""
    penalty = f", penalty {strategy.penalty:g}" if strategy.penalty else ""
    return f"{strategy.algorithm}, {strategy.steps} steps at {strategy.lr:g}{penalty}"


def change(entry: Entry) -> str:
    """The change of pass@1 in points with its standard error; a dash where it was not measured."""
    if "pass1" not in entry.delta.values:
        return "–"
    return f"{100 * entry.delta.values['pass1']:+.1f} ± {100 * math.sqrt(entry.delta.matrix()[0, 0]):.1f}"


def _short(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if value < 10_000 else f"{value:,.0f}"
