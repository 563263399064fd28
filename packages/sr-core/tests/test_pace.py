"""Checkpoints by cost: what they may take of the wall clock, what a kill costs, and that an interrupt costs nothing."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, RunStore, Trainer, run_chain
from sr_core.config import CampaignConfig, EvaluateConfig, OptimConfig, SamplingConfig
from sr_core.runs.pace import SHARE, Pace
from sr_core.runs.stop import Stop

TASKS = CampaignTasks(train=make_tasks(7), heldout=make_tasks(5, 10), audit=make_tasks(4, 20))
SECTIONS: dict[str, Any] = {
    "sampling": SamplingConfig(prompts=2, group_size=3, temperature=1.0, max_new_tokens=3),
    "campaign": CampaignConfig(count=2, steps=3),
    "evaluate": EvaluateConfig(samples=1, audit_samples=1),
    "optim": OptimConfig(lr=0.05, average=True),
}


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50), st.booleans()), max_size=60))
def test_due_checkpoints_take_their_share_of_the_time_and_one_write_more(
    steps: list[tuple[float, float, bool]],
) -> None:
    clock = Clock()
    began, pace = clock.now, Pace(clock)
    optional: list[float] = []
    for seconds, cost, must in steps:
        clock.now += seconds
        if (due := pace.due()) or must:
            with pace.writing():
                clock.now += cost
        if due:
            optional.append(cost)
            assert sum(optional) <= SHARE * (clock.now - began) + max(optional) + 1e-9


@settings(max_examples=25)
@given(step=st.floats(0.01, 100), share=st.floats(0.001, 20))
def test_cheap_checkpoints_are_written_at_every_step_and_dear_ones_as_often_as_they_may(
    step: float, share: float
) -> None:
    clock = Clock()
    pace, written = Pace(clock), []
    for number in range(100):
        clock.now += step
        if pace.due():
            with pace.writing():
                clock.now += step * share
            written.append(number)
    assert written[0] == 0
    # so much is lost at most, should the process be killed: 20 times a write, twice that after the first one
    assert all(later - earlier <= 2 + 2 * share / SHARE for earlier, later in itertools.pairwise([*written, 100]))
    if share < SHARE / 2:
        assert len(written) == 100


def make_trainer() -> Trainer:
    return Trainer(make_policy(), LetterGrader(), make_config(**SECTIONS))


class Dear(Pace):
    """Writes so expensive that only the first one and those that cannot wait are made."""

    def due(self) -> bool:
        return not self.costs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    trainer = make_trainer()
    summary = run_chain(trainer, lambda _: TASKS, store=RunStore.create(folder, {}))
    return folder, summary.to_json(), trainer.weights()


def rows(store: RunStore) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in store.rows()]


def signalled(owner: Any, verb: str, call: int, number: int) -> None:
    """Have the process get a signal at the end of call number ``call`` of a verb."""
    plain, calls = getattr(owner, verb), iter(range(1, 1000))

    def wrapped(*arguments: Any, **how: Any) -> Any:
        here = next(calls) == call
        result = plain(*arguments, **how)
        if here:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, verb, wrapped)


def run(store: RunStore, trainer: Trainer) -> dict[str, Any]:
    """As ``sr run`` does it: signals heard, and what is pending written on the way out."""
    store.pace = Dear()
    try:
        return run_chain(trainer, lambda _: TASKS, store=store).to_json()
    except KeyboardInterrupt:
        store.save_pending()
        raise


# calls are counted over the chain: each campaign has 3 updates, and evaluations and appended rows in steps 0 to 3
@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("rollout", 3),
        ("update", 6),
        *(pytest.param(*rest, marks=pytest.mark.nightly) for rest in [("grade", 2), ("evaluate", 4), ("append", 7)]),
    ],
)
def test_an_interrupt_loses_no_complete_step_and_the_run_goes_on_bit_for_bit(
    whole: tuple[Path, dict[str, Any], dict[str, torch.Tensor]], tmp_path: Path, verb: str, call: int
) -> None:
    folder, expected, weights = whole
    store, trainer, said = RunStore.create(tmp_path / "run", {}), make_trainer(), list[str]()
    signalled(store if verb == "append" else trainer, verb, call, signal.SIGTERM if call == 6 else signal.SIGINT)
    with store.stop.listening(said.append), pytest.raises(KeyboardInterrupt):
        run(store, trainer)
    last = store.rows()[-1]
    assert store.saved() == (last["campaign"], last["step"])
    # only a step that has begun to change the trainer has to end first
    assert bool(said) == (verb in ("update", "evaluate", "append"))
    again, resumed = RunStore.open(tmp_path / "run"), make_trainer()
    assert run(again, resumed) == expected
    assert all(torch.equal(weight, weights[name]) for name, weight in resumed.weights().items())
    assert rows(again) == rows(RunStore.open(folder))


def test_a_second_interrupt_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("sr_core.runs.stop.time.monotonic", clock)
    before = signal.getsignal(signal.SIGINT)
    stop, said = Stop(), list[str]()
    stop.unsaved(None)
    with stop.listening(said.append):
        os.kill(os.getpid(), signal.SIGINT)
        clock.now += 0.1
        os.kill(os.getpid(), signal.SIGTERM)  # of the same wish, by a parent process
        assert stop.asked
        clock.now += 2
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert len(said) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_with_everything_saved_is_one_at_once() -> None:
    stop = Stop()
    with stop.listening(lambda text: None):
        stop.unsaved(None)
        stop.saved()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
