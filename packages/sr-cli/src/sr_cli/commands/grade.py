"""``sr grade``: grade completions against tasks and print pass@k."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import click

from sr_cli.console import Progress, print_json
from sr_reward import CodeGrader, Grade, PassAtK, Sample, Task, TaskError, load_samples, load_tasks, mean_pass_at_k
from sr_reward.formats import FORMATS
from sr_reward.grading.grade import OUTCOMES, SEPARATIONS
from sr_reward.grading.results import ResultFile
from sr_reward.integrations.ray import RayGrader
from sr_reward.sandbox import LEVELS


def read_ks(text: str | None, counts: Sequence[tuple[int, int]]) -> list[int]:
    """The ks to report: those asked for, each of which every task must have samples for; by default 1 and, where
    there are enough samples, 10."""
    fewest = min((n for n, _ in counts), default=0)
    if text is None:
        return [k for k in (1, 10) if k <= fewest]
    try:
        ks = [int(part) for part in text.split(",")]
    except ValueError:
        ks = [0]
    if min(ks) < 1:
        raise TaskError(f"--k takes numbers of at least 1 with commas between, got {text!r}; for example 1,10")
    if max(ks) > fewest:
        raise TaskError(
            f"pass@{max(ks)} needs {max(ks)} graded samples of every task, got {fewest} of one; ask for a smaller k"
        )
    return ks


def summarize(
    samples: Sequence[Sample], outcomes: Sequence[str], k: str | None
) -> tuple[list[PassAtK], Counter[str], int]:
    """pass@k for each k, outcomes counted, and the number of tasks. Infrastructure failures are no samples."""
    per_task: dict[str, list[str]] = defaultdict(list)
    for sample, outcome in zip(samples, outcomes, strict=True):
        per_task[sample.task_id].append(outcome)
    judged = [[outcome for outcome in found if outcome != "infra_error"] for found in per_task.values()]
    counts = [(len(found), found.count("passed")) for found in judged if found]
    scores = [mean_pass_at_k(counts, wanted) for wanted in read_ks(k, counts)]
    return scores, Counter(outcomes), len(per_task)


def show(result: dict[str, Any], scores: Sequence[PassAtK]) -> None:
    click.echo(f"{result['samples']} samples of {result['tasks']} tasks, isolation {result['isolation']}")
    for score in scores:
        click.echo(f"  pass@{score.k:<4} {score.value:7.2%}   95% interval {score.low:.1%} to {score.high:.1%}")
    for outcome, count in result["outcomes"].items():
        if count:
            click.echo(f"  {outcome:<12} {count}")
    if result["programs_per_s"]:
        click.echo(f"  {result['programs_per_s']:,.0f} programs per second")


@click.command(
    epilog="Example: sr grade --tasks HumanEval.jsonl.gz --samples samples.jsonl --k 1,10 --out graded.jsonl"
)
@click.option("--tasks", "tasks_path", required=True, help="Tasks: HumanEval, MBPP, APPS and kin, or native.")
@click.option(
    "--samples", "samples_path", required=True, help="One JSON object per line: task_id and completion or solution."
)
@click.option("--format", "format_", default="auto", show_default=True, help=f"One of {', '.join(FORMATS)}.")
@click.option("--k", default=None, help="The ks of pass@k, for example 1,10.")
@click.option("--workers", type=int, default=None, help="Programs that run at once (default: one per core).")
@click.option("--timeout", type=float, default=3.0, show_default=True, help="CPU seconds per program.")
@click.option("--memory", type=int, default=512, show_default=True, help="MiB of address space per program.")
@click.option("--isolation", default="auto", show_default=True, help=f"auto, {', '.join(LEVELS)}.")
@click.option("--require-isolation", default=None, help="Refuse to grade behind less than this level.")
@click.option(
    "--packages", default=None, help="A virtual environment's directory: programs and tests may import its packages."
)
@click.option(
    "--separation",
    default=SEPARATIONS[0],
    show_default=True,
    help="none: tests that cannot run apart from the program run in its process, where it can decide its own verdict.",
)
@click.option("--ray", "ray_address", default=None, help="Grade on the Ray cluster at this address (sr-reward[ray]).")
@click.option("--out", default=None, help="Write one row per sample; a file that holds the first rows is continued.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    tasks_path: str,
    samples_path: str,
    format_: str,
    k: str | None,
    workers: int | None,
    timeout: float,
    memory: int,
    isolation: str,
    require_isolation: str | None,
    packages: str | None,
    separation: str,
    ray_address: str | None,
    out: str | None,
    as_json: bool,
) -> int:
    """Grade completions and print pass@k."""
    tasks: dict[str, Task] = {task.task_id: task for task in load_tasks(tasks_path, format_)}
    samples = load_samples(samples_path, tasks)
    summarize(samples, ["failed"] * len(samples), k)  # what cannot be reported is refused before it is graded
    result_file = ResultFile(out, samples, tasks) if out else None
    kept = [row["outcome"] for row in result_file.rows] if result_file else []
    outcomes = kept + [""] * (len(samples) - len(kept))
    unfit: dict[str, str] = {}
    todo = samples[len(kept) :]
    settings: dict[str, Any] = {
        "workers": workers,
        "timeout_s": timeout,
        "memory_mb": memory,
        "isolation": isolation,
        "require_isolation": require_isolation,
        "packages": packages,
        "separation": separation,
    }
    with RayGrader(ray_address, **settings) if ray_address else CodeGrader(**settings) as grader:
        level = grader.isolation
        click.echo(f"sr grade: {len(todo)} samples to grade, isolation {level}", err=True)
        began = time.monotonic()
        progress = Progress(len(todo))
        grades = grader.stream(
            [tasks[sample.task_id] for sample in todo],
            [sample.text for sample in todo],
            solutions=[sample.solution for sample in todo],
        )
        try:
            for index, grade in grades:
                _take(outcomes, result_file, len(kept) + index, grade)
                if grade.is_unfit:
                    unfit.setdefault(todo[index].task_id, grade.detail)
                progress.step()
        except KeyboardInterrupt:
            if result_file:  # rows stand in the order of the samples: what was graded ahead of it is not kept
                saved = f"{len(result_file.rows)} of {len(samples)} rows are in {out}; the same command continues"
                click.echo(f"\nsr grade: {saved}", err=True)
            raise
        seconds = time.monotonic() - began
    if result_file:
        result_file.close()
    scores, counted, task_count = summarize(samples, outcomes, k if counted_all(outcomes) else None)
    result: dict[str, Any] = {
        "tasks": task_count,
        "samples": len(samples),
        **{f"pass@{score.k}": score.value for score in scores},
        "intervals": {f"pass@{score.k}": [score.low, score.high] for score in scores},
        "outcomes": {outcome: counted[outcome] for outcome in OUTCOMES},
        "isolation": level,
        "programs_per_s": len(todo) / seconds if todo else 0.0,
        "unfit_tasks": len(unfit),
    }
    if unfit:
        click.echo(f"sr grade: {unfit_note(unfit, separation)}", err=True)
    if as_json:
        print_json(result)
    else:
        show(result, scores)
    return 0


def unfit_note(unfit: dict[str, str], separation: str) -> str:
    """How many tasks have tests that could not run, an example, and what to do."""
    task_id, detail = next(iter(unfit.items()))
    count = f"{len(unfit)} task{'s have' if len(unfit) > 1 else ' has'} tests that cannot run here"
    advice = "give the packages that they import with --packages DIR"
    if separation != "none":
        advice += ", or run tests that need the program's process there with --separation none"
    return f"{count} (infra_error), for example {task_id}: {detail.partition(': ')[2]}; {advice}"


def counted_all(outcomes: Sequence[str]) -> bool:
    """Whether every sample has a verdict; with infrastructure failures some k may have lost its samples."""
    return "infra_error" not in outcomes


def _take(outcomes: list[str], result_file: ResultFile | None, index: int, grade: Grade) -> None:
    outcomes[index] = grade.outcome
    if result_file:
        result_file.add(index, grade)
