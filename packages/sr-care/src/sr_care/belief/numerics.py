"""Linear algebra on one thread, and the two distributions that beliefs are judged by (no scipy needed)."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # it ships no types

from sr_care.errors import check_number


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through the loaded libraries, so once


def one_thread() -> AbstractContextManager[object]:
    """Within it numpy's linear algebra uses one thread; what was set before is restored after it."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


def normal_cdf(z: float) -> float:
    """P(Z ≤ z) of a standard normal."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def chi2_sf(x: float, degrees: int) -> float:
    """P(X > x) of a chi-square with ``degrees`` ≥ 1, by the recursion over degrees in steps of two."""
    if x <= 0:
        return 1.0
    half = x / 2
    tail, k = (math.erfc(math.sqrt(half)), 1) if degrees % 2 else (math.exp(-half), 2)
    while k < degrees:
        tail += math.exp(k / 2 * math.log(half) - half - math.lgamma(k / 2 + 1))
        k += 2
    return tail


def chi2_quantile(probability: float, degrees: int) -> float:
    """The x with P(X ≤ x) = ``probability`` in [0, 1), to 1e-10 relative, by bisection."""
    check_number("probability", probability, 0, 1 - 1e-12)
    low, high = 0.0, 1.0
    while chi2_sf(high, degrees) > 1 - probability:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if chi2_sf(middle, degrees) > 1 - probability else (low, middle)
    return high
