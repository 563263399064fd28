"""``sr grade``: grade completions against tasks and print pass@k."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from sr_cli.console import json_option, print_result
from sr_monitor.report.progress import Progress
from sr_reward import CodeGrader, Grade, Sample, Task, load_samples, load_tasks
from sr_reward.formats import EXPORTS, FORMATS, Skipped, check_results, write_results
from sr_reward.grading.grade import NO_CODE, SEPARATIONS
from sr_reward.grading.results import ResultFile
from sr_reward.grading.summary import summarize, unfit_tasks, ungraded_lines
from sr_reward.integrations.ray import RayGrader
from sr_reward.sandbox import LEVELS


@click.command(
    epilog="Example: sr grade --tasks HumanEval.jsonl.gz --samples samples.jsonl --k 1,10 --out graded.jsonl"
)
@click.option("--tasks", "tasks_path", required=True, help="Tasks: a published file (HumanEval, MBPP, ...), or native.")
@click.option(
    "--samples",
    "samples_path",
    required=True,
    help="Rows with task_id and completion or solution; or files of EvalPlus, LiveCodeBench, lm-eval, bigcode.",
)
@click.option("--format", "format_", default="auto", show_default=True, help=f"One of {', '.join(FORMATS)}.")
@click.option("--k", default=None, help="The ks of pass@k, for example 1,10.")
@click.option("--workers", type=int, default=None, help="Programs that run at once (default: one per core).")
@click.option(
    "--timeout", "timeout_s", type=float, default=None, help="CPU seconds per test (default: those of the format)."
)
@click.option("--memory", "memory_mb", type=int, default=512, show_default=True, help="MiB that a program may hold.")
@click.option(
    "--output", "output_mb", type=int, default=16, show_default=True, help="MiB that a program may return or print."
)
@click.option("--trim", is_flag=True, help="Let an answer that was cut off count up to its last whole statement.")
@click.option("--isolation", default="auto", show_default=True, help=f"auto, {', '.join(LEVELS)}.")
@click.option("--require-isolation", default=None, help="Refuse to grade behind less than this level.")
@click.option("--packages", default=None, help="A virtual environment's directory: programs may import its packages.")
@click.option(
    "--separation",
    default=SEPARATIONS[0],
    show_default=True,
    help="none: tests that cannot run apart from the program run in its process, where it can decide its own verdict.",
)
@click.option("--ray", "ray_address", default=None, help="Grade on the Ray cluster at this address (sr-reward[ray]).")
@click.option("--out", default=None, help="Write one row per sample; a file that holds the first rows is continued.")
@click.option("--results", "results_path", default=None, help="Write what EvalPlus or LiveCodeBench would, too.")
@click.option(
    "--results-format", type=click.Choice(EXPORTS), help="Default: livecodebench for its tasks, else evalplus."
)
@json_option
def command(
    tasks_path: str,
    samples_path: str,
    format_: str,
    k: str | None,
    ray_address: str | None,
    out: str | None,
    results_path: str | None,
    results_format: str | None,
    as_json: bool,
    **settings: Any,
) -> int:
    """Grade completions and print pass@k.

    Rows of tasks that cannot be graded are skipped and counted. Exit code 1: nothing could be graded.
    """
    skipped = Skipped()
    tasks = {task.task_id: task for task in load_tasks(tasks_path, format_, skipped=skipped)}
    samples = load_samples(samples_path, tasks, skipped_tasks=skipped)
    if skipped.count:
        click.echo(f"sr grade: {skipped.describe()}", err=True)
    summarize(samples, ["failed"] * len(samples), k)  # what cannot be reported is refused before it is graded
    check_results(results_path)
    graded = _grade(tasks, samples, ResultFile(out, samples, tasks) if out else None, ray_address, settings)
    outcomes = [grade.outcome for grade in graded.grades]
    write_results(results_path, results_format, tasks, samples, outcomes)
    infra = "infra_error" in outcomes  # with these, some k may have lost its samples
    summary = summarize(samples, outcomes, None if infra else k)
    for text in ungraded_lines(samples, graded.grades, settings["separation"]):
        click.echo(f"sr grade: {text}", err=True)
    result = {
        "tasks": summary.tasks,
        "samples": len(samples),
        "skipped": skipped.count,
        "without_samples": len(tasks) - summary.tasks,
        **summary.as_json(),
        "isolation": graded.isolation,
        "programs_per_s": graded.programs_per_s,
        "unfit_tasks": len(unfit_tasks(samples, graded.grades)),
    }
    without = f", {result['without_samples']} tasks without samples" if result["without_samples"] else ""
    head = f"{len(samples)} samples of {summary.tasks} tasks{without}, isolation {graded.isolation}"
    speed = [f"  {graded.programs_per_s:,.0f} programs per second"] if graded.programs_per_s else []
    print_result(as_json, result, [head, *summary.lines(), *speed])
    return 1 if all(outcome == "infra_error" for outcome in outcomes) else 0


class _Graded(NamedTuple):
    grades: list[Grade]
    isolation: str
    programs_per_s: float


def _grade(
    tasks: dict[str, Task],
    samples: Sequence[Sample],
    result_file: ResultFile | None,
    ray_address: str | None,
    settings: dict[str, Any],
) -> _Graded:
    """Grade what the result file does not hold yet."""
    rows = result_file.rows if result_file else []
    known = ("outcome", "detail", "separation")
    grades = [Grade(**{key: row[key] for key in known if key in row}) for row in rows]
    done = len(grades)
    todo = samples[done:]
    grades += [NO_CODE] * len(todo)
    with RayGrader(ray_address, **settings) if ray_address else CodeGrader(**settings) as grader:
        level = grader.isolation
        click.echo(f"sr grade: {len(todo)} samples to grade, isolation {level}", err=True)
        began = time.monotonic()
        progress = Progress(len(todo))
        stream = grader.stream(
            [tasks[sample.task_id] for sample in todo],
            [sample.text for sample in todo],
            solutions=[sample.solution for sample in todo],
        )
        try:
            for index, grade in stream:
                grades[done + index] = grade
                if result_file:
                    result_file.add(done + index, grade)
                progress.step()
        except KeyboardInterrupt:
            if result_file:  # rows stand in the order of the samples: what was graded ahead of it is not kept
                saved = f"{len(result_file.rows)} of {len(samples)} rows are in {result_file.path}"
                click.echo(f"\nsr grade: {saved}; the same command continues", err=True)
            raise
        seconds = time.monotonic() - began
    if result_file:
        result_file.close()
    return _Graded(grades=grades, isolation=level, programs_per_s=len(todo) / seconds if todo else 0.0)
