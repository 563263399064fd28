"""Scripted campaigns: what a trainer does with a guard, on policies whose true pass rates are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sr_monitor import LAST_ITERATE, Decision, Guard

FINITE = {"finite": 1.0, "grad_norm": 1.0, "train_reward": 0.5}


@dataclass
class Played:
    """What happened: the truth of every executed step's policy (M,), the decisions, the samples drawn."""

    truth: dict[int, NDArray[np.float64]]
    decisions: list[Decision] = field(default_factory=list)
    samples: int = 0
    kept: int = 0
    held: int = 0  # most checkpoints ever held

    @property
    def alarms(self) -> int:
        return sum(d.action != "continue" for d in self.decisions)


def play(
    guard: Guard,
    evolve: Callable[[int, NDArray[np.float64], float], NDArray[np.float64]],
    start_M: NDArray[np.float64],
    steps: int,
    rng: np.random.Generator,
    campaign: int = 0,
    *,
    heard: bool = False,
    iterate_M: NDArray[np.float64] | None = None,
) -> Played:
    """One campaign. ``evolve(step, truth_M, lr)`` is an update: the true pass rates after it.

    ``iterate_M``: the true pass rates of the last iterate, where those of the steps are means'. ``heard``: the guard
    hears the training reward, of 8 of the tasks and 16 samples of each; else a constant one.
    """
    training = np.random.default_rng([campaign, steps])
    budget = guard.begin(campaign, steps, len(start_M))
    current, lr = start_M, 1.0
    played = Played({0: start_M})
    for step in range(budget + 1):
        if step:
            current = evolve(step, current, lr)
            played.truth[step] = current
        if step == budget and iterate_M is not None:
            played.truth[LAST_ITERATE] = iterate_M
        while (request := guard.ask(step)) is not None:
            assert request.step in (step, LAST_ITERATE) or request.step in guard.retained()
            tasks = range(len(start_M)) if request.tasks is None else request.tasks
            rates = played.truth[request.step][list(tasks)]
            guard.tell(request.step, rng.binomial(request.samples, rates).tolist(), request.samples, request.tasks)
            played.samples += request.samples * len(rates)
        of = played.truth[max(step - 1, 0)][training.choice(len(start_M), 8)]
        reward = float(training.binomial(16, of).mean() / 16)
        decision = guard.decide(step, FINITE | {"train_reward": reward} if heard else FINITE)
        played.decisions.append(decision)
        played.held = max(played.held, len(guard.retained()))
        if decision.action == "roll_back":
            assert decision.to_step is not None
            assert decision.to_step in guard.retained()
            current, lr = played.truth[decision.to_step], lr * decision.lr_factor
        if decision.action == "stop":
            break
    played.kept = guard.kept()
    assert played.kept in guard.retained()
    return played


def curve(means: list[float], start_M: NDArray[np.float64]) -> Callable[..., NDArray[np.float64]]:
    """Updates that give the tasks the mean pass rates ``means`` (index = step), whatever came before."""

    truth = {mean: at_mean(start_M, mean) for mean in set(means)}

    def evolve(step: int, _truth_M: NDArray[np.float64], _lr: float) -> NDArray[np.float64]:
        return truth[means[step]]

    return evolve


def at_mean(rates_M: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """``rates_M`` shifted on the logit scale until their mean is ``mean``; tasks keep their order."""
    if mean <= 0 or mean >= 1:
        return np.full_like(rates_M, mean)
    logits = np.log(rates_M / (1 - rates_M))
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(logits + middle)))).mean() < mean:
            low = middle
        else:
            high = middle
    return 1 / (1 + np.exp(-(logits + low)))


def tasks_of(count: int, rng: np.random.Generator, mean: float = 0.4) -> NDArray[np.float64]:
    """True pass rates of ``count`` tasks of mixed difficulty."""
    return at_mean(np.clip(rng.beta(0.6, 0.9, count), 1e-4, 1 - 1e-4), mean)
