"""The forks of a study written down: tables and samples in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from study.forks import WAYS

from sr_monitor.report.study import difference, points


def tables(regime: str, judged: Mapping[str, Any], forks: Sequence[Mapping[str, Any]]) -> str:
    """What ``judge_forks`` made of the ``forks`` of a regime, and samples of the first one."""
    parts = (_ways(judged), _around(judged), _samples(forks[0]))
    return "\n".join([f"## Forks of regime `{regime}`\n", *("\n".join(part) + "\n" for part in parts)])


def _ways(judged: Mapping[str, Any]) -> Iterator[str]:
    yield f"{judged['forks']} times the shipped policy was trained without a guard. From the checkpoint one evaluation"
    yield f"before its best one, at {points(judged['start'])}% audited, every way trained for a campaign, on the same"
    yield "tasks with the same random numbers. Audited pass@1 of the policy that each kept, with paired 95% intervals"
    yield "over forks\n"
    yield "| way | kept | over the checkpoint | over going on | worst fork | steps |"
    yield "|---|---|---|---|---|---|"
    for name, way in sorted(judged["ways"].items(), key=lambda item: -item[1]["audit"]):
        cells = [
            WAYS[name].label,
            f"{points(way['audit'])} [{points(way['ci'][0])}, {points(way['ci'][1])}]",
            difference([*way["over_start"], judged["forks"]]),
            "" if name == "continue" else difference([*way["over_continue"], judged["forks"]]),
            f"{100 * way['worst']:+.1f}",
            f"{way['steps']:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _around(judged: Mapping[str, Any]) -> Iterator[str]:
    yield "What changes around the peak, before the forks: means over them. Likelihood: log-probability of the held-out"
    yield "tasks' reference solutions, per token, in nats; entropy of the training samples, in nats per token; the rest"
    yield "is of held-out samples\n"
    yield "| evaluation | step | held-out pass@1 | likelihood | entropy | distinct | programs that parse |"
    yield "|---|---|---|---|---|---|---|"
    for name, one in judged["around"].items():
        cells = [
            name.replace("look", "evaluation"),
            f"{one['step']:.0f}",
            points(one["pass1"]),
            *(f"{one[key]:.3f}" for key in ("reference_logprob", "entropy")),
            *(points(one[key]) for key in ("unique_share", "well_formed")),
        ]
        yield f"| {' | '.join(cells)} |"


def _samples(fork: Mapping[str, Any]) -> Iterator[str]:
    yield f"The first samples of some held-out tasks (fork {fork['seed']}) by the shipped policy, at its best"
    yield "evaluation and at the last one\n"
    for one in fork["looks"]:
        for sample in one.get("samples", ()):
            text = (sample["prompt"] + sample["completion"]).strip("\n")
            yield f"Step {one['step']}, {sample['outcome']}:\n\n```python\n{text}\n```\n"
