"""Passing counts from scored samples."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sr_monitor import MonitorError
from sr_monitor.integrations.samples import passes_per_task, read_samples, scores_in_words

verdicts = st.dictionaries(st.text(max_size=4), st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6)


@given(verdicts, st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_the_order_in_which_samples_are_written(
    found: dict[str, list[bool]], order: object
) -> None:
    rows = [(task, float(passed)) for task, each in found.items() for passed in each]
    order.shuffle(rows)  # type: ignore[attr-defined]
    passes, samples = passes_per_task(*zip(*rows, strict=True))
    assert samples == 3
    assert passes == [sum(found[task]) for task in sorted(found, key=repr)]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 3))
def test_a_prompt_of_several_tasks_is_taken_apart(samples: int, tasks: int, times: int) -> None:
    keys = [f"t{task}" for task in range(tasks) for _ in range(samples)] + ["many"] * samples * times
    passes, each = passes_per_task(keys, [1.0] * len(keys))
    assert (passes, each) == ([samples] * (tasks + times), samples)


@pytest.mark.parametrize("scores", [[1.0, float("nan")], [1.0, "1"], [1.0, None], []])
def test_scores_that_are_no_numbers_are_refused(scores: list[float]) -> None:
    with pytest.raises(MonitorError, match="score"):
        passes_per_task(["a"] * len(scores), scores)


def test_a_row_that_is_no_sample_is_named(tmp_path: Path) -> None:
    file = tmp_path / "7.jsonl"
    file.write_text(json.dumps({"input": "a", "score": [0.0, 1.0]}) + "\n" + json.dumps({"input": "b"}) + "\n")
    with pytest.raises(MonitorError, match="line 2 holds no sample"):
        read_samples([file], ("input",), "score")


def test_what_passes_is_said_in_words() -> None:
    assert scores_in_words([0.1, 0.1, 1.0, 1.0]) == "scores 0.1 (50%), 1 (50%); those of at least 1 pass"
    assert scores_in_words([i / 10 for i in range(11)], 0.5) == "scores from 0 to 1; those of at least 0.5 pass"
