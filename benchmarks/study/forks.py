"""Forks: what to do just before a peak, from one identical checkpoint.

A fork trains the shipped policy without a guard for ``FIRST_STEPS`` steps of the regime, evaluates it every second
step and takes the checkpoint one evaluation before the best, moments of the optimizer included. From there every way
trains for a campaign, on the same tasks with the same random numbers. The policy that each keeps is audited.

The first part also records what changes around a peak: the likelihood of the tasks' reference solutions, the entropy
and diversity of the samples, and a few samples.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sr_cli.assemble import make_grader, make_guard, make_tasks
from sr_cli.config import SECTIONS, RunConfig, from_mapping, over_preset
from sr_cli.studies import read_spec
from sr_core import CampaignTasks, Policy, Trainer, run_campaign
from sr_core.campaign import Link
from sr_core.errors import RunError
from sr_core.runs.snapshot import Snapshot
from sr_core.sections import layered
from sr_core.studies.jobs import one_thread
from sr_core.studies.records import Records
from sr_core.studies.spec import Settings
from sr_core.unguarded import Unguarded
from sr_monitor import paired_bootstrap
from sr_monitor.analysis.statistics import bootstrap

PAPER = Path(__file__).parent / "paper.toml"
FIRST_STEPS = 30
EVERY = 2
AROUND = ("step", "pass1", "reference_logprob", "entropy", "unique_share", "well_formed")
SHOWN = 3  # held-out tasks whose first sample is kept
FIRST, AFTER = 0, 1  # campaign numbers: their tasks and random numbers


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to go on from the checkpoint."""

    label: str
    settings: Settings = field(default_factory=dict)
    lr_factor: float = 1.0
    reset_optimizer: bool = False
    retired: bool = False  # the option it needs is gone


GUARD: Settings = {"guard": {"name": "collapse"}, "evaluate": {"every": 4}}
PATIENCE: Settings = {"guard": {"name": "early_stop", "mode": "patience", "patience": 3}}
WAYS: Mapping[str, Way] = {
    "continue": Way(label="go on"),
    "es": Way(label="ES, stop 3 steps after the peak", settings=PATIENCE),
    "lr_half": Way(label="half the learning rate", lr_factor=0.5),
    "lr_tenth": Way(label="a tenth of the learning rate", lr_factor=0.1),
    "reset": Way(label="optimizer reset, warm-up again", reset_optimizer=True),
    "average": Way(label="weight averaging", settings={"optim": {"average": True}}),
    "guard": Way(label="guard", settings=GUARD),
    "guard_last": Way(label="guard without averaging", settings=GUARD | {"optim": {"average": False}}),
    "guard_means": Way(label="guard, means only", settings=GUARD, retired=True),
}


def _open_ways() -> list[str]:
    return [name for name, way in WAYS.items() if not way.retired]


def run_forks(
    records: Records, regime: str, seeds: Sequence[int], *, workers: int, on_done: Callable[[str], None]
) -> None:
    """Run the forks of these seeds that ``records`` lack, and the ways that a fork of an earlier version lacks.

    ``workers`` at a time. Raises RunError if one fails.
    """
    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(lambda seed: _run(records, regime, seed), seeds):
            on_done(done)


def _run(records: Records, regime: str, seed: int) -> str:
    name = f"forks/{regime}/{seed}"
    if set(_open_ways()) - set((records.get(name) or {"ways": ()})["ways"]):
        command = [sys.executable, __file__, regime, str(seed), str(records.folder)]
        done = subprocess.run(command, env=one_thread(), capture_output=True, text=True)
        if done.returncode:
            last = [text for text in done.stderr.splitlines() if text.strip()][-1:]
            raise RunError(f"the fork {regime}/{seed} failed ({' '.join(last)}); run it again")
    return f"{name}: done"


