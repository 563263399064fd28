"""``sr eval``: pass@k of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sr_cli.console import Progress, json_option, print_result, sampling_options


@click.command(epilog="Example:  sr eval --policy smollm2-135m --tasks HumanEval.jsonl.gz --greedy --out eval.jsonl")
@sampling_options(samples=16)
@click.option("--k", default=None, help="The ks of pass@k, for example 1,10.")
@click.option("--greedy", is_flag=True, help="One completion of each task, of the likeliest tokens.")
@click.option("--limit", type=click.IntRange(1), help="The first so many tasks only.")
@click.option("--out", type=click.Path(path_type=Path), help="Write samples here, raw texts and metadata.json beside.")
@click.option("--predict-only", is_flag=True, help="Draw samples and grade none; the same without it grades them.")
@json_option
def command(source: str, k: str | None, greedy: bool, predict_only: bool, as_json: bool, **given: Any) -> None:
    """Sample from a policy, grade, print pass@k and avg@k. The same command goes on where it was interrupted."""
    from sr_cli.assemble import make_sampler, testbed_or_file
    from sr_reward import CodeGrader
    from sr_reward.formats import Skipped
    from sr_reward.grading.evaluation import evaluate, summary_lines, summary_of
    from sr_reward.grading.summary import read_ks

    if greedy:
        given |= {"temperature": 0.0, "samples": 1}
    read_ks(k, [(given["samples"], 0)])  # what cannot be reported is refused before anything is drawn
    skipped = Skipped()
    tasks, policy = testbed_or_file(source, "heldout", skipped), given["policy"]
    out, limit = given.pop("out"), given.pop("limit")
    sampler = make_sampler(source=source, **given)
    with CodeGrader() as grader:
        files = evaluate(
            sampler, tasks, grader, out=out, limit=limit, judge=not predict_only, on_task=Progress(what="tasks").of
        )
        isolation = grader.isolation
    made = summary_of(tasks, files, None if predict_only else k)
    made |= {"policy": policy, "skipped": skipped.count, "isolation": isolation}
    print_result(as_json, made, summary_lines(made))
