"""What one run believes: the history of other runs, its own campaigns in order, and how far to trust
either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sr_care.belief.effects import EffectModel, query_rows, to_rows
from sr_care.belief.information import D, Information
from sr_care.belief.posterior import Posterior
from sr_care.belief.revision import BeliefRevision, Revision
from sr_care.entry import Context, Entry, Floats, Strategy
from sr_care.errors import check_number


@dataclass(frozen=True, kw_only=True)
class BeliefConfig:
    """``history_cap``: other runs' entries together count at most as this many of one's own (a power prior):
    they are evidence about similar policies, not about this one, and a million of them must not drown ten of
    its own. ``forgetting``: the weight of what was believed before, per campaign: the policy changes as it
    trains."""

    history_cap: float = 40.0
    forgetting: float = 0.95

    def __post_init__(self) -> None:
        check_number("belief.history_cap", self.history_cap, 0)
        check_number("belief.forgetting", self.forgetting, 0, 1, above=True)


@dataclass(frozen=True)
class Belief:
    """The posterior and the state of its revision after a run's campaigns so far."""

    posterior: Posterior
    revision: Revision


def believe(
    model: EffectModel,
    history: Information,
    own: Sequence[Entry],
    *,
    config: BeliefConfig | None = None,
    revision: BeliefRevision | None = None,
) -> Belief:
    """Replay ``own`` entries in order over the ``history`` of other runs; without ``revision`` nothing is
    ever revised. A function of its arguments alone: a resumed run believes what the killed one did."""
    config = config or BeliefConfig()
    own = [entry for entry in own if entry.strategy.steps > 0]  # holding a policy teaches nothing
    peak = float(history.count.max())
    history = history.weighted(min(1.0, config.history_cap / peak)) if peak > 0 else history
    seen: list[Information] = []
    state = Revision()
    for entry in own:
        rows = to_rows([replace(entry, confidence=1.0)])  # this run weighs its own entries itself
        if revision is None:
            state = Revision(weights=(*state.weights, 1.0))
        else:
            posterior = _combine(model, history, seen, state, config, revision)
            prediction = posterior.predict_rows(rows)
            state = revision.observe(
                state,
                prediction.mean[0],
                prediction.covariance[0] + model.error_floor**2 * np.eye(len(prediction.mean[0])),
                entry.delta,
                campaign=entry.campaign,
                dose=float(model.dose(rows)[0]),
            )
        seen.append(model.observe(rows))
    return Belief(_combine(model, history, seen, state, config, revision), state)


def _combine(
    model: EffectModel,
    history: Information,
    seen: Sequence[Information],
    state: Revision,
    config: BeliefConfig,
    revision: BeliefRevision | None,
) -> Posterior:
    """All evidence, each at its age's and its trust's weight."""
    stale = revision.config.stale_weight if revision is not None and state.shifts else 1.0
    total = history.weighted(stale * config.forgetting ** len(seen))
    for index, information in enumerate(seen):
        weight = config.forgetting ** (len(seen) - 1 - index) * (stale if index < state.stale else 1.0)
        total = total + information.trusted(state.weights[index]).weighted(weight)
    return Posterior(model, total)


def influence(posterior: Posterior, strategy: Strategy, context: Context, entries: Sequence[Entry]) -> Floats:
    """How much each entry moves the pass@1 predicted for ``strategy`` in ``context``, per point of its own
    delta: |φᵀ P φ_i| / noise_i, (N,). The entries a prediction rests on are those with the largest."""
    model = posterior.model
    _, covariance = posterior.weights()
    families = posterior.information.families
    block = covariance[::D, ::D]  # of pass@1, the first of D capabilities
    asked = model.phi(query_rows([strategy], context), families)[0]
    rows = to_rows(entries)
    noise = rows.errors[:, 0, 0] + model.process_variance(rows) + model.error_floor**2
    return np.asarray(np.abs(model.phi(rows, families) @ block @ asked) / noise * rows.column("confidence"))
