"""The belief about what a strategy does in a context: Bayesian linear-Gaussian, the whole vector at once.

In information form every update is a sum, so incremental equals batch, order does not matter, and the
covariance is the inverse of a positive definite matrix always. Axes: M strategies asked about, F features, D
capabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sr_care.belief.effects import EffectModel, Rows, query_rows, to_rows
from sr_care.belief.information import COMMON, D, Information
from sr_care.belief.numerics import one_thread
from sr_care.entry import Context, Entry, Floats, Strategy
from sr_care.errors import check_number


@dataclass(frozen=True)
class Prediction:
    """Of the true deltas (before measurement noise) of M strategies: ``mean`` (M, D), ``covariance`` (M, D,
    D), and of that covariance the part ``epistemic`` (M, D, D) that more evidence would remove."""

    mean: Floats
    covariance: Floats
    epistemic: Floats

    def interval(self, z: float = 1.645) -> tuple[Floats, Floats]:
        """Lower and upper ends (M, D) of the central intervals, ``z`` standard deviations wide; 1.645:
        90%."""
        spread = z * np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))
        return self.mean - spread, self.mean + spread


@dataclass(frozen=True)
class Posterior:
    """The prior of ``model`` and the ``information`` gathered so far. Immutable: updates return a new one."""

    model: EffectModel
    information: Information

    @classmethod
    def empty(cls, model: EffectModel | None = None) -> Posterior:
        model = model or EffectModel()
        return cls(model, Information.none())

    @property
    def count(self) -> Floats:
        """The weighted number of entries behind each capability, (D,)."""
        return self.information.count

    def update(self, entries: Sequence[Entry], *, weight: float = 1.0) -> Posterior:
        """After seeing ``entries``, each counted ``weight`` × its confidence."""
        check_number("weight", weight, 0)
        return self.absorb(self.model.observe(to_rows(entries)).weighted(weight))

    def absorb(self, information: Information) -> Posterior:
        """After seeing what ``information`` sums up."""
        return Posterior(self.model, self.information + information)

    def forget(self, factor: float) -> Posterior:
        """With all evidence so far at ``factor`` ∈ [0, 1] of its weight; the prior stays."""
        check_number("forgetting factor", factor, 0, 1)
        return Posterior(self.model, self.information.weighted(factor))

    @property
    def _features(self) -> int:
        return COMMON + len(self.information.families)

    @cached_property
    def _prior(self) -> Floats:
        return self.model.prior(self.information.families)

    @cached_property
    def _seen(self) -> NDArray[np.intp]:
        """Positions, among the F·D weights, of those whose capability was measured: the others keep their
        prior, and leaving them out of the linear algebra makes the usual case (pass@1 alone) D³ times
        cheaper."""
        measured = np.flatnonzero(self.count > 0)
        return (np.arange(self._features)[:, None] * D + measured).ravel()

    @cached_property
    def _solved(self) -> tuple[Floats, Floats]:
        """Of the ``_seen`` weights: the Cholesky factor L of the precision in units of the prior, and the
        mean in those units."""
        scale = self._prior[self._seen]
        information = self.information.precision[np.ix_(self._seen, self._seen)]
        with one_thread():
            factor = np.linalg.cholesky(np.eye(len(scale)) + information * scale[:, None] * scale)
            half = np.linalg.solve(factor, self.information.vector[self._seen] * scale)
            mean = np.linalg.solve(factor.T, half)
        return np.asarray(factor, dtype=np.float64), np.asarray(mean, dtype=np.float64)

    @cached_property
    def noise(self) -> float:
        """What the evidence says of the variances that the model assumes, prior and noise alike, as a factor: 1
        without any. Closed form: what the weights leave unexplained, by the number observed, the conjugate answer
        for a Gaussian of unknown scale."""
        _, mean = self._solved
        explained = float(self.information.vector[self._seen] * self._prior[self._seen] @ mean)
        weight = self.model.noise_weight
        left = max(self.information.squares - explained, 0.0)
        return (weight + left) / (weight + self.information.observed)

    def weights(self) -> tuple[Floats, Floats]:
        """Mean (F·D,) and covariance (F·D, F·D) of the weights, if the variances assumed are right (``noise`` 1)."""
        factor, seen_mean = self._solved
        scale, seen = self._prior, self._seen
        with one_thread():
            root = np.linalg.solve(factor, np.diag(scale[seen]))
            block = root.T @ root
        mean, covariance = np.zeros(len(scale)), np.diag(scale**2)
        mean[seen] = seen_mean * scale[seen]
        covariance[np.ix_(seen, seen)] = block
        return mean, covariance

    def predict(self, strategies: Sequence[Strategy], context: Context) -> Prediction:
        """The effects to expect of each strategy in ``context``."""
        return self.predict_rows(query_rows(strategies, context))

    def predict_rows(self, rows: Rows) -> Prediction:
        """As ``predict``, for strategies and contexts given as arrays."""
        factor, mean = self._solved
        families = self.information.families
        phi = self.model.phi(rows, families)
        m, f = phi.shape
        scale = self._prior
        spread = (phi[:, :, None, None] * np.eye(D)).reshape(m, f * D, D) * scale[:, None]
        seen = spread[:, self._seen]
        with one_thread():
            roots = np.linalg.solve(factor, seen.transpose(1, 0, 2).reshape(-1, m * D))
        roots = roots.reshape(-1, m, D).transpose(1, 0, 2)
        measured = np.where(self.count > 0, self.noise, 1.0)  # of the others nothing was learnt, not even this
        unseen = (self.count == 0) * (spread**2).sum(axis=1)
        epistemic = self.noise * roots.transpose(0, 2, 1) @ roots + unseen[:, :, None] * np.eye(D)
        # of a family that was never observed, the weight is the prior's, apart from all evidence
        new = np.array([name is not None and name not in families for name in rows.families])
        own = (self.model.context_scale * self.model.rise(rows) * new) ** 2
        epistemic = epistemic + own[:, None, None] * np.diag(measured)
        covariance = epistemic + self.model.process_variance(rows)[:, None, None] * np.diag(measured)
        return Prediction(np.einsum("mwd,w->md", seen, mean), covariance, epistemic)
