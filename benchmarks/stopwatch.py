"""Seconds of a training step's parts, and what a machine reaches, for ``step_vs_trl.py`` and ``tools/gpu_check.py``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


def now(device: str) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Parts:
    """Seconds that backward passes and optimizers' steps take in this process, since ``clear``."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.backward_s = self.optimizer_s = 0.0

    @contextmanager
    def watched(self, device: str) -> Iterator[None]:
        """Within it they are timed."""
        backward = torch.Tensor.backward
        began: list[float] = []

        def timed(*arguments: Any, **named: Any) -> None:
            start = now(device)
            backward(*arguments, **named)  # type: ignore[no-untyped-call]
            self.backward_s += now(device) - start

        def ended(*_: Any) -> None:
            self.optimizer_s += now(device) - began.pop()

        hooks = [
            register_optimizer_step_pre_hook(lambda *_: began.append(now(device))),
            register_optimizer_step_post_hook(ended),
        ]
        torch.Tensor.backward = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.Tensor.backward = backward  # type: ignore[method-assign]
            for hook in hooks:
                hook.remove()


def machine_speed(device: str) -> tuple[float, float]:
    """Floating-point operations and copied bytes (read plus written) per second."""
    side, numbers, dtype = (8192, 2**29, torch.bfloat16) if device == "cuda" else (2048, 64 * 2**20, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def product() -> None:
        _ = a @ b
        wait()

    def copy() -> None:
        target.copy_(source)
        wait()

    return 2 * side**3 / best(product), 2 * numbers * 4 / best(copy)


def best(action: Callable[[], object], times: int = 10) -> float:
    def once() -> float:
        began = time.perf_counter()
        action()
        return time.perf_counter() - began

    return min(once() for _ in range(times))
