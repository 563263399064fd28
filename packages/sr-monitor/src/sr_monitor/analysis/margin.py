"""How large a fall must be to matter: the rule that the guard and ``sr watch`` share.

Falls up to ``margin_at`` never count, even if significant: healthy policies vary by some points from evaluation to
evaluation. A fall beyond ``collapse_at`` is a collapse. Both are points of pass@1 where the peak is high, and a share
of the peak where it is low: from a peak of 9%, ten points cannot be lost.

A mean reward or a loss has no such scale. ``own_scale`` measures its falls by what the run had gained before.
"""

from __future__ import annotations

from sr_monitor.analysis.curve import Curve
from sr_monitor.analysis.trajectory import COLLAPSE_GAP

# Points of pass@1, as a rate. Our choice; the trace benchmark measures its false alarms.
MARGIN = 0.10
# Share of the peak that a fall must exceed where that is less than ``MARGIN``: for peaks below 20%.
MARGIN_SHARE = 0.5
# The same for a collapse: for peaks below 25%.
COLLAPSE_SHARE = 0.8
# Of a metric on its own scale: shares of the gain from start to peak, and of the largest absolute value.
OWN_MARGIN, OWN_COLLAPSE = (0.25, 0.10), (0.5, 0.20)


def margin_at(peak: float, margin: float = MARGIN) -> float:
    """The fall from ``peak`` (pass@1 in 0..1) that is tolerated: ``margin``, or half of the peak if that is less."""
    return min(margin, MARGIN_SHARE * max(0.0, peak))


def collapse_at(peak: float) -> float:
    """The fall from ``peak`` (pass@1 in 0..1) beyond which it is a collapse: the paper's 0.20, or 80% of the peak."""
    return min(COLLAPSE_GAP, COLLAPSE_SHARE * max(0.0, peak))


def limits_of(curve: Curve) -> tuple[float, float]:
    """(tolerated fall, collapse) of ``curve`` on its metric's scale."""
    if curve.metric.kind == "pass_rate":
        return margin_at(curve.peak), collapse_at(curve.peak)
    return own_scale(curve, *OWN_MARGIN), own_scale(curve, *OWN_COLLAPSE)


def own_scale(curve: Curve, of_gain: float, of_size: float) -> float:
    """A share of what was gained from the first value to the best one, but at least a share of the largest |value|.

    The second keeps small moves of a metric that hardly gained from counting. A large constant offset makes the rule
    milder than it should be.
    """
    gain = abs(curve.peak - curve.start)
    return max(of_gain * gain, of_size * float(abs(curve.values_E).max()))
