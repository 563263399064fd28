"""The answer where a log holds no held-out values that are known: what the training signals say, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from sr_monitor.analysis.runs import Campaign, Run
from sr_monitor.analysis.training import SIGNS, Course, Move, course_of, moves_of

MOST_CANDIDATES = 6


def where_nothing_is_known(run: Run, campaign: Campaign) -> str:
    """Sentences: which columns could be held-out, how the training reward went, which signals moved, what to do."""
    if run.candidates:
        shown = run.candidates[:MOST_CANDIDATES]
        listed = "; ".join(f"{c.column} ({c.evaluations} values): {c.command}" for c in shown)
        more = len(run.candidates) - len(shown)
        begin = f"No column is known to be held-out. It could be {listed}{f'; and {more} more' if more else ''}."
    elif run.unknown:
        begin = (
            f"No held-out evaluation was found. If one of {', '.join(run.unknown[:MOST_CANDIDATES])} is one, judge by "
            f"it with --column heldout={run.unknown[0]}."
        )
    else:
        begin = "The log holds no held-out evaluation, so no verdict is possible."
        for column in run.columns.get("train_reward", ())[:1]:
            if "rew" not in column.lower():  # an accuracy may be of either kind
                begin += f" If {column} is one and no training reward, say so: --column heldout={column}."
    rows = [(r.step, r.signals["train_reward"]) for r in campaign.records if "train_reward" in r.signals]
    course = course_of([step for step, _ in rows], [reward for _, reward in rows])
    if course is None:
        return " ".join([begin, *_next(run, None)])
    return " ".join(
        [
            begin,
            _course(course, run.columns.get("train_reward", ())),
            *_moves(moves_of(campaign, course.peak_step)),
            *_next(run, course),
        ]
    )


def _course(course: Course, columns: Sequence[str]) -> str:
    name = columns[0] if columns else "train_reward"
    reward = "Training reward" if any(word in name.lower() for word in ("rew", "score")) else f"Training metric {name}"
    seen = (
        f"{reward} (mean of {course.window} logged steps) peaked at {course.peak:.3g} near step "
        f"{course.peak_step} and is now {course.now:.3g}"
    )
    if course.fell:
        odds = "less than once in 1,000" if course.p_value < 0.001 else f"{course.p_value:.1%} of the time"
        return f"{seen}: a fall larger than batch noise (noise alone: {odds})."
    if course.now >= course.peak:
        return f"{seen}: it has not fallen, which does not exclude a held-out collapse."
    return f"{seen}: no more than batch noise, which does not exclude a held-out collapse."


def _moves(moves: list[Move]) -> list[str]:
    if not moves:
        return []
    listed = ", ".join(f"{SIGNS[m.name]} {m.before:.3g} → {m.now:.3g}" for m in moves)
    return [f"Since then: {listed}."]


def _next(run: Run, course: Course | None) -> list[str]:
    """What to evaluate now, and how to log a held-out score from now on."""
    said = []
    steps = [step for step, _ in run.checkpoints]
    if steps:
        chosen = {steps[-1]}
        if course is not None:
            chosen |= {min(steps, key=lambda step: (abs(step - course.peak_step), step))}
        found = [(step, path) for step, path in run.checkpoints if step in chosen]
        named = " and ".join(f"{path} (step {step})" for step, path in found)
        said.append(f"Evaluate {named} on held-out tasks.")
        if run.advice is not None:
            said.append(run.advice.evaluate.format(checkpoint=found[0][1], step=found[0][0]))
    elif course is not None and course.fell:
        said.append(
            f"Evaluate the checkpoints nearest to step {course.peak_step} and to the last step on held-out tasks "
            "(none was found beside the log)."
        )
    if run.advice is not None:
        said.append(f"To log a held-out score from now on, with {run.advice.trainer}: {run.advice.setting}.")
    return said
