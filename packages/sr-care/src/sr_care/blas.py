"""One BLAS thread for matrices of a hundred rows: more only wait for each other.

Measured with OpenBLAS on two busy cores, a chain of ten plans: 23 s with its default threads, 0.7 s with one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # it ships no types


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through the loaded libraries, so once


def one_thread() -> AbstractContextManager[object]:
    """Within it numpy's linear algebra uses one thread; what was set before is restored after it."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit
