"""Starting and continuing a run in its directory; what ``sr run``, ``sr resume`` and ``sr demo`` share."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sr_cli.assemble import check_memory, given_tasks, make_grader, make_guard, make_planner, make_policy, make_tasks
from sr_cli.config import Described, RunConfig
from sr_cli.launched import leads
from sr_core import Policy, RunStore, Trainer, run_chain
from sr_core.campaign import Row
from sr_core.distributed.process_group import Ranks, init_distributed
from sr_core.errors import GraderError
from sr_core.evaluation.grading import find_too_long, find_ungradable
from sr_core.runs.disk import require_room_for_run
from sr_core.runs.run_dir import read_run, run_name, to_resume
from sr_core.runs.stop import Stop
from sr_core.runs.tracking import tracker

PACKAGES = ("sr-core", "sr-reward", "sr-monitor", "sr-care", "sr-cli", "torch", "transformers", "numpy")


def start(config: RunConfig, folder: Path, seed: int, on_row: Callable[[Row], None]) -> dict[str, Any]:
    """Run ``config`` in the new directory ``folder``; return its summary. Everything is checked before it is made."""
    return _execute(config, folder, seed, on_row, False)


def resume(described: Described, folder: Path, on_row: Callable[[Row], None]) -> dict[str, Any]:
    """Continue the run in ``folder``, as its ``run.json`` describes it, from its last whole checkpoint; return its
    summary."""
    config, seed, threads = described
    torch.set_num_threads(threads)  # sums are split by thread, so another number would round differently
    return _execute(config, folder, seed, on_row, True)


def _execute(
    config: RunConfig, folder: Path, seed: int, on_row: Callable[[Row], None], going_on: bool
) -> dict[str, Any]:
    with init_distributed(config.train.policy.device) as ranks, ExitStack() as stack:
        with ranks.sync_errors():
            make_tasks(config.tasks, seed)(0)
            check_memory(config, going_on)
            guard = make_guard(config)
            policy = make_policy(config.train.policy)
            grader = stack.enter_context(make_grader(config))
            isolation = grader.isolation
            if not going_on:
                require_room_for_run(folder, policy.model, config.training(seed), guard)
        stop = stack.enter_context(Stop().listening(_announce))
        if going_on:
            left_out = read_run(folder).get("left_out_tasks", {})
        else:
            given = given_tasks(config.tasks)
            left_out = find_ungradable(grader, given, ranks) | find_too_long(policy, given, config.train.sampling)
        draw = make_tasks(config.tasks, seed, left_out)
        run = _describe(config, seed, policy, isolation, ranks) | {"left_out_tasks": left_out}
        run["name"] = run_name(config.plain(), seed, folder)
        trainer = Trainer(policy, grader, config.training(seed), ranks)
        store = RunStore.open(folder, ranks) if going_on else RunStore.create(folder, run, ranks)
        store.stop = stop
        stack.enter_context(store.lock())
        stack.enter_context(_interruptible(store))
        begun = run | {"processes": 1} | store.run()  # run.json keeps the name of a folder that has moved
        if begun["processes"] != ranks.count:
            store.notices.append(
                f"this run was started on {begun['processes']} processes and goes on with {ranks.count}: "
                "it is the same to rounding, no longer bit for bit"
            )
        planner = make_planner(config, seed, folder, begun["name"], store.saved() is not None) if ranks.first else None
        if left_out:
            named = "; ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:5])
            more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
            store.notices.append(f"{len(left_out)} tasks are left out, since they cannot be used here: {named}{more}")
        with tracker(config.tracking.name, config.tracking.project, folder, config.plain()) as track:

            def observe(row: Row) -> None:
                while store.notices:
                    print(f"sr: {store.notices.pop(0)}", file=sys.stderr)
                track(row)
                on_row(row)

            chain = run_chain(trainer, draw, guard, planner, store=store, on_row=observe if ranks.first else None)
            summary = chain.to_json()
        if ranks.first or policy.sharded:
            policy.save(folder / "checkpoints" / "kept")
        if ranks.first:
            store.write_json("summary.json", summary)
    return summary


def _describe(config: RunConfig, seed: int, policy: Policy, isolation: str, ranks: Ranks) -> dict[str, Any]:
    return {
        "config": config.plain(),
        "seed": seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": str(policy.device),
        "processes": ranks.count,
        "threads": torch.get_num_threads(),
        "parameters": policy.size,
        "isolation": isolation,
    }


@contextmanager
def _interruptible(store: RunStore) -> Iterator[None]:
    """Save on an interrupt what can be saved, and say what that is and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, GraderError) as error:
        store.save_pending()
        if leads() and isinstance(error, KeyboardInterrupt):
            print(f"sr: {_saved(store)} with: {to_resume(store.folder)}", file=sys.stderr)
        raise


def _announce(text: str) -> None:
    """For a signal's handler, which may interrupt a print."""
    if leads():
        os.write(2, f"sr: {text}\n".encode())


def _saved(store: RunStore) -> str:
    if (place := store.saved()) is None:
        return "interrupted before the first checkpoint, begin again"
    campaign, step = place
    return f"state saved up to step {step} of campaign {campaign} (any later step is run again), continue"