def fork(
    regime: str, seed: int, changed: Settings | None = None, *, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One fork: the first curve, where it was cut, and the audits of the checkpoint and of what each way kept.

    ``known``: this fork as it was run before; ways that it has are not run again where this machine comes to the same
    checkpoint. ``changed``: settings of a smaller one.
    """

    spec = read_spec(PAPER)
    base = layered(spec.settings_of(regime, "naive"), {"evaluate": {"every": 1}}, SECTIONS)

    def configured(settings: Settings) -> RunConfig:
        named = layered(layered(base, settings, SECTIONS), changed or {}, SECTIONS)
        return from_mapping(over_preset(spec.regimes[regime].preset, named))

    config = configured({})
    draw = make_tasks(config.tasks, seed)
    with make_grader(config) as grader:
        policy = Policy.load(config.train.policy)
        trainer = Trainer(policy, grader, config.training(seed))
        seen, snapshots = _first(trainer, draw(FIRST))
        best = max(range(len(seen)), key=lambda i: (seen[i]["pass1"], -i))
        cut = max(best - 1, 0)
        for place in set(range(len(seen))) - {0, best, len(seen) - 1}:
            del seen[place]["samples"]
        # "looks" is what records call evaluations
        result: dict[str, Any] = {"regime": regime, "seed": seed, "step": EVERY * cut, "looks": seen, "ways": {}}
        if known is not None and known["looks"] == seen:
            result["start"] = known["start"]
            result["ways"] = {name: known["ways"][name] for name in WAYS if name in known["ways"]}
        tasks, audited = draw(AFTER), None
        for name in (name for name in _open_ways() if name not in result["ways"]):
            way = WAYS[name]
            chosen = configured(way.settings)
            trainer = Trainer(policy, grader, chosen.training(seed))
            trainer.roll_back(snapshots[cut], lr_factor=way.lr_factor, reset_optimizer=way.reset_optimizer)
            guard = make_guard(chosen) or Unguarded(every=EVERY, samples=config.train.evaluate.samples)
            summary = run_campaign(trainer, tasks, guard, campaign=AFTER, link=Link(start_audit=audited))
            assert summary.audit is not None, "a fork is compared by its audit"
            audited = summary.audit.of("start")
            result["start"] = summary.audit.start
            result["ways"][name] = {key: summary[key] for key in ("start", "peak", "end", "kept_step", "steps")}
            result["ways"][name] |= {"audit": summary.audit.kept}
    return result


def _first(trainer: Trainer, tasks: CampaignTasks) -> tuple[list[dict[str, Any]], list[Snapshot]]:
    """The training before the fork: the evaluations, every second step, and the checkpoints."""
    seen, snapshots, entropy = [], [], None
    for step in range(FIRST_STEPS + 1):
        if step:
            batch = tasks.draw(trainer.config, FIRST, step)
            graded = trainer.grade(batch, trainer.rollout(batch, campaign=FIRST, step=step))
            trainer.update(graded)
            entropy = graded.rollout.entropy
        if step % EVERY == 0:
            seen.append({"step": step, "entropy": entropy} | _evaluated(trainer, tasks.heldout, step))
            snapshots.append(trainer.snapshot(moments=True))
    return seen, snapshots


def _evaluated(trainer: Trainer, tasks: Sequence[Any], step: int) -> dict[str, Any]:
    """The policy on held-out tasks; ``reference_logprob``: of their reference solutions, per token, in nats."""
    policy, config = trainer.policy, trainer.config
    evaluation = trainer.evaluate(tasks, config.evaluate.samples, campaign=FIRST, step=step, purpose="heldout-0")
    answers = [task.reference.removeprefix(task.prompt) for task in tasks]
    tokens = [policy.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
    with torch.no_grad():
        prompts = [policy.prompt_ids(task.prompt) for task in tasks]
        scores = trainer.engine.score(prompts, tokens, temperature=config.sampling.temperature)
    drawn = len(tasks) * evaluation.samples
    return {
        "pass1": evaluation.pass1,
        "reference_logprob": round(float((scores.logprobs_NT * scores.mask_NT).sum() / scores.mask_NT.sum()), 4),
        "unique_share": sum(evaluation.unique) / drawn,
        "well_formed": sum(evaluation.well_formed) / drawn,
        "samples": [
            {key: example[key] for key in ("prompt", "completion", "outcome")}
            for example in evaluation.examples[:SHOWN]
        ],
    }


def read_forks(records: Records, regime: str) -> list[dict[str, Any]]:
    """The forks that the study has, by seed."""
    return sorted(records.under("forks", regime).values(), key=lambda fork: fork["seed"])


def _best(fork: Mapping[str, Any]) -> Mapping[str, Any]:
    """The best evaluation after step 0, whose entropy is not known."""
    best: Mapping[str, Any] = max(fork["looks"][1:], key=lambda one: one["pass1"])
    return best


def judge_forks(forks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each way that all forks have (records may be older than a way) the audited pass@1 of the kept policy, and its
    difference to the checkpoint and to going on."""
    start = [fork["start"] for fork in forks]
    on = [fork["ways"]["continue"]["audit"] for fork in forks]
    judged: dict[str, Any] = {"forks": len(forks), "start": float(np.mean(start)), "ways": {}}
    judged["around"] = {
        name: {key: float(np.mean([one[key] for one in evaluations])) for key in AROUND}
        for name, evaluations in (
            ("after two steps", [fork["looks"][1] for fork in forks]),
            ("best look", [_best(fork) for fork in forks]),
            ("last look", [fork["looks"][-1] for fork in forks]),
        )
    }
    for name in (name for name in WAYS if all(name in fork["ways"] for fork in forks)):
        kept = [fork["ways"][name]["audit"] for fork in forks]
        whole = bootstrap(kept)
        judged["ways"][name] = {
            "audit": whole.estimate,
            "ci": [whole.low, whole.high],
            **{
                key: [difference.estimate, difference.low, difference.high]
                for key, difference in (
                    ("over_start", paired_bootstrap(kept, start)),
                    ("over_continue", paired_bootstrap(kept, on)),
                )
            },
            "worst": min(a - b for a, b in zip(kept, start, strict=True)),
            "steps": float(np.mean([fork["ways"][name]["steps"] for fork in forks])),
        }
    return judged


def _main(regime: str, seed: int, folder: Path) -> None:
    records, name = Records(folder), f"forks/{regime}/{seed}"
    records.put(name, fork(regime, seed, known=records.get(name)))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
