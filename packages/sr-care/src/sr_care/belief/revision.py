"""Regression-aware belief revision: what to do when a campaign's outcome was not what the belief predicted.

The test (Mahalanobis distance of the observed delta under the prediction) and the response "tighten the gate"
are the paper's; the limits, the rest of the response, and telling an outlier from a shift are our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sr_care.belief.information import D
from sr_care.belief.numerics import chi2_quantile
from sr_care.entry import CapabilityDelta, Floats
from sr_care.errors import EntryError, check_number


@dataclass(frozen=True, kw_only=True)
class RevisionConfig:
    """``alarm``: chi-square probability beyond which an outcome is an outlier; one in a hundred by chance.
    ``agree``: within it an outcome confirms the belief. After an outlier predictive variance is raised by
    ``noise_factor`` up to ``noise_max``, and, if pass@1 came out below the prediction, the gate's risk limit
    is lowered by ``tighten_factor`` down to ``tighten_min``. Each agreement takes ``relax`` (in the
    logarithm) of both away. ``shift_after`` outliers in a row in the same direction are a lasting shift:
    what was believed before keeps ``stale_weight`` of its weight, and the outliers count in full.
    Until then an outlier counts by limit / distance, so that a single one moves the belief no
    further than the limit.
    """

    alarm: float = 0.99
    agree: float = 0.9
    noise_factor: float = 2.0
    noise_max: float = 16.0
    tighten_factor: float = 0.5
    tighten_min: float = 0.125
    relax: float = 0.5
    shift_after: int = 2
    stale_weight: float = 0.1

    def __post_init__(self) -> None:
        check_number("revision.alarm", self.alarm, 0, 0.999999, above=True)
        check_number("revision.agree", self.agree, 0, self.alarm)
        check_number("revision.noise_factor", self.noise_factor, 1)
        check_number("revision.noise_max", self.noise_max, 1)
        for name in ("tighten_factor", "tighten_min", "relax", "stale_weight"):
            check_number(f"revision.{name}", getattr(self, name), 0, 1, above=name != "stale_weight")
        check_number("revision.shift_after", self.shift_after, 2, whole=True)


@dataclass(frozen=True)
class Caution:
    """What belief revision asks of the gate: predictive variance × ``noise``, risk limit × ``tightening``,
    and no dose at or above ``ceiling``, where a prediction failed downwards."""

    noise: float = 1.0
    tightening: float = 1.0
    ceiling: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A boundary found the hard way: at ``dose`` the prediction failed downwards, by ``distance``."""

    campaign: int
    dose: float
    distance: float


@dataclass(frozen=True, kw_only=True)
class Revision:
    """The state of one run's belief beside its posterior. ``weights``: of the run's entries so far, oldest
    first; ``stale``: how many of them (and all of other runs) are discounted after a shift. ``streak``:
    outliers in a row in the direction ``heading`` (D,). ``outlived``: how many of the ``failures`` the gate
    has relaxed from. ``distances``: (squared Mahalanobis distance, its limit) per entry."""

    noise: float = 1.0
    tightening: float = 1.0
    failures: tuple[Failure, ...] = ()
    outlived: int = 0
    weights: tuple[float, ...] = ()
    stale: int = 0
    shifts: int = 0
    streak: int = 0
    heading: tuple[float, ...] = (0.0,) * D
    distances: tuple[tuple[float, float], ...] = ()

    @property
    def caution(self) -> Caution:
        """What the gate is asked to respect; the failed dose only until the gate is relaxed again."""
        ceiling = min((failure.dose for failure in self.failures[self.outlived :]), default=math.inf)
        return Caution(noise=self.noise, tightening=self.tightening, ceiling=ceiling)


def mahalanobis(mean: Floats, covariance: Floats, delta: CapabilityDelta) -> tuple[float, int, Floats]:
    """Squared distance of an observed delta from its predicted ``mean`` (D,) and ``covariance`` (D, D,
    without the measurement noise, which is added here), the number of capabilities compared, and the whitened
    residual (D,)."""
    vector = delta.vector()
    seen = np.flatnonzero(~np.isnan(vector))
    total = (covariance + delta.matrix())[np.ix_(seen, seen)]
    try:
        root = np.linalg.cholesky(total)
    except np.linalg.LinAlgError:
        raise EntryError("the predicted covariance must be positive definite, got one that is not") from None
    residual = np.zeros(D)
    residual[seen] = np.linalg.solve(root, (vector - mean)[seen])
    return float(residual @ residual), len(seen), residual


class BeliefRevision:
    """Judges outcomes against predictions, one after another. Pure: the state goes in and comes out."""

    def __init__(self, config: RevisionConfig | None = None) -> None:
        self.config = config or RevisionConfig()

    def observe(
        self,
        state: Revision,
        mean: Floats,
        covariance: Floats,
        delta: CapabilityDelta,
        *,
        campaign: int = 0,
        dose: float = 1.0,
    ) -> Revision:
        """The state after an entry whose delta was predicted with ``mean`` (D,) and ``covariance`` (D, D)."""
        # noise raised by a suspicion must not hide its confirmation: within a streak, the noise before it counts
        noise = max(1.0, state.noise / self.config.noise_factor**state.streak)
        distance, degrees, residual = mahalanobis(mean, covariance * noise, delta)
        limit = chi2_quantile(self.config.alarm, degrees)
        state = replace(state, distances=(*state.distances, (distance, limit)))
        if distance > limit:
            return self._outlier(state, distance, limit, residual, campaign, dose)
        state = replace(state, weights=(*state.weights, 1.0))
        return self._agreed(state) if distance <= chi2_quantile(self.config.agree, degrees) else state

    def _outlier(
        self, state: Revision, distance: float, limit: float, residual: Floats, campaign: int, dose: float
    ) -> Revision:
        c = self.config
        same = state.streak > 0 and float(np.dot(state.heading, residual)) > 0
        streak = state.streak + 1 if same else 1
        weights = (*state.weights, limit / distance)
        state = replace(
            state,
            noise=min(state.noise * c.noise_factor, c.noise_max),
            weights=weights,
            streak=streak,
            heading=tuple(float(x) for x in residual),
        )
        if residual[0] < 0:
            state = replace(
                state,
                tightening=max(state.tightening * c.tighten_factor, c.tighten_min),
                failures=(*state.failures, Failure(campaign=campaign, dose=dose, distance=distance)),
            )
        if streak < c.shift_after:
            return state
        new = len(weights) - streak
        return replace(state, stale=new, shifts=state.shifts + 1, streak=0, weights=weights[:new] + (1.0,) * streak)

    def _agreed(self, state: Revision) -> Revision:
        noise, tightening = (x ** (1 - self.config.relax) for x in (state.noise, state.tightening))
        relaxed = tightening >= 0.95
        return replace(
            state,
            noise=noise if noise > 1.05 else 1.0,
            tightening=1.0 if relaxed else tightening,
            outlived=len(state.failures) if relaxed else state.outlived,
            streak=0,
        )
