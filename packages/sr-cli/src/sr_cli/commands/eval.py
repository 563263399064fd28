"""``sr eval``: pass@k of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sr_cli.console import json_option, print_result, sampling_options
from sr_monitor.report.progress import Progress


@click.command(epilog="Example:  sr eval --policy smollm2-135m --tasks HumanEval.jsonl.gz --greedy --out eval.jsonl")
@sampling_options(samples=16)
@click.option("--k", default=None, help="The ks of pass@k, for example 1,10.")
@click.option("--greedy", is_flag=True, help="One completion of each task, of the likeliest tokens.")
@click.option("--limit", type=click.IntRange(1), help="The first so many tasks only.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="FILE.jsonl for samples, or a folder; raw texts and metadata beside."
)
@click.option("--predict-only", is_flag=True, help="Draw samples and grade none; the same without it grades them.")
@json_option
@click.pass_context
def command(
    context: click.Context, /, source: str, k: str | None, greedy: bool, predict_only: bool, as_json: bool, **given: Any
) -> None:
    """Sample from a policy, grade, print pass@k and avg@k. The same command goes on where it was interrupted."""
    from sr_cli.assemble import make_judge, make_sampler, read_evaluation
    from sr_reward.formats import Skipped
    from sr_reward.grading.evaluation import evaluate, summary_lines, summary_of
    from sr_reward.grading.selection import tasks_of
    from sr_reward.grading.summary import read_ks

    out, limit = given.pop("out"), given.pop("limit")
    samples, seed = given.pop("samples"), given.pop("seed")
    if greedy:
        for name in ("samples", "temperature"):
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--greedy takes one completion at temperature 0: leave out --{name}")
        samples, given["temperature"] = 1, 0.0
    config = read_evaluation(source=source, **given)
    if greedy and config.sampling.temperature:
        raise click.UsageError("--greedy takes one completion at temperature 0: leave out sampling.temperature")
    read_ks(k, [(samples, 0)])  # what cannot be reported is refused before anything is drawn
    skipped = Skipped()
    tasks = tasks_of(source, "heldout", skipped)
    if skipped.count:
        click.echo(f"sr eval: {skipped.describe()}", err=True)
    sampler = make_sampler(config, samples, seed)
    with make_judge(config) as grader:
        files = evaluate(
            sampler, tasks, grader, out=out, limit=limit, judge=not predict_only, on_task=Progress(what="tasks").of
        )
        isolation = grader.isolation
    made = summary_of(tasks, files, None if predict_only else k, limit)
    made |= {"policy": given["policy"], "skipped": skipped.count, "isolation": isolation}
    print_result(as_json, made, summary_lines(made))
