"""What the tests of ``test_process_group.py`` run, in one process and in two. As a script: one of the two.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... python two_processes.py WHAT FOLDER
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from gradients import OPTIM, Catcher, graded, roll, verdicts
from tiny import LetterGrader, make_config, make_policy, make_tasks
from torch.distributed.tensor import DTensor

from sr_core import CampaignTasks, Policy, RunStore, Trainer, run_chain
from sr_core.algorithms import Reinforce
from sr_core.config import (
    CampaignConfig,
    DapoConfig,
    EwcConfig,
    NoPenaltyConfig,
    PolicyConfig,
    SamplingConfig,
    TrainConfig,
)
from sr_core.distributed.process_group import Ranks, init_distributed
from sr_core.engine import Engine
from sr_core.errors import CoreError, NonFiniteError
from sr_core.optim.objective import Objective
from sr_core.optim.update import update
from sr_core.policy import lora
from sr_core.unguarded import Unguarded

TASKS = CampaignTasks(train=make_tasks(7), heldout=make_tasks(5, 10), audit=make_tasks(3, 20))
CONFIG = make_config(
    algorithm=DapoConfig(resample=1),
    campaign=CampaignConfig(count=2, steps=4, checkpoint_every=1),
    penalty=EwcConfig(coefficient=0.1, fisher_samples=7),
    sampling=SamplingConfig(prompts=3, group_size=4, temperature=1.0, max_new_tokens=6),
)
SHARDED = replace(
    CONFIG,
    penalty=NoPenaltyConfig(),
    policy=PolicyConfig(sharded=True),
    optim=replace(CONFIG.optim, step="measured", lr=1.0),
)
# tolerance of the gradient, relative to its largest entry: bfloat16 has 8 bits
KINDS = {"float32": 1e-5, "one sample": 1e-5, "bfloat16": 1e-2, "sharded": 1e-5, "sharded, one sample": 1e-5} | (
    {"lora": 1e-5} if importlib.util.find_spec("peft") else {}
)


class RollsBack(Unguarded):
    """Holds step 1 and returns to it after step 3."""

    def decide(self, step: int, signals: Any) -> Any:
        decision = super().decide(step, signals)
        return replace(decision, action="roll_back", to_step=1, lr_factor=0.5) if step == 3 else decision

    def retained(self) -> frozenset[int]:
        return frozenset({1} if self._step >= 1 else ())


@dataclass(frozen=True)
class Advice:
    start_from: Any
    action: str = "reuse"
    steps: int = 4
    lr: float = CONFIG.optim.lr
    penalty: float | None = None
    reason: str = "scripted"


class BackToTheFirst:
    """Starts the second campaign from the chain's first policy."""

    def plan(self, campaign: int, context: Any) -> Advice:
        return Advice(start_from=-1 if campaign == 1 else "kept")

    def retained(self, campaign: int) -> frozenset[int]:
        return frozenset({-1})

    def record(self, campaign: int, outcome: Any) -> None:
        """Learns nothing."""


def policy_of(kind: str) -> Policy:
    """All weights in float32, adapters, or all weights in bfloat16 under a float32 head."""
    policy = make_policy(dtype=torch.bfloat16 if kind == "bfloat16" else torch.float32)
    model = lora.add_adapters(policy.model, 2) if kind == "lora" else policy.model
    return Policy(model, policy.tokenizer, head_dtype="float32")


def gradients(ranks: Ranks, kind: str) -> dict[int, torch.Tensor]:
    """Of one global batch, in micro-batches of a few tokens."""
    policy = policy_of(kind)
    engine = Engine(policy)
    rollout = roll(policy)
    if kind.startswith("sharded") and ranks.count > 1:
        engine.shard(ranks)
    optimizer = Catcher(policy.model.parameters(), lr=0.0)
    optim = replace(OPTIM, micro_batch_tokens=30)
    rewards, valid = verdicts()
    if kind.endswith("one sample"):  # so that one of two processes has nothing to compute
        rewards, valid = torch.ones_like(rewards), torch.zeros_like(valid)
        valid[0, 0] = True
    objective = Objective(algorithm=Reinforce(baseline="none"), temperature=0.8)
    update(engine, optimizer, graded(rollout, rewards, valid), objective, optim, ranks)
    return {i: g.full_tensor() if isinstance(g, DTensor) else g for i, g in optimizer.seen.items()}


