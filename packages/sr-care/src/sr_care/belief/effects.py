"""How a campaign's effect is modelled: features of context × strategy, noise, prior.

Axes: N entries, F features, D capabilities. The model is delta_D = W_DF · φ_F + process noise + measurement
noise, linear in φ and Gaussian, as the paper says of its posterior; the features, scales and priors below are
our choice. F is ``COMMON`` features that all entries share and one for each task family that was observed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sr_care.belief.information import COMMON, Information
from sr_care.belief.numerics import one_thread
from sr_care.entry import CAPABILITIES, Context, Entry, Floats, Strategy
from sr_care.errors import check_number

D = len(CAPABILITIES)
# The algorithms that divide a sample's advantage by the standard deviation of its group's rewards.
GROUP_NORMALISED = frozenset({"grpo", "dapo", "gspo", "cispo"})
NUMBERS = (
    *("lr", "steps", "penalty", "model_parameters", "pass1", "passk", "positive_rate", "entropy", "unique_share"),
    *("start", "peak", "peak_step", "confidence"),
)


class Rows(NamedTuple):
    """Entries as arrays: ``numbers`` (N, len(NUMBERS)) with NaN where unknown, N ``algorithms`` and
    ``families``, ``deltas`` (N, D) with NaN where not measured, ``errors`` (N, D, D)."""

    numbers: Floats
    algorithms: Sequence[str]
    families: Sequence[str | None]
    deltas: Floats
    errors: Floats

    def column(self, name: str) -> Floats:
        return self.numbers[:, NUMBERS.index(name)]

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """The rows for which ``chosen`` (N,) is true."""
        return Rows(
            self.numbers[chosen],
            [name for name, yes in zip(self.algorithms, chosen, strict=True) if yes],
            [name for name, yes in zip(self.families, chosen, strict=True) if yes],
            self.deltas[chosen],
            self.errors[chosen],
        )


def to_rows(entries: Sequence[Entry]) -> Rows:
    """The arrays of some entries."""
    numbers = [
        (
            *(e.strategy.lr, e.strategy.steps, e.strategy.penalty, e.context.model_parameters),
            *(e.context.pass1, e.context.passk, e.context.positive_rate),
            *(e.context.entropy, e.context.unique_share),
            *(e.boundary.start, e.boundary.peak, e.boundary.peak_step, e.confidence),
        )
        for e in entries
    ]
    return Rows(
        numbers=np.array(numbers, dtype=float).reshape(len(entries), len(NUMBERS)),
        algorithms=[e.strategy.algorithm for e in entries],
        families=[e.context.family for e in entries],
        deltas=np.array([e.delta.vector() for e in entries]).reshape(-1, D),
        errors=np.array([e.delta.matrix() for e in entries]).reshape(-1, D, D),
    )


def query_rows(strategies: Sequence[Strategy], context: Context) -> Rows:
    """The arrays of what might be done in one context: as ``to_rows``, with nothing measured."""
    c = context
    known = (c.model_parameters, c.pass1, c.passk, c.positive_rate, c.entropy, c.unique_share)
    n = len(strategies)
    numbers = [(s.lr, s.steps, s.penalty, *known, None, None, None, 1.0) for s in strategies]
    return Rows(
        numbers=np.array(numbers, dtype=float).reshape(n, len(NUMBERS)),
        algorithms=[s.algorithm for s in strategies],
        families=[c.family] * n,
        deltas=np.full((n, D), np.nan),
        errors=np.zeros((n, D, D)),
    )


@dataclass(frozen=True, kw_only=True)
class EffectModel:
    """The features, noise and prior, each a field with its reason.

    The *dose* of a campaign is its learning rate relative to a usual one, times its steps relative to
    ``reference_steps`` (the paper's campaign). The usual learning rate falls with the model's size as a power
    law through two known points: 1e-3 collapses a 1.1M-parameter policy and 1e-6 a 3B one, which fixes
    ``lr_exponent``. Where the size is unknown, ``reference_parameters`` is assumed.

    φ = (b, b²) × (1, context), b = log2(1 + dose), so no training means no change, a rise and a later fall
    can both be expressed, and a dose ten times off does not run away. Context terms are centred on common
    values, clipped to ±2 and zero where unknown; so are the flags for group-normalised algorithms and for a
    penalty. Each task family shifts the slope by a weight of its own; one that was never observed has the prior's.

    ``prior_scale``: standard deviation of the main weights: ±21 points from a usual campaign, ±44 from twice its dose.
    ``context_scale``: of the others; a context changes the effect less than training makes it.
    ``process_error``: spread of equal campaigns in equal contexts, grown with b, for a policy that passes half of its
    samples; the variance falls as p (1 - p) does towards a pass@1 of 0 or 1. These three are rounded from a fit to two
    seeds that the study does not use, the prior kept wider, so that a first campaign teaches where its peak was. Of the
    study's 495 campaigns, 90% intervals then held 84 to 91%, capability by capability, and all of what changed out of
    distribution, where little does (``benchmarks/care_calibration.py``); with scales twice as large nothing ever
    contradicted a belief.
    ``error_floor``: no evaluation is better than this.
    ``peak_discount``: a campaign's peak is a second observation, at the dose where it was reached. Being the
    best of many noisy values it is too high, so this many standard errors are taken off, and its variance is
    doubled because it shares its campaign with the end.
    ``noise_weight``: the noise assumed here counts as so many observed numbers beside those that were observed, in what
    a posterior takes the noise to be: some tasks and trainers scatter far more than others.
    """

    reference_lr: float = 1e-3
    reference_parameters: float = 1.1e6
    reference_steps: int = 20
    lr_exponent: float = 0.87
    prior_scale: float = 0.15
    context_scale: float = 0.03
    process_error: float = 0.04
    error_floor: float = 0.01
    peak_discount: float = 1.0
    noise_weight: float = 20.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            zero_is_fine = name in ("peak_discount", "lr_exponent")
            check_number(f"model.{name}", value, 0, above=not zero_is_fine)

    @property
    def key(self) -> str:
        """Names this model among others in a memory file."""
        text = json.dumps([4, CAPABILITIES, asdict(self)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def prior(self, families: Sequence[str]) -> Floats:
        """Prior standard deviations of the weights, (F·D,); the prior means are zero: neutral."""
        scales = np.full(COMMON + len(families), self.context_scale)
        scales[[0, COMMON // 2]] = self.prior_scale
        return np.repeat(scales, D)

    def dose(self, rows: Rows) -> Floats:
        """(N,), 1 for a usual campaign."""
        size = np.nan_to_num(rows.column("model_parameters"), nan=self.reference_parameters)
        usual = self.reference_lr * (size / self.reference_parameters) ** -self.lr_exponent
        return np.asarray(rows.column("lr") / usual * rows.column("steps") / self.reference_steps)

    def rise(self, rows: Rows) -> Floats:
        """b, the logarithm of the dose that effects grow with, (N,)."""
        return np.asarray(np.log2(1 + self.dose(rows)))

    def phi(self, rows: Rows, families: Sequence[str]) -> Floats:
        """The features, (N, F): those in common, then one for each of ``families``, in their order."""
        rise = self.rise(rows)
        penalty = np.nan_to_num(rows.column("penalty"))
        pass1 = rows.column("pass1")
        context = np.stack(
            [
                (pass1 - 0.3) / 0.3,
                (rows.column("passk") - pass1 - 0.3) / 0.3,
                np.log10(rows.column("positive_rate") + 1e-3) + 1,
                (rows.column("entropy") - 0.5) / 0.5,
                (rows.column("unique_share") - 0.6) / 0.4,
                (np.log10(rows.column("model_parameters")) - 9) / 3,
            ],
            axis=1,
        )
        terms = np.concatenate(
            [
                np.ones((len(rise), 1)),
                np.clip(np.nan_to_num(context), -2, 2),
                np.array([[float(name in GROUP_NORMALISED)] for name in rows.algorithms]).reshape(-1, 1),
                np.clip(np.log2(1 + penalty / 0.05), 0, 4)[:, None],  # 0.05: the paper's fixed KL
            ],
            axis=1,
        )
        own = np.array([[float(name == family) for family in families] for name in rows.families])
        own = own.reshape(len(rise), len(families))
        slopes = [terms * rise[:, None], terms * rise[:, None] ** 2, own * rise[:, None]]
        return np.concatenate(slopes, axis=1)

    def process_variance(self, rows: Rows) -> Floats:
        """Variance of the true effect around W·φ, (N,), equal for all capabilities."""
        pass1 = np.nan_to_num(rows.column("pass1"), nan=0.5)
        room = np.clip(4 * pass1 * (1 - pass1), 0.05, 1)
        return np.asarray(self.process_error**2 * self.rise(rows) * room)

    def observe(self, rows: Rows) -> Information:
        """What the entries say: each its delta, and its peak where it had one before its end.

        A campaign of 0 steps says nothing: that its policy did not change is no evidence of how much campaigns scatter.
        """
        trained = rows.column("steps") > 0
        if not trained.any():
            return Information.none()
        rows = rows.where(trained)
        return self._observe_deltas(rows) + self._observe_peaks(rows)

    def _observe_deltas(self, rows: Rows) -> Information:
        seen = ~np.isnan(rows.deltas)
        both = seen[:, :, None] & seen[:, None, :]
        noise = np.where(both, rows.errors, 0.0)
        diagonal = (self.process_variance(rows) + self.error_floor**2)[:, None] * seen + ~seen
        noise[:, np.arange(D), np.arange(D)] += diagonal
        precision = np.where(both, np.linalg.inv(noise), 0.0)
        precision = (precision + precision.transpose(0, 2, 1)) / 2
        return self._sum(precision, np.nan_to_num(rows.deltas), seen, seen, rows)

    def _observe_peaks(self, rows: Rows) -> Information:
        step, steps = rows.column("peak_step"), rows.column("steps")
        rise = rows.column("peak") - rows.column("start")
        chosen = (step > 0) & (step < steps) & np.isfinite(rise) & np.isfinite(rows.deltas[:, 0])
        if not chosen.any():
            return Information.none()
        part = rows.where(chosen)  # copies
        part.numbers[:, NUMBERS.index("steps")] = step[chosen]
        part.deltas[:] = 0
        variance = part.errors[:, 0, 0]
        part.deltas[:, 0] = rise[chosen] - self.peak_discount * np.sqrt(variance)
        precision = np.zeros((len(variance), D, D))
        spread = 2 * (variance + self.process_variance(part) + self.error_floor**2)
        precision[:, 0, 0] = 1 / spread
        first = np.zeros_like(part.deltas)
        first[:, 0] = 1
        return self._sum(precision, part.deltas, 0 * first, first, part)

    def _sum(self, precision: Floats, deltas: Floats, counted: Any, observed: Any, rows: Rows) -> Information:
        """``counted`` (N, D) entries go into ``count``, ``observed`` (N, D) into how far the noise is as assumed."""
        families = tuple(sorted({name for name in rows.families if name is not None}))
        phi = self.phi(rows, families)
        n, f = phi.shape
        trust = rows.column("confidence")[:, None]
        outer = (phi[:, :, None] * phi[:, None, :]).reshape(n, f * f)
        weighed = np.einsum("nij,nj->ni", precision, deltas)
        with one_thread():
            total = (outer.T @ (trust * precision.reshape(n, D * D))).reshape(f, f, D, D)
            vector = phi.T @ (trust * weighed)
        square = np.ascontiguousarray(total.transpose(0, 2, 1, 3)).reshape(f * D, f * D)
        squares, number = float((weighed * deltas).sum()), float(observed.sum())
        return Information(families, square, vector.ravel(), (counted * trust).sum(axis=0), squares, number)
