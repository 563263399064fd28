"""Verdicts follow the curve, its noise, and what the guard did."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sr_monitor import Run, judge
from sr_monitor.logs.records import Size, clean
from sr_monitor.report.terminal import plot, sparkline, view

COLLAPSE = [0.3, 0.5, 0.7, 0.85, 0.9, 0.85, 0.4, 0.1]


def run_from(rows: Sequence[Mapping[str, Any]], **columns: str) -> Run:
    cleaned = clean(rows, columns, Size())
    path, found = Path("somewhere"), cleaned.found
    records, notes = cleaned.records, cleaned.notes
    return Run(path=path, name="somewhere", format="csv", records=records, metric=found.metric, notes=notes)


def run_of(curve: Sequence[float | None], **extra: Mapping[str, Any]) -> Run:
    rows: list[dict[str, Any]] = [
        {"step": s, "heldout_pass1": v, "tasks": 30, "samples_per_task": 16} for s, v in enumerate(curve)
    ]
    for step, more in extra.items():
        rows[int(step[1:])].update(more)
    return run_from(rows)


def test_a_collapse() -> None:
    verdict = judge(run_of(COLLAPSE))
    assert (verdict.verdict, verdict.action) == ("collapsed", "roll_back")
    assert (verdict.peak_step, verdict.onset_step) == (4, 6)
    assert verdict.gap == pytest.approx(0.8)
    assert verdict.p_value is not None
    assert verdict.p_value < 0.01


def test_a_rise() -> None:
    verdict = judge(run_of([0.3, 0.5, 0.7, 0.85, 0.9, 0.9]))
    assert (verdict.verdict, verdict.action, verdict.onset_step) == ("healthy", "continue", None)


def test_a_real_fall_that_is_no_collapse_yet() -> None:
    assert judge(run_of([0.3, 0.5, 0.7, 0.85, 0.9, 0.75])).verdict == "at_risk"


def test_a_fall_that_noise_explains_is_not_called_one() -> None:
    curve = [0.3, 0.5, 0.4, 0.2, 0.5, 0.3, 0.4, 0.2]
    noisy = [{"step": s, "heldout_pass1": v, "tasks": 10, "samples_per_task": 1} for s, v in enumerate(curve)]
    verdict = judge(run_from(noisy))
    assert (verdict.verdict, verdict.action) == ("insufficient", "evaluate")


@pytest.mark.parametrize("curve", [[0.5], [0.5, 0.1], [None, None, None]])
def test_too_little_is_an_answer_of_its_own(curve: list[float | None]) -> None:
    assert judge(run_of(curve)).verdict == "insufficient"


def test_without_the_evaluation_size_noise_is_read_off_the_curve() -> None:
    rows = [{"step": s, "heldout_pass1": v} for s, v in enumerate(COLLAPSE)]
    verdict = judge(run_from(rows))
    assert verdict.verdict == "collapsed"


def test_what_the_guard_rolled_back_does_not_count() -> None:
    back = {"decision": {"action": "roll_back", "to_step": 4}}
    assert judge(run_of([*COLLAPSE, 0.9], s7=back)).verdict == "healthy"
    assert judge(run_of([*COLLAPSE, 0.9])).verdict == "healthy"
    assert judge(run_of(COLLAPSE, s7=back)).verdict == "healthy"


def kept(run: Run, kept_step: int) -> Run:
    return replace(run, summary={"campaigns": [{"campaign": 0, "kept_step": kept_step}]})


def test_what_came_after_the_kept_policy_does_not_count() -> None:
    verdict = judge(kept(run_of(COLLAPSE), 4))
    assert (verdict.verdict, verdict.action, verdict.gap) == ("healthy", "continue", 0.0)
    assert "The policy of step 4 was kept" in verdict.reason
    assert judge(kept(run_of(COLLAPSE), 7)).verdict == "collapsed"
    assert judge(kept(run_of(COLLAPSE, s7={"loss": float("nan")}), 4)).verdict == "healthy"


def test_a_finished_campaign_that_kept_its_start_needs_no_more_evaluations() -> None:
    verdict = judge(kept(run_of(COLLAPSE), 0))
    assert (verdict.verdict, verdict.peak_step, verdict.gap) == ("healthy", 0, 0.0)
    assert judge(kept(run_of([0.5, 0.1]), 0)).verdict == "insufficient"


def test_a_policy_kept_although_a_guard_had_gone_back_before_it_is_judged_as_it_was() -> None:
    back = {"decision": {"action": "roll_back", "to_step": 2}}
    (campaign,) = kept(run_of(COLLAPSE, s4=back), 4).campaigns
    assert campaign.surviving is not None
    assert campaign.surviving.steps == (0, 1, 2, 3, 4)
    (campaign,) = kept(run_of(COLLAPSE, s4=back), 5).campaigns
    assert campaign.surviving is not None
    assert campaign.surviving.steps == (0, 1, 2, 5)


def test_a_last_step_that_is_not_finite_is_at_risk() -> None:
    verdict = judge(run_of([0.3, 0.5, 0.7, 0.7], s3={"grad_norm": float("nan")}))
    assert (verdict.verdict, verdict.action) == ("at_risk", "roll_back")
    assert "grad_norm" in verdict.reason


def test_the_last_campaign_is_judged_and_the_others_are_mentioned() -> None:
    rows = [{"campaign": 0, "step": s, "heldout_pass1": v, "heldout_se": 0.02} for s, v in enumerate(COLLAPSE)]
    rows += [{"campaign": 1, "step": s, "heldout_pass1": 0.1 + s / 10, "heldout_se": 0.02} for s in range(5)]
    verdict = judge(run_from(rows))
    assert verdict.verdict == "healthy"
    assert "1 of the 1 campaigns before it ended collapsed" in verdict.reason


def test_the_terminal_view_shows_curve_and_verdict() -> None:
    run = run_of(COLLAPSE, s1={"entropy": 0.5}, s2={"entropy": 0.1})
    text = view(run, judge(run))
    assert "COLLAPSED" in text
    assert text.count("●") == len(COLLAPSE)
    assert "entropy" in text


@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_terminal_view_breaks_sentences_between_words_and_keeps_to_the_width(width: int) -> None:
    told = {"decision": {"action": "roll_back", "rule": "fall", "reason": "pass@1 lies far below that of step 3 " * 3}}
    run = run_of(COLLAPSE, s1={"entropy": 0.5}, s5=told)
    verdict = judge(run)
    lines = view(run, verdict, width=width).split("\n")
    assert max(map(len, lines)) <= width
    assert " ".join(verdict.reason.split()) in " ".join(" ".join(lines).split())


def test_a_plot_puts_each_value_at_its_height() -> None:
    lines = plot([0, 1], [1.0, 0.0], width=10, height=5).split("\n")
    assert lines[0] == " 100% ┤●"
    assert lines[4] == "   0% ┤         ●"


def test_a_sparkline_keeps_gaps_and_order() -> None:
    assert sparkline([0.0, None, 1.0]) == "▁ █"


def test_ten_thousand_rows_are_judged_in_seconds() -> None:
    began = time.process_time()
    assert judge(run_of([0.3 + 0.00005 * s for s in range(10_000)])).verdict == "healthy"
    assert time.process_time() - began < 10


def on_own_scale(name: str, curve: Sequence[float]) -> Run:
    return run_from([{"step": s, name: v} for s, v in enumerate(curve)])


def test_a_loss_that_falls_is_an_improvement_and_one_that_rises_a_fall() -> None:
    falling = [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.48]
    assert judge(on_own_scale("eval_loss", falling)).verdict == "healthy"
    verdict = judge(on_own_scale("eval_loss", [*falling, 0.9, 1.4, 1.6]))
    assert (verdict.verdict, verdict.peak_step, verdict.column) == ("collapsed", 6, "eval_loss")
    assert verdict.gap == pytest.approx(1.12)
    assert "pass@1" not in verdict.reason


def test_a_negative_reward_is_judged_on_its_own_scale() -> None:
    rising = [-3.0, -2.4, -1.8, -1.3, -0.9, -0.6, -0.4]
    assert judge(on_own_scale("eval_reward", rising)).verdict == "healthy"
    verdict = judge(on_own_scale("eval_reward", [*rising, -1.5, -2.6, -3.1]))
    assert (verdict.verdict, verdict.column) == ("collapsed", "eval_reward")
    assert "eval_reward peaked at -0.4" in verdict.reason


@given(st.floats(0.01, 100), st.sampled_from(["eval_reward", "eval_loss"]))
def test_the_unit_of_a_score_or_a_loss_does_not_change_the_verdict(unit: float, name: str) -> None:
    curve = [0.2, 0.5, 0.9, 0.8, 0.6, 0.45, 0.5]
    one, other = judge(on_own_scale(name, curve)), judge(on_own_scale(name, [unit * v for v in curve]))
    assert (one.verdict, one.peak_step) == (other.verdict, other.peak_step)


@pytest.mark.parametrize(
    ("peak", "end", "verdict"), [(0.09, 0.0, "collapsed"), (0.048, 0.0, "collapsed"), (0.09, 0.02, "at_risk")]
)
def test_losing_a_low_pass_rate_of_many_samples_is_never_healthy(peak: float, end: float, verdict: str) -> None:
    curve = [0.02, peak / 2, peak, peak, end, end]
    table = [{"step": s, "heldout_pass1": v, "tasks": 500, "samples_per_task": 16} for s, v in enumerate(curve)]
    assert judge(run_from(table)).verdict == verdict


def test_a_low_pass_rate_of_few_samples_can_be_noise() -> None:
    table = [{"step": s, "heldout_pass1": v, "tasks": 30, "samples_per_task": 1} for s, v in enumerate([0, 0.1, 0.03])]
    assert judge(run_from(table)).verdict in ("healthy", "insufficient")


def test_a_tolerated_fall_needs_no_noise_to_be_healthy() -> None:
    assert judge(on_own_scale("eval_accuracy", [0.5, 0.6, 0.56])).verdict == "healthy"
    assert judge(on_own_scale("eval_accuracy", [0.5, 0.6, 0.3])).verdict == "insufficient"


def test_a_collapse_whose_last_step_is_not_finite_is_still_a_collapse() -> None:
    verdict = judge(run_of(COLLAPSE, s7={"grad_norm": float("nan")}))
    assert verdict.verdict == "collapsed"
    assert "Grad_norm is not finite" in verdict.reason