def chain(
    ranks: Ranks, folder: Path, killed_at: int | None = None, config: TrainConfig = CONFIG, dtype: Any = torch.float32
) -> dict[str, Any]:
    """A chain with a roll-back, dynamic sampling and a Fisher penalty; the last process dies after so many grades."""
    grader = LetterGrader()
    plain = grader.grade

    def grade(tasks: Any, texts: Any) -> Any:
        if killed_at is not None and grader.calls >= killed_at and ranks.rank == ranks.count - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(tasks, texts)

    grader.grade = grade  # type: ignore[method-assign]
    trainer = Trainer(make_policy(dtype=dtype), grader, config, ranks)
    run = folder / "run"
    there = ranks.broadcast(run.exists())
    store = RunStore.open(run, ranks) if there else RunStore.create(run, {"processes": ranks.count}, ranks)
    with store.lock():
        planner = BackToTheFirst() if ranks.first else None
        summary = run_chain(trainer, lambda _: TASKS, RollsBack(samples=4), planner, store=store)
    trainer.policy.save(folder / "kept")
    return {"summary": summary.to_json(), "weights": trainer.weights(), "graded": grader.calls}


def sharded(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The chain without the penalty, whose second policy would not be sharded, and with means of the iterates."""
    return chain(ranks, folder, config=replace(SHARDED, optim=replace(SHARDED.optim, average=True)))


def sharded_killed(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return chain(ranks, folder, killed_at=100, config=replace(SHARDED, optim=replace(SHARDED.optim, average=True)))


def sharded_narrow(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return chain(ranks, folder, config=SHARDED, dtype=torch.bfloat16)


def failures(ranks: Ranks) -> dict[str, str]:
    """What each process is told when one of them fails in its own way, and when they disagree."""
    said: dict[str, str] = {}

    @contextmanager
    def hearing(name: str) -> Iterator[None]:
        try:
            yield
        except (CoreError, OSError) as caught:
            said[name] = f"{type(caught).__name__}: {caught}"

    for name, error in (("ours", NonFiniteError("not finite")), ("other", OSError("no disk"))):
        with hearing(name), ranks.sync_errors():
            if ranks.rank == 1:
                raise error
    with hearing("agree"):
        ranks.assert_equal("decision", ranks.rank)
    return said


def run_two(work: Callable[[Ranks, Path], object], folder: Path) -> list[BaseProcess]:
    """Two processes as a launcher would start them; what they say goes to ``folder``/RANK.err, results to RANK.pt.

    They are forked from a server that has imported torch once for all of them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["two_processes"])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    processes: list[BaseProcess] = [context.Process(target=_main, args=(work, folder, r, port)) for r in range(2)]
    for process in processes:
        process.start()
    return processes


def _main(work: Callable[[Ranks, Path], object], folder: Path, rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with (folder / f"{rank}.err").open("w") as said:
        os.dup2(said.fileno(), 2)
        try:
            with init_distributed("cpu") as ranks:
                torch.save(work(ranks, folder), folder / f"{rank}.pt")
        except CoreError as error:
            print(f"{type(error).__name__}: {error}", file=said)
            sys.exit(2)


def everything(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return {
        "gradients": {kind: gradients(ranks, kind) for kind in KINDS},
        "failures": failures(ranks),
        "chain": chain(ranks, folder),
    }


def killed(ranks: Ranks, folder: Path) -> dict[str, Any]:
    return chain(ranks, folder, killed_at=100)
