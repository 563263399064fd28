"""The forks of a study written down: tables and samples in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sr_cli.study.forks import WAYS
from sr_cli.study.pages import difference, percent


def tables(regime: str, judged: Mapping[str, Any], forks: Sequence[Mapping[str, Any]]) -> str:
    """What ``judge_forks`` made of the ``forks`` of a regime, and samples of the first one."""
    parts = (_ways(judged), _around(judged), _samples(forks[0]))
    return "\n".join([f"## Forks of regime `{regime}`\n", *("\n".join(part) + "\n" for part in parts)])


def _ways(judged: Mapping[str, Any]) -> Iterator[str]:
    yield f"{judged['forks']} times the shipped policy was trained without a guard; from the checkpoint one look before"
    yield f"its best one, at {percent(judged['start'])}% audited, every way went on for a campaign, on the same tasks"
    yield "with the same random numbers. Audited pass@1 of what each handed on, with paired 95% intervals over forks\n"
    yield "| way | handed on | over the checkpoint | over going on | worst fork | steps |"
    yield "|---|---|---|---|---|---|"
    for name, way in sorted(judged["ways"].items(), key=lambda item: -item[1]["audit"]):
        cells = [
            WAYS[name].label,
            f"{percent(way['audit'])} [{percent(way['ci'][0])}, {percent(way['ci'][1])}]",
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
    yield "| look | step | held-out pass@1 | likelihood | entropy | distinct | programs that parse |"
    yield "|---|---|---|---|---|---|---|"
    for name, look in judged["around"].items():
        cells = [
            name,
            f"{look['step']:.0f}",
            percent(look["pass1"]),
            *(f"{look[key]:.3f}" for key in ("reference_logprob", "entropy")),
            *(percent(look[key]) for key in ("unique_share", "well_formed")),
        ]
        yield f"| {' | '.join(cells)} |"


def _samples(fork: Mapping[str, Any]) -> Iterator[str]:
    yield f"The first samples of some held-out tasks (fork {fork['seed']}) by the shipped policy, at its best look, and"
    yield "at the last one\n"
    for look in fork["looks"]:
        for sample in look.get("samples", ()):
            text = (sample["prompt"] + sample["completion"]).strip("\n")
            yield f"Step {look['step']}, {sample['outcome']}:\n\n```python\n{text}\n```\n"
