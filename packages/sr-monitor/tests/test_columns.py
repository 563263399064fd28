"""Which column of a log is judged: held-out metrics by their known names, never a training metric."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sr_monitor import MonitorError
from sr_monitor.logs.columns import advice, candidates, find, names, never_heldout, step_columns, unknown

RATES = [0.1, 0.4, 0.3]
# As each trainer logs it, and what it is.
KNOWN = {
    "eval_heldout_pass1": "pass_rate",
    "val-core/openai/gsm8k/acc/mean@8": "pass_rate",
    "val-core/tools/reward/mean@4": "score",
    "val/test_score/openai/gsm8k": "score",
    "val/success_rate": "pass_rate",
    "val/nq/test_score": "score",
    "val/aime/pass@1": "pass_rate",
    "eval/all/avg_score": "score",
    "eval/all/pass_at_1": "pass_rate",
    "eval/math/all/solver/avg@4": "score",
    "eval/math/avg@1": "score",
    "test/env/all/correct": "pass_rate",
    "test/env/all/reward/total": "score",
    "validation/accuracy": "pass_rate",
    "eval-rollout/reward": "score",
    "eval/objective/verifiable_correct_rate": "pass_rate",
    "eval/scores": "score",
    "eval_apps_pass1": "pass_rate",
    "eval_accuracy": "pass_rate",
    "eval/accuracy": "pass_rate",
    "eval_rewards/accuracy_reward/mean": "pass_rate",
    "eval_rewards/MathAccuracy": "pass_rate",
    "eval/rewards/length_reward/mean": "score",
    "eval_reward": "score",
    "eval_rewards/accuracies": "pass_rate",
    "val_loss": "loss",
    "eval_loss": "loss",
    "test/nll": "loss",
    "eval_token_acc": "pass_rate",
    "eval/aime24": "score",
    "Validation Accuracy": "pass_rate",
}
# Written by the training step, or about an evaluation without being its result.
TRAINING = (
    *("reward", "rewards/accuracy_reward/mean", "train/accuracy", "train_acc", "token_acc", "accuracy", "loss"),
    *("critic/score/mean", "actor/val_accuracy", "episode/success_rate", "rollout/raw_reward", "env/all/correct"),
    *("reward/avg_pass_at_8", "objective/verifiable_correct_rate", "policy/eval_reward", "batch_accuracy"),
    *("retrieval/accuracy", "interval_accuracy", "value_loss", "medieval_score", "latest_acc", "contest_score"),
    *("val/ratio", "val/sequence_lengths", "eval_on_train_accuracy", "eval/train_reward", "timing_s/testing"),
    *("eval_runtime", "eval_samples_per_second", "eval_reward_std", "eval_completions/mean_length", "eval/entropy"),
    *("eval/aime24-truncated_ratio", "eval/aime24/response_len/mean", "validation/avg_length", "eval_kl"),
)


@pytest.mark.parametrize(("column", "kind"), KNOWN.items())
def test_a_known_name_is_found_whatever_stands_beside_it(column: str, kind: str) -> None:
    values = {**{name: RATES for name in TRAINING if name != "reward" or kind != "loss"}, column: RATES}
    if kind == "loss":  # of supervised training
        values = {column: RATES, "loss": RATES, "token_acc": RATES}
    metric = find(values, {}).metric
    assert metric is not None
    assert (metric.column, metric.kind) == (column, kind)


@pytest.mark.parametrize("column", TRAINING)
def test_a_training_metric_is_never_taken_for_a_held_out_one(column: str) -> None:
    assert find({column: RATES, "entropy": RATES}, {}).metric is None


@given(st.sampled_from(sorted(KNOWN)), st.sampled_from(["train/", "train_", "actor/", "rollout/", "critic/"]))
def test_a_held_out_name_under_a_training_prefix_is_training(column: str, prefix: str) -> None:
    assert never_heldout(prefix + column)
    assert find({prefix + column: RATES}, {}).metric is None


@given(st.integers(1, 512))
def test_mean_at_n_says_the_samples_per_task(samples: int) -> None:
    metric = find({f"val-core/apps/acc/mean@{samples}": RATES, "val-core/apps/acc/best@8/mean": RATES}, {}).metric
    assert metric is not None
    assert metric.samples_per_task == samples


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_a_rate_is_in_percent_exactly_if_it_exceeds_one(values: list[float]) -> None:
    assume(not 1 < max(values) < 1.001)
    found = find({"eval_acc": values}, {})
    assert found.metric is not None
    assert found.metric.percent == (max(values) > 1)
    assert any("percent" in note for note in found.notes) == found.metric.percent


def test_a_rate_that_rounding_lifts_above_one_is_no_percentage() -> None:
    metric = find({"eval_acc": [0.5, 1.0000001, -1e-9]}, {}).metric
    assert metric is not None
    assert (metric.kind, metric.percent) == ("pass_rate", False)


@pytest.mark.parametrize("column", ["eval/perplexity", "eval/wer", "eval_gsm8k/error_rate", "val_nll"])
def test_a_known_prefix_does_not_turn_what_should_fall_upside_down(column: str) -> None:
    metric = find({column: [3.0, 2.0, 1.0]}, {}).metric
    assert metric is None or metric.kind == "loss"


def test_a_reward_component_beyond_one_is_a_score_not_percent() -> None:
    metric = find({"eval_rewards/correctness_reward/mean": [0.5, 2.0]}, {}).metric
    assert metric is not None
    assert (metric.kind, metric.percent) == ("score", False)


def test_data_sources_measured_alike_are_averaged_and_the_rarely_measured_left_out() -> None:
    values = {"val-core/a/acc/mean@1": RATES, "val-core/b/acc/mean@1": RATES, "val-core/c/acc/mean@1": [0.1]}
    metric = find(values, {}).metric
    assert metric is not None
    assert metric.columns == ("val-core/a/acc/mean@1", "val-core/b/acc/mean@1")


def test_the_loss_of_a_policy_gradient_is_not_judged_but_named() -> None:
    found = find({"reward": RATES, "eval_loss": RATES}, {})
    assert found.metric is None
    assert "eval_loss" in found.notes[0]
    assert candidates({"reward": RATES, "eval_loss": RATES}, 3, found.signals) == ["eval_loss"]


def test_unknown_columns_that_could_be_held_out_are_candidates_and_others_are_not() -> None:
    values = {
        "bench_score": RATES,
        "loss": RATES * 10,
        "accuracy": RATES * 10,
        "humaneval pass": RATES,
        "eval_runtime": RATES,
        "val_constant": [1.0, 1.0],
        "train/eval_acc": RATES,
    }
    assert candidates(values, 30, {"loss": ("loss",)}) == ["bench_score", "humaneval pass"]
    assert candidates({"accuracy": RATES}, 3, {}) == ["accuracy"]
    assert candidates({"mmlu accuracy": RATES, "mean_accuracy": RATES}, 3, {"loss": ("loss",)}) == ["mmlu accuracy"]


def test_columns_that_no_name_explains_are_unknown_and_training_s_are_not() -> None:
    values = dict.fromkeys(("reward", "zeal", "grad_norm", "step", "lr", "critic/values/mean", "epoch"), RATES)
    assert unknown(values, {"train_reward": ("reward",)}) == ["zeal"]


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("mmlu", [41.0, 44.5], "pass_rate"),
        ("final reward", [0.2, 0.4], "score"),
        ("lm loss", [3.1, 2.9], "loss"),
        ("mmlu", [-3.0, 2.0], "score"),
        ("evalLoss", [0.9, 0.4], "loss"),
        ("eval_error_rate", [0.9, 0.4], "loss"),
        ("val_wer", [0.9, 0.4], "loss"),
        ("perplexity on wikitext", [30.0, 12.0], "loss"),
        ("eval/error_detection", [0.4, 0.9], "pass_rate"),
    ],
)
def test_a_column_that_the_user_names_gets_the_scale_of_its_values(column: str, values: list[float], kind: str) -> None:
    metric = find({column: values, "eval_reward": RATES}, {"heldout": column}).metric
    assert metric is not None
    assert (metric.column, metric.kind) == (column, kind)


def test_an_absent_column_is_an_error() -> None:
    with pytest.raises(MonitorError, match="no column 'mine'"):
        find({"eval_reward": RATES}, {"heldout": "mine"})


def test_every_name_of_the_table_has_a_trainer_and_every_held_out_one_a_source() -> None:
    table = names()
    assert all(row["trainer"] and row["source"] for row in table["heldout"])
    assert all(row["why"] for row in table["never"])
    assert all(row["trainer"] for rows in table["signals"].values() for row in rows)
    assert all(told["setting"] for told in table["trainers"].values())


def test_the_trainer_is_known_by_its_names() -> None:
    def trainer(format: str, *columns: str) -> str | None:
        found = advice(format, columns)
        return found.trainer if found else None

    assert trainer("csv", "critic/score/mean", "actor/grad_norm") == "verl"
    assert trainer("jsonl", "reward", "completions/clipped_ratio", "frac_reward_zero_std") == "TRL"
    assert trainer("csv", "rollout/raw_reward", "train/entropy_loss") == "slime"
    for columns in (["mean_reward"], ["acc"], ["accuracy", "lr"], ["success_rate", "pass_rate"]):
        assert trainer("csv", *columns) is None


@pytest.mark.parametrize("column", ["step", "Step", "global_step", "train/global_step", "_step", "current_steps"])
def test_the_step_is_found(column: str) -> None:
    assert step_columns({column, "reward"}) == [(column,)]
