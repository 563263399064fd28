"""One evaluation of a model, shared among processes, tried again where it fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sr_monitor.errors import MonitorError
from sr_monitor.integrations.checks import passing_counts
from sr_monitor.integrations.trainer import rank_and_world

__all__ = ["Evaluate", "EvaluationFailed", "measure"]

Evaluate = Callable[[Any, int, Sequence[int]], Sequence[int]]
ATTEMPTS = 2


class EvaluationFailed(RuntimeError):
    """``evaluate`` raised every time it was tried; ``str()`` is what it said last."""


def measure(
    evaluate: Evaluate,
    model: Any,
    samples: int,
    tasks: tuple[int, ...],
    key: tuple[int, ...],
    say: Callable[[str], None],
) -> list[int]:
    """Passing counts in the order of ``tasks``; every process evaluates its share.

    Runs in evaluation mode under random numbers of its own, drawn from ``key``; the model's mode and the random numbers
    of training (torch, numpy, Python) are left as they were, also by an evaluation that fails. A failure is tried again
    with other random numbers, then raised as ``EvaluationFailed`` on every process. Answers that are no counts raise
    ``MonitorError``.
    """
    rank, world = rank_and_world()
    mine = tasks[rank::world]
    for attempt in range(ATTEMPTS):
        again = (attempt,) if attempt else ()
        outcome = _attempt(evaluate, model, samples, mine, (*key, rank, *again))
        outcomes: list[Any] = [outcome]
        if world > 1:
            outcomes = [None] * world
            torch.distributed.all_gather_object(outcomes, outcome)
        errors = [error for _, error in outcomes if error is not None]
        if not errors:
            counts = [counts for counts, _ in outcomes]
            return [counts[place % world][place // world] for place in range(len(tasks))]
        refused = next((error for error in errors if isinstance(error, MonitorError)), None)
        if refused is not None:
            raise refused
        if attempt + 1 < ATTEMPTS:
            say(f"an evaluation failed ({errors[0]}); trying again")
    raise EvaluationFailed(str(errors[0]))


def _attempt(
    evaluate: Evaluate, model: Any, samples: int, tasks: tuple[int, ...], key: tuple[int, ...]
) -> tuple[list[int], Exception | None]:
    """Counts of this process's ``tasks``, or what went wrong."""
    training = model.training
    try:
        model.eval()
        with _own_random_numbers(key), torch.no_grad():
            counts = evaluate(model, samples, tasks) if tasks else []
        return passing_counts(counts, len(tasks), samples), None
    except MonitorError as error:
        return [], error
    except Exception as error:  # noqa: BLE001 - the user's code, whatever it raises must not end the training
        return [], RuntimeError(f"{type(error).__name__}: {error}")
    finally:
        model.train(training)


@contextmanager
def _own_random_numbers(key: tuple[int, ...]) -> Iterator[None]:
    """Random numbers drawn from ``key`` for a while."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
