"""pass@k and how well it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sr_reward.errors import TaskError


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of the chance that at least one of k samples passes, from n samples of which c passed.

    ``1 - C(n-c, k) / C(n, k)`` (Chen et al., arXiv 2107.03374), summed in logarithms over whichever of c and k is
    smaller: exact to rounding for any n, also where the chance is tiny. Raises TaskError unless 0 <= c <= n and
    1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise TaskError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}; draw more samples")
    if n - c < k:
        return 1.0
    few, many = min(c, k), max(c, k)
    return -math.expm1(math.fsum(math.log1p(-many / (n - i)) for i in range(few)))


@dataclass(frozen=True, kw_only=True)
class PassAtK:
    """The mean of pass@k over tasks, and an interval for it over draws of tasks."""

    k: int
    value: float
    low: float
    high: float
    tasks: int


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int, *, level: float = 0.95) -> PassAtK:
    """pass@k over tasks; ``counts`` holds ``(samples, passed)`` per task, each with at least k samples.

    The interval is Clopper and Pearson's with the sum of the estimates as the count. A mean of values in [0, 1]
    varies no more than a share of yes-no answers, so it covers at least its level; at 0 and 1 it keeps its width
    (0 of 30 tasks: up to 11.6%), where a bootstrap or a normal interval would shrink to a point.
    """
    if not counts:
        raise TaskError("pass@k over tasks needs at least one task, got none")
    if not 0 < level < 1:
        raise TaskError(f"level must be in (0, 1), got {level}; 0.95 is usual")
    total, m = math.fsum(pass_at_k(n, c, k) for n, c in counts), len(counts)
    low, high = share_interval(total, m, level=level)
    return PassAtK(k=k, value=total / m, low=low, high=high, tasks=m)


def share_interval(passed: float, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval for a share, of which ``passed`` of ``total`` were seen."""
    tail = (1 - level) / 2
    low = 0.0 if passed <= 0 else _beta_quantile(tail, passed, total - passed + 1)
    high = 1.0 if passed >= total else _beta_quantile(1 - tail, passed + 1, total - passed)
    return low, high


def _beta_quantile(p: float, a: float, b: float) -> float:
    """Where the Beta(a, b) distribution function reaches p, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _beta_cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the side on which the fraction converges fast
        return 1 - _beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 0.0
    value = 1.0
    for i in range(1000):
        m = i // 2
        if i == 0:
            step = 1.0
        elif i % 2 == 0:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + step * d or tiny)
        c = 1 + step / c or tiny
        value *= c * d
        if abs(1 - c * d) < 1e-12:
            break
    return math.exp(log_front) / a * (value - 1) if value != 1 else 0.0
