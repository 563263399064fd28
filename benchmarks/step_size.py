"""How should the size of a step be measured? Real steps of the shipped policies, made longer until they do harm.

    uv run --group bench python benchmarks/step_size.py [--seeds 100,101] [--out FILE] [--json]

Each policy is trained with measured steps. At some of its steps (a state) the step that was taken is made 2, 4, ... 256
times as long, and at each length every measure is taken and held-out pass@1 is drawn. Three questions:

harm: at which value of a measure is a tenth of the pass@1 lost? The unit of a limit is good if that value is the same
for all states: ``spread`` is the factor of one standard deviation among states (1 is perfect).
precision: relative error of a measure on an eighth of the batch against itself on the whole batch, at the step taken.
batch: the same movement on the held-out prompts, relative to the batch's.

Measures, in nats per token unless said otherwise: ``kl``: exact KL(old || new) over the vocabulary; ``reverse``: exact
KL(new || old); ``k3`` and ``half_square``: estimates of KL(old || new) from the drawn tokens alone, exp(d) - 1 - d and
d^2 / 2 with d the change of a token's log-probability; ``sequence``: kl summed over a completion; ``q99`` and ``max``:
quantile and maximum over tokens of kl; ``kl_per_entropy``: kl over the entropy of the samples.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sr_cli.assemble import make_grader, make_tasks
from sr_cli.config import load_config
from sr_core import Policy, Trainer
from sr_core.batch import Rollout
from sr_core.engine import Engine
from sr_core.optim.movement import SHARE, Probe, probe_rows

LENGTHS = tuple(2.0**i for i in range(9))
STATES = (1, 8, 20)  # steps of the training at which the step taken is examined
LOST = 0.1  # of the pass@1
SAMPLES = 8
SETTINGS = ["sampling.prompts=8", "optim.step=measured", "sandbox.workers=1", "tasks.audit=0", "tasks.heldout=60"]
POLICIES = {"rich": "testbed", "fragile": "testbed-fragile"}
MEASURES = ("kl", "reverse", "k3", "half_square", "sequence", "q99", "max", "kl_per_entropy")
PRECISE = ("kl", "reverse", "k3", "half_square", "sequence", "q99", "max")


class Tokens:
    """Log-probabilities (n x V) at all tokens of a rollout, and how they differ from later ones."""

    def __init__(self, engine: Engine, rollout: Rollout, temperature: float) -> None:
        self.engine, self.rollout, self.temperature = engine, rollout, temperature
        self.targets = torch.tensor([token for tokens in rollout.tokens for token in tokens])
        self.owner_n = np.repeat(np.arange(len(rollout.tokens)), rollout.lengths)
        self.before_nV = self._logprobs()

    @torch.no_grad()
    def _logprobs(self) -> Tensor:
        prompts = [self.rollout.prompts[i // self.rollout.group_size] for i in range(len(self.rollout.tokens))]
        hidden = self.engine.states(prompts, self.rollout.tokens)
        return (self.engine.policy.logits(hidden) / self.temperature).double().log_softmax(1)

    def moved(self) -> dict[str, np.ndarray]:
        """Per token: the four divergences from what was to what is."""
        before, after = self.before_nV, self._logprobs()
        places = torch.arange(len(self.targets)), self.targets
        change = (after[places] - before[places]).numpy()
        return {
            "kl": (before.exp() * (before - after)).sum(1).numpy(),
            "reverse": (after.exp() * (after - before)).sum(1).numpy(),
            "k3": np.expm1(change) - change,
            "half_square": change**2 / 2,
        }


def summarize(moved: Mapping[str, np.ndarray], owner_n: np.ndarray) -> dict[str, float]:
    """The measures from values per token."""
    values = {name: float(per_token.mean()) for name, per_token in moved.items()}
    kl = moved["kl"]
    values["sequence"] = float(kl.sum() / len(np.unique(owner_n)))
    values["q99"], values["max"] = float(np.quantile(kl, 0.99)), float(kl.max())
    return values


def precision(moved: Mapping[str, np.ndarray], owner_n: np.ndarray, count: int, rng: np.random.Generator) -> Any:
    """Relative root-mean-square error of each measure on ``count`` random completions against all of them."""
    whole = summarize(moved, owner_n)
    errors: dict[str, list[float]] = {name: [] for name in whole}
    for _ in range(100):
        chosen = np.isin(owner_n, rng.choice(owner_n.max() + 1, count, replace=False))
        part = summarize({name: values[chosen] for name, values in moved.items()}, owner_n[chosen])
        for name, value in part.items():
            errors[name].append(value / whole[name] - 1)
    return {name: float(np.sqrt(np.mean(np.square(e)))) for name, e in errors.items()}


def examine(trainer: Trainer, tasks: Any, step: int, seed: int) -> dict[str, Any]:
    """One step of training, and what it does at other lengths; the training goes on from the step as it is."""
    temperature = trainer.config.sampling.temperature
    batch = tasks.draw(trainer.config, 0, step)
    graded = trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step))
    heldout = trainer.rollout(tasks.heldout[:16], campaign=0, step=step, purpose="heldout prompts")
    on_batch = Tokens(trainer.engine, graded.rollout, temperature)
    on_heldout = Tokens(trainer.engine, heldout, temperature)
    before = trainer.weights()
    level = pass1(trainer, tasks, step)
    result = trainer.update(graded)
    after = trainer.weights()
    lengths = []
    precise: Any = None
    for length in LENGTHS:
        trainer.load_weights({name: before[name] + length * (after[name] - before[name]) for name in before})
        moved = on_batch.moved()
        values = summarize(moved, on_batch.owner_n)
        values["kl_per_entropy"] = values["kl"] / graded.rollout.entropy
        if length == 1:
            count = len(probe_rows(graded.rollout))
            precise = precision(moved, on_batch.owner_n, count, np.random.default_rng(seed))
            beyond = summarize(on_heldout.moved(), on_heldout.owner_n)
        lengths.append({"length": length, "pass1": pass1(trainer, tasks, step), **values})
        if lengths[-1]["pass1"] < 0.5 * level:
            break
    trainer.load_weights(after)
    return {
        "step": step,
        "pass1": level,
        "entropy": graded.rollout.entropy,
        "limit": result.step_limit,
        "reported": result.step_kl,
        "precision": precise,
        "heldout_over_batch": beyond["kl"] / lengths[0]["kl"],
        "lengths": lengths,
    }


def pass1(trainer: Trainer, tasks: Any, step: int) -> float:
    return float(trainer.evaluate(tasks.heldout, SAMPLES, campaign=0, step=step, purpose="harm").pass1)


def harm(state: Mapping[str, Any], name: str) -> float | None:
    """The value of a measure at which ``LOST`` of the pass@1 is gone, between two lengths on a logarithmic scale; None
    where no length did as much."""
    limit = (1 - LOST) * state["pass1"]
    rows = state["lengths"]
    for low, high in itertools.pairwise(rows):
        if high["pass1"] <= limit < low["pass1"]:
            share = (low["pass1"] - limit) / (low["pass1"] - high["pass1"])
            return math.exp((1 - share) * math.log(low[name]) + share * math.log(high[name]))
    return None


def judge(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    judged: dict[str, Any] = {}
    for name in MEASURES:
        found = [value for state in states if (value := harm(state, name)) is not None]
        logs = np.log(found)
        judged[name] = {
            "states": len(found),
            "harm": float(np.exp(logs.mean())) if found else None,
            "spread": float(np.exp(logs.std(ddof=1))) if len(found) > 1 else None,
            "lowest": min(found, default=None),
            "error": float(np.median([s["precision"][name] for s in states])) if name in PRECISE else None,
        }
    return judged


def cost(trainer: Trainer, tasks: Any) -> dict[str, float]:
    """Seconds of a whole step without the measurement, and of the measurement (one that needs no shortening)."""
    seconds: dict[str, list[float]] = {"step": [], "measurement": []}
    for step in range(100, 106):
        batch = tasks.draw(trainer.config, 0, step)
        began = time.process_time()
        graded = trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step))
        trainer.update(graded)
        middle = time.process_time()
        Probe(trainer.engine, graded.rollout, temperature=trainer.config.sampling.temperature).moved()
        seconds["measurement"].append(time.process_time() - middle)
        seconds["step"].append(middle - began)
    measurement = float(np.median(seconds["measurement"]))
    rest = float(np.median(seconds["step"])) - measurement
    return {"step_s": rest, "measurement_s": measurement, "share": measurement / rest}


def run(name: str, seed: int) -> dict[str, Any]:
    config = load_config(None, POLICIES[name], SETTINGS)
    tasks = make_tasks(config.tasks, seed)(0)
    states = []
    with make_grader(config) as grader:
        trainer = Trainer(Policy.load(config.train.policy), grader, config.training(seed))
        for step in range(1, max(STATES) + 1):
            if step in STATES:
                states.append({"policy": name, "seed": seed, **examine(trainer, tasks, step, seed)})
            else:
                batch = tasks.draw(trainer.config, 0, step)
                trainer.update(trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step)))
        return {"states": states, "cost": cost(trainer, tasks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", default="100,101", help="comma-separated")
    parser.add_argument("--out", type=Path, help="keep every state there, and go on from what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(options.out.read_text()) if options.out and options.out.exists() else {"states": [], "cost": []}
    done = {(state["policy"], state["seed"]) for state in known["states"]}
    for seed in map(int, options.seeds.split(",")):
        for name in POLICIES:
            if (name, seed) not in done:
                found = run(name, seed)
                known["states"] += found["states"]
                known["cost"].append(found["cost"])
                if options.out:
                    options.out.write_text(json.dumps(known, indent=1))
    results: dict[str, Any] = {
        "date": f"{datetime.date.today()}",
        "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        "measured_share": SHARE,
        "states": len(known["states"]),
        "measures": judge(known["states"]),
        "heldout_over_batch": float(np.median([state["heldout_over_batch"] for state in known["states"]])),
        "cost_share": float(np.median([part["share"] for part in known["cost"]])),
    }
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{'measure':<16}{'harm at':>10}{'spread':>9}{'lowest':>10}{'states':>8}{'error on the part':>19}")
    for name, row in results["measures"].items():
        cells = [f"{row[key]:.3g}" if row[key] is not None else "-" for key in ("harm", "spread", "lowest")]
        error = "-" if row["error"] is None else f"{row['error']:.0%}"
        print(f"{name:<16}{cells[0]:>10}{cells[1]:>9}{cells[2]:>10}{row['states']:>8}{error:>19}")
    print(f"movement on held-out prompts over that on the batch: {results['heldout_over_batch']:.2f}")
    print(f"cost of a measurement: {results['cost_share']:.1%} of a step")


if __name__ == "__main__":
    main()
