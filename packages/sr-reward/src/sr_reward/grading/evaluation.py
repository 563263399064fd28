"""The files of a model's evaluation: samples, raw texts with their verdicts, and what was evaluated how.

Beside ``samples.jsonl`` (or another name that ends so), which ``sr grade`` and EvalPlus read, stand
``samples.raw.jsonl`` with the texts as they were graded, and ``metadata.json``. Rows are added task by task; an
interrupted evaluation goes on after its last whole task.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sr_reward.canonical import canonical
from sr_reward.errors import FormatError
from sr_reward.formats import Sample
from sr_reward.formats.files import iter_rows, iter_tasks_and_rows
from sr_reward.grading.grade import Grade
from sr_reward.grading.grader import CodeGrader
from sr_reward.grading.stats import share_interval
from sr_reward.grading.summary import summarize
from sr_reward.task import Task

Row = dict[str, Any]
_SUFFIX = ".jsonl"
DRAWN = ("weights", "template", "sampling", "seed")  # what the rows of a selection say of its samples
_FLUSHED_S = 10.0  # verdicts of samples that were drawn before are written that often


class Answers(Protocol):
    """What a model answered to a task: texts, their lengths in tokens, and which were cut off."""

    @property
    def task(self) -> Task: ...
    @property
    def texts(self) -> Sequence[str]: ...
    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def truncated(self) -> Sequence[bool]: ...


class Sampler(Protocol):
    """Draws answers: ``about`` is what decides them, as plain values, ``chat`` whether they are programs in prose."""

    @property
    def chat(self) -> bool: ...
    def about(self, tasks: Sequence[Task]) -> dict[str, Any]: ...
    def complete(self, tasks: Sequence[Task]) -> Iterable[Answers]: ...


def tasks_digest(tasks: Iterable[Task]) -> str:
    """A hash of tasks, in any order."""
    return hashlib.sha256("\n".join(sorted(map(canonical, tasks))).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class EvaluationFiles:
    """Rows by task, in memory and, with ``out``, on disk.

    ``out`` is the file of samples if it ends in ``.jsonl``, else the folder for it. ``about``: what must be the same
    for an evaluation to go on, plain values for ``metadata.json``. ``chat``: whether answers are programs in prose, of
    which ``samples.jsonl`` then has the program. Raises FormatError where the folder holds the evaluation of something
    else, where a file of it is missing or somebody else's, or where it cannot be written.
    """

    def __init__(self, out: str | Path | None, about: Mapping[str, Any], *, chat: bool) -> None:
        self.chat = chat
        self.rows: dict[str, list[Row]] = {}
        self.samples = None if out is None else Path(out)
        self.about = dict(about)
        self.graded, self.seconds = 0, 0.0  # by this process
        if self.samples is None:
            return
        if self.samples.is_dir() or self.samples.suffix != _SUFFIX:
            self.samples = self.samples / f"samples{_SUFFIX}"
        self.raw = self.samples.with_name(f"{self.samples.name.removesuffix(_SUFFIX)}.raw{_SUFFIX}")
        try:
            self.samples.parent.mkdir(parents=True, exist_ok=True)
            self._open(self.samples, self.samples.with_name("metadata.json"))
        except OSError as error:
            raise FormatError(f"{self.samples} cannot be written: {error.strerror}; name another file") from None

    def _open(self, samples: Path, metadata: Path) -> None:
        """Go on with what is there, or begin. An evaluation without rows binds nobody."""
        files = (self.raw, samples)
        missing = [path for path in files if not path.exists()]
        filled = [path for path in files if path.exists() and path.stat().st_size]
        if filled and (missing or not metadata.exists()):
            raise FormatError(
                f"{filled[0]} exists and is no evaluation of sr eval, which has {self.raw.name}, {samples.name} and "
                f"{metadata.name} side by side; name a new file, or put back the one that is missing"
            )
        if any(path.stat().st_size for path in samples.parent.glob(f"*.raw{_SUFFIX}")):
            self._check(metadata)
        elif metadata.exists() and not {"samples", "tasks"} <= read_about(metadata).keys():
            raise FormatError(f"{metadata} exists and is no evaluation's; give --out in another folder")
        else:
            metadata.write_text(json.dumps(self.about, indent=1) + "\n", encoding="utf-8")
        for path in missing:
            path.touch()
        self._read(samples)

    def _check(self, metadata: Path) -> None:
        known = read_about(metadata)
        wrong = [key for key, value in self.about.items() if known.get(key) != value]
        if wrong:
            raise FormatError(
                f"{metadata.parent} holds an evaluation with other {', '.join(wrong)} "
                f"({known.get(wrong[0])!r:.60}, here {self.about[wrong[0]]!r:.60}); give --out in another folder"
            )

    def _read(self, samples: Path) -> None:
        raw, written = _whole_lines(self.raw), _whole_lines(samples)
        each = int(self.about["samples"])
        whole = min(len(raw), len(written)) // each * each
        for row in map(json.loads, raw[:whole]):
            self.rows.setdefault(row["task_id"], []).append(row)
        for path, lines in ((self.raw, raw), (samples, written)):
            if len(lines) > whole or not _ends(path):
                path.write_text("".join(f"{line}\n" for line in lines[:whole]), encoding="utf-8")

    def todo(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks without rows."""
        return [task for task in tasks if task.task_id not in self.rows]

    def ungraded(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks whose samples were drawn and have no verdict."""
        return [task for task in tasks if any(row["outcome"] is None for row in self.rows.get(task.task_id, ()))]

    def add(self, answers: Answers, grades: Sequence[Grade | None], programs: Sequence[str | None]) -> None:
        """The answers to one task, with their grades (None: not graded) and the programs in them."""
        task: Task = answers.task
        each = zip(answers.texts, answers.tokens, answers.truncated, grades, strict=True)
        rows = [
            {"task_id": task.task_id, "sample": i, "text": text, "tokens": tokens, "truncated": cut, **_verdict(grade)}
            for i, (text, tokens, cut, grade) in enumerate(each)
        ]
        self.rows[task.task_id] = rows
        if self.samples is not None:
            given = zip(answers.texts, programs, strict=True)
            bodies = task.prompt_is_code and not self.chat
            _append(
                self.samples,
                [
                    {"task_id": task.task_id, **({"completion": t} if bodies else {"solution": p or ""})}
                    for t, p in given
                ],
            )
            _append(self.raw, rows)

    def grade(self, task: Task, grades: Sequence[Grade]) -> None:
        """Verdicts of samples that were only drawn so far; ``flush`` writes them."""
        for row, grade in zip(self.rows[task.task_id], grades, strict=True):
            row.update(_verdict(grade))

    def counts(self) -> dict[str, tuple[int, int]]:
        """Samples with a verdict, and how many of them passed, by task."""
        judged = {
            name: [row["outcome"] for row in rows if row["outcome"] != "infra_error"]
            for name, rows in self.rows.items()
        }
        return {name: (len(found), found.count("passed")) for name, found in judged.items()}

    def flush(self) -> None:
        """Write all raw rows anew."""
        if self.samples is not None:
            partial = self.raw.with_suffix(".new")
            partial.write_text(
                "".join(json.dumps(row) + "\n" for rows in self.rows.values() for row in rows), encoding="utf-8"
            )
            partial.replace(self.raw)


def evaluate(
    sampler: Sampler,
    tasks: Sequence[Task],
    grader: CodeGrader,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    judge: bool = True,
    on_task: Callable[[int], None] | None = None,
) -> EvaluationFiles:
    """Draw and grade answers to the first ``limit`` of ``tasks``, or go on with what ``out`` holds.

    Without ``judge`` nothing is graded; a later call with it grades what was drawn. ``on_task`` is told how many tasks
    are to be drawn or graded when one of them is done.
    """
    about = {**sampler.about(tasks), "tasks": tasks_digest(tasks)}
    files = EvaluationFiles(out, about, chat=sampler.chat)
    wanted = tasks[:limit]
    todo, drawn = files.todo(wanted), files.ungraded(wanted) if judge else []

    def done() -> None:
        if on_task is not None:
            on_task(len(drawn) + len(todo))

    _grade_drawn(drawn, files, grader, done)
    for found in sampler.complete(todo):
        repeated = [found.task] * len(found.texts)
        grades = _judged(files, grader, repeated, found.texts) if judge else [None] * len(repeated)
        self_contained = files.samples is not None and (files.chat or not found.task.prompt_is_code)
        programs = grader.programs(repeated, found.texts) if self_contained else [None] * len(repeated)
        files.add(found, grades, programs)
        done()
    return files


def _grade_drawn(tasks: Sequence[Task], files: EvaluationFiles, grader: CodeGrader, done: Callable[[], None]) -> None:
    """Grade the rows of an earlier call that only drew samples; ``done`` is called after each task."""
    written = time.monotonic()
    try:
        for task in tasks:
            texts = [row["text"] for row in files.rows[task.task_id]]
            files.grade(task, _judged(files, grader, [task] * len(texts), texts))
            done()
            if time.monotonic() > written + _FLUSHED_S:
                files.flush()
                written = time.monotonic()
    finally:
        if tasks:
            files.flush()


def _judged(files: EvaluationFiles, grader: CodeGrader, tasks: Sequence[Task], texts: Sequence[str]) -> Sequence[Grade]:
    began = time.monotonic()
    grades = grader.grade(tasks, texts)
    files.graded, files.seconds = files.graded + len(texts), files.seconds + time.monotonic() - began
    return grades


def summary_of(
    tasks: Sequence[Task], files: EvaluationFiles, k: str | None, limit: int | None = None
) -> dict[str, Any]:
    """The part of ``sr eval --json`` that is about outcomes, per tier and family too: of those of the first ``limit``
    tasks whose samples are graded; where none are, what was drawn.

    ``avg@n`` is the mean over the n samples of these very tasks: its interval is over draws of samples, that of pass@k
    over draws of tasks.
    """
    drawn = [task for task in tasks[:limit] if task.task_id in files.rows]
    open_tasks = {task.task_id for task in files.ungraded(drawn)}
    judged = [task for task in drawn if task.task_id not in open_tasks] or drawn
    made = _scores(judged, files, k)
    by: dict[str, dict[str, Any]] = {}
    for kind in ("tier", "family"):
        groups = defaultdict(list)
        for task in judged:
            groups[getattr(task, kind)].append(task)
        if len(groups) > 1:
            by[kind] = {name: _scores(group, files, k) for name, group in sorted(groups.items())}
    speed = files.graded / files.seconds if files.seconds else 0.0
    return {**made, "of_tasks": len(tasks), "by": by, "programs_per_s": speed}


def _scores(tasks: Sequence[Task], files: EvaluationFiles, k: str | None) -> dict[str, Any]:
    rows = [row for task in tasks for row in files.rows[task.task_id]]
    samples = [Sample(task_id=row["task_id"], text=row["text"], solution=False) for row in rows]
    outcomes = [row["outcome"] for row in rows]
    drawn = {"tasks": len(tasks), "samples": len(rows)}
    if not rows or None in outcomes:
        return {**drawn, "intervals": {}, "outcomes": {}}
    summary = summarize(samples, outcomes, None if "infra_error" in outcomes else k)
    made: dict[str, Any] = {**drawn, **summary.as_json()}
    judged = [outcome == "passed" for outcome in outcomes if outcome != "infra_error"]
    if judged:
        name = f"avg@{len(rows) // max(len(tasks), 1)}"
        made[name] = sum(judged) / len(judged)
        made["intervals"][name] = list(share_interval(sum(judged), len(judged)))
    return made


def summary_lines(made: Mapping[str, Any]) -> Iterator[str]:
    """``summary_of`` for people."""
    part = "" if made["tasks"] == made["of_tasks"] else f" of {made['of_tasks']}"
    yield f"{made['tasks']}{part} tasks, {made['samples']} samples"
    for name, (low, high) in made["intervals"].items():
        over = "samples" if name.startswith("avg") else "tasks"
        yield f"  {name:<8} {made[name]:7.2%}   95% interval over draws of {over} {low:.1%} to {high:.1%}"
    for kind, groups in made["by"].items():
        for name, group in groups.items():
            yield f"  {kind} {name or '(none)'}: {group.get('pass@1', 0.0):.1%} of {group['tasks']} tasks"
    outcomes = ", ".join(f"{outcome} {count}" for outcome, count in made["outcomes"].items() if count)
    yield f"  {outcomes or 'not graded'}"


def read_about(metadata: Path) -> dict[str, Any]:
    """What a ``metadata.json`` says. Raises FormatError where it is none."""
    try:
        found = json.loads(metadata.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{metadata} must be the metadata of an evaluation: {error}") from None
    if not isinstance(found, dict):
        raise FormatError(f"{metadata} must hold an object, got {type(found).__name__}")
    return found


def counts_in(path: str | Path, about: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """``(samples, passed)`` by task of an earlier evaluation (its raw file) or selection, whose samples were drawn as
    ``about`` says, with another seed.

    Raises FormatError for samples of another policy or drawn in another way, for the very same draws, and for a file
    without verdicts.
    """
    path = Path(path)
    counts: dict[str, tuple[int, int]] = {}
    if path.name.endswith(f".raw{_SUFFIX}"):
        metadata = path.with_name("metadata.json")
        if metadata.exists():
            _check_poolable(path, read_about(metadata), about)
        for line, row in iter_rows(path):
            if not isinstance(row.get("outcome"), str) or "task_id" not in row:
                raise FormatError(f"{path}, line {line}: a row holds task_id and outcome; grade the samples first")
            n, passed = counts.get(name := str(row["task_id"]), (0, 0))
            counts[name] = (n + (row["outcome"] != "infra_error"), passed + (row["outcome"] == "passed"))
        return counts
    for task, row in iter_tasks_and_rows(path):
        if not (isinstance(row.get("n"), int) and isinstance(row.get("n_passed"), int)):
            raise FormatError(
                f"{path}: task {task.task_id} has no n and n_passed; give an evaluation's .raw.jsonl or a selection"
            )
        _check_poolable(path, {key: row[key] for key in DRAWN if key in row}, about)
        counts[task.task_id] = (row["n"], row["n_passed"])
    return counts


def _check_poolable(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise FormatError unless other samples of the same policy, drawn in the same way, were ``theirs``."""
    for key in ("prompt", *DRAWN):
        if key != "seed" and key in theirs and theirs[key] != ours.get(key):
            raise FormatError(
                f"{path}: samples drawn with other {key} ({theirs[key]!r:.80}, here {ours.get(key)!r:.80}); only "
                "samples of one policy, drawn in the same way, are pooled"
            )
    if theirs.get("seed", -1) == ours.get("seed"):
        raise FormatError(
            f"{path}: the same draws again (seed {ours.get('seed')}), which tell nothing new; draw with another --seed"
        )


def _verdict(grade: Grade | None) -> Row:
    if grade is None:
        return {"outcome": None}
    return {"outcome": grade.outcome, "seconds": round(grade.seconds, 6), "detail": grade.detail}


def _whole_lines(path: Path) -> list[str]:
    """The lines that end; a last one that was cut short is dropped."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _ends(path: Path) -> bool:
    """Whether a file is empty or its last line is whole."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read() == b"\n"


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error.strerror}; make room or name another file") from None
