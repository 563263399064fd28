"""Coefficients that follow a target: of the KL penalty, and of the entropy bonus. They are their own state."""

from __future__ import annotations

__all__ = ["adapted_bonus", "adapted_coefficient"]

KL_RATE = 0.1  # of the coefficient, per unit of relative error of the KL
BONUS_STEP = 0.005  # per step, in units of the bonus


def adapted_coefficient(coefficient: float, kl: float, *, target: float, rate: float = KL_RATE) -> float:
    """The KL coefficient after a step that measured ``kl`` (nats per token): larger above ``target``, smaller below.

    coefficient * (1 + rate * clip(kl / target - 1, -0.2, 0.2)), as Ziegler et al. 2019 (arXiv 1909.08593) have it, with
    rate for their K times the batch size over the horizon.
    """
    return coefficient * (1 + rate * min(max(kl / target - 1, -0.2), 0.2))


def adapted_bonus(bonus: float, entropy: float, *, target: float, rate: float = BONUS_STEP) -> float:
    """The entropy bonus after a step whose samples had ``entropy`` (nats per token): ``rate`` more below ``target``.

    At or above it, ``rate`` less, and never below 0 (Skywork-OR1, arXiv 2505.22312). Left out: its upper bound.
    """
    return max(bonus + (rate if entropy < target else -rate), 0.0)
