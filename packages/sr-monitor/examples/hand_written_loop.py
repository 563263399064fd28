"""A training loop written by hand, without and with the guard. numpy only, some seconds.

    pip install sr-monitor && python packages/sr-monitor/examples/hand_written_loop.py

The policy writes words of eight letters, a softmax over the alphabet for each place, trained by REINFORCE. Training
rewards the share of the letter "a"; what is wanted, and measured on held-out tasks, is some of it but not too much. So
the held-out pass rate first rises, then collapses.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from sr_monitor import CollapseGuard

PLACES, LETTERS = 8, 8
MOST_A = [4 + task % 3 for task in range(30)]  # held-out task t wants two to MOST_A[t] letters "a", letter 0


def sample(logits: NDArray[np.float64], words: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(words, PLACES) letters, by the Gumbel-max trick."""
    return np.argmax(logits + rng.gumbel(size=(words, PLACES, LETTERS)), axis=-1)


def update(logits: NDArray[np.float64], lr: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One step of REINFORCE on the share of "a", with the batch mean as baseline."""
    words = sample(logits, 128, rng)
    rewards = (words == 0).mean(axis=1)
    chosen = np.eye(LETTERS)[words]
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    gradient = ((rewards - rewards.mean())[:, None, None] * (chosen - expected)).mean(axis=0)
    return logits + lr * gradient


def evaluate(logits: NDArray[np.float64], tasks: range | tuple[int, ...], samples: int, seed: int) -> list[int]:
    """How many of ``samples`` words pass each task, under random numbers of its own."""
    rng = np.random.default_rng(seed)
    counts = [(sample(logits, samples, rng) == 0).sum(axis=1) for _ in tasks]
    return [int(((count >= 2) & (count <= MOST_A[task])).sum()) for task, count in zip(tasks, counts, strict=True)]


def train(guard: CollapseGuard | None, *, steps: int = 60, lr: float = 8.0) -> NDArray[np.float64]:
    """The kept logits."""
    rng = np.random.default_rng(0)
    logits = np.zeros((PLACES, LETTERS))
    held = {0: logits}
    budget = guard.begin(campaign=0, steps=steps, tasks=len(MOST_A)) if guard else steps
    for step in range(budget + 1):
        if step:
            logits = update(logits, lr, rng)
        if guard is None:
            continue
        while (request := guard.ask(step)) is not None:  # this policy, or one that the guard holds
            tasks = range(len(MOST_A)) if request.tasks is None else request.tasks
            policy = logits if request.step == step else held[request.step]
            seed = 2 * step + request.fresh  # the same for all fresh samples of a step: less of a difference is luck
            guard.tell(request.step, evaluate(policy, tasks, request.samples, seed), request.samples, request.tasks)
        decision = guard.decide(step, {"finite": float(np.isfinite(logits).all())})
        held = {s: held.get(s, logits) for s in guard.retained()}
        if decision.action != "continue":
            print(f"step {step}: {decision.action}. {decision.reason}")
        if decision.action == "roll_back" and decision.to_step is not None:
            logits, lr = held[decision.to_step], lr * decision.lr_factor
        if decision.action == "stop":
            break
    return logits if guard is None else held[guard.kept()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    free, kept = train(None, steps=steps), train(CollapseGuard(), steps=steps)
    rates = [sum(evaluate(logits, range(30), 400, seed=0)) / (30 * 400) for logits in (free, kept)]
    print(f"held-out pass@1 without the guard {rates[0]:.1%}, with it {rates[1]:.1%}")


if __name__ == "__main__":
    main()
