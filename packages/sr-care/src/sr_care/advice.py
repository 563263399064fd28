"""The memory used alone: what has this change done in contexts like this one, and may I do it again?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from sr_care.belief.posterior import Posterior
from sr_care.belief.replay import influence
from sr_care.entry import Context, Entry, Strategy
from sr_care.gate import Decision, TransferGate
from sr_care.memory.store import CapabilityMemory

MOST_GROUNDS = 5  # entries named with an answer: more are not read
_NEWEST = 64  # entries of the same family and algorithm looked through for them


def ask(
    memory: CapabilityMemory, strategy: Strategy, context: Context, *, gate: TransferGate | None = None
) -> Decision:
    """The gate's answer from everything remembered, with the ids of the entries it rests on most."""
    posterior = memory.recall()
    decision = (gate or TransferGate()).decide(strategy, context, posterior)
    pool = alike(memory, strategy, context)
    return replace(decision, entries=grounds(posterior, decision.strategy, context, pool))


def alike(memory: CapabilityMemory, strategy: Strategy, context: Context, *, upto: int | None = None) -> list[Entry]:
    """The newest remembered entries of the same task family and algorithm, at most 64."""
    found = memory.entries(
        family=context.family, algorithm=strategy.algorithm, upto=upto, limit=_NEWEST, newest_first=True
    )
    return list(found)


def grounds(posterior: Posterior, strategy: Strategy, context: Context, pool: Iterable[Entry]) -> tuple[int, ...]:
    """Ids of the entries of ``pool`` that move the predicted pass@1 most, strongest first. Holding the policy
    (0 steps) has a certain effect, so then the entries nearest in general are named: those of a usual
    campaign."""
    unique = {entry.id: entry for entry in pool if entry.strategy.steps > 0}  # a held policy is no evidence
    if not unique:
        return ()
    entries = list(unique.values())
    asked = strategy if strategy.steps else replace(strategy, steps=int(posterior.model.reference_steps))
    strengths = influence(posterior, asked, context, entries)
    return tuple(entries[i].id for i in np.argsort(-strengths, kind="stable")[:MOST_GROUNDS])
