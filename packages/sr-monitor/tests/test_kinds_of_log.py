"""Logs as trainers and services write them: consoles, exports, folders of checkpoints and of restarts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_readers import event

from sr_monitor import MonitorError, Run, judge, read_runs
from sr_monitor.logs.readers import detect, read_some
from sr_monitor.logs.records import Size

CURVE = {0: 0.2, 10: 0.5, 20: 0.75, 30: 0.25}
REWARD = {10: 0.25, 20: 0.5, 30: 0.125}
SHARED = Path(__file__).parents[4] / "shared"


def rows(heldout: str, reward: str, step: str = "step") -> list[dict[str, object]]:
    told = [{step: s, heldout: v} for s, v in CURVE.items()]
    return sorted([*told, *({step: s, reward: v} for s, v in REWARD.items())], key=lambda row: int(str(row[step])))


def jsonl(path: Path, table: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return path


def swift(folder: Path) -> Path:
    table = [
        {**{k: v for k, v in row.items() if k != "step"}, "global_step/max_steps": f"{row['step']}/30"}
        for row in rows("eval_rewards/MathAccuracy/mean", "reward")
    ]
    end = {"last_model_checkpoint": "output/checkpoint-30", "global_step": 30, "log_history": [{"step": 1}]}
    return jsonl(folder / "logging.jsonl", [*table, end])


def llamafactory(folder: Path) -> Path:
    return jsonl(
        folder / "trainer_log.jsonl",
        [{**row, "total_steps": 30, "percentage": 3.0} for row in rows("eval_accuracy", "reward", "current_steps")],
    )


def tinker(folder: Path) -> Path:
    return jsonl(folder / "metrics.jsonl", rows("test/env/all/correct", "env/all/reward/total"))


def page_export(folder: Path) -> Path:
    """Two panels of one run: rows without one of the two are empty."""
    folder.mkdir(parents=True, exist_ok=True)
    head = '"Step","grpo - base - eval/accuracy","grpo - base - eval/accuracy__MIN","grpo - base - eval/accuracy__MAX"'
    lines = [f'{head},"grpo - base - train/reward"']
    for step, value in CURVE.items():
        lines.append(f'"{step}","{value}","{value}","{value}","{REWARD.get(step, "")}"')
    (folder / "export.csv").write_text("\n".join(lines) + "\n")
    return folder / "export.csv"


def api_export(folder: Path) -> Path:
    """As pandas writes a run's history: an index without a name, calls of ``log`` counted apart from steps."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",_step,_runtime,train/global_step,eval/accuracy,train/reward"]
    for call, (step, value) in enumerate(CURVE.items()):
        lines.append(f"{2 * call},{2 * call},1.5,{step},{value},")
        if step in REWARD:
            lines.append(f"{2 * call + 1},{2 * call + 1},1.6,{step},,{REWARD[step]}")
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return folder / "history.csv"


def percent_table(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{s},{REWARD.get(s, '')},{100 * v}" for s, v in CURVE.items()]
    (folder / "metrics.csv").write_text("step,reward_avg,eval_acc\n" + "\n".join(lines) + "\n")
    return folder / "metrics.csv"


def trl_console(folder: Path, *, bars: bool = True) -> Path:
    """Dicts between progress bars, which a carriage return ends; an evaluation has a bar of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "Map: 100%|██████████| 7473/7473 [00:01<00:00]\n"
    for step, value in CURVE.items():
        epoch = step / 10
        text += f"\r {step}%|█         | {step}/30 [00:{step:02d}<01:00, 1.2s/it]\r" if bars else ""
        if step in REWARD:
            text += f"{{'loss': '0.1', 'reward': '{REWARD[step]}', 'kl': 'nan', 'epoch': '{epoch}'}}\n"
        for batch in range(1, 4):
            text += f"\r {batch}%|█ | {batch}/3 [00:01<00:00]" if bars else ""
        text += f"\n{{'eval_accuracy': {value}, 'eval_runtime': 3.1, 'epoch': {epoch}}}\n"
    (folder / "train.log").write_text(text + "{'train_runtime': 11.0, 'train_loss': 0.1, 'epoch': 3.0}\n")
    return folder / "train.log"


def areal_console(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = ""
    for step, value in CURVE.items():
        text += f"20260101-10:00:00.000 StatsLogger INFO: Epoch 1/1 Step {step}/30 Train step {step}/30 done.\n"
        text += "┌─────────┬────────┐\n"
        text += f"│ rollout/reward │ {REWARD[step]:.4e} │\n" if step in REWARD else ""
        text += f"│ eval-rollout/reward │ {value:.4e} │ timeperf/rollout │ 1.0000e+01 │\n└──────┴────┘\n"
    (folder / "main.log").write_text(text)
    return folder / "main.log"


def plain_console(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "loading weights: 100%\n"
    for step, value in CURVE.items():
        reward = f" | reward: {REWARD[step]}" if step in REWARD else ""
        text += (
            f"12:00:00 [INFO] step {step:05d}/00030 | lr: 1e-6{reward} | dt: 3.1s\nval accuracy: {100 * value:.1f}%\n"
        )
    (folder / "run.out").write_text(text)
    return folder / "run.out"


def nemo_console(folder: Path) -> Path:
    """The first validation comes before the first step."""
    folder.mkdir(parents=True, exist_ok=True)
    text = ""
    for step, value in CURVE.items():
        text += f"\n{'=' * 25} Step {step}/30 {'=' * 25}\n▶ Preparing batch...\n" if step else ""
        text += f"\n📊 Validation Results:\n    • Accuracy: {value:.4f}\n    • Average response length: 100.0 tokens\n"
        text += "    • Samples processed: 256\n\n  ⏱️  Validation Timing:\n    • Total validation time: 3.2s\n"
        text += f"\n📊 Training Results:\n  • Loss: 0.01\n  • Avg Reward: {REWARD[step]:.4f}\n" if step else ""
    (folder / "run.log").write_text(text)
    return folder / "run.log"


def slime_console(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    head, text = "(RolloutManager pid=9) [2026-01-01 10:00:00] rollout.py:9 - ", ""
    for step, value in CURVE.items():
        text += f"{head}rollout {step}: {{'rollout/raw_reward': {REWARD[step]}}}\n" if step in REWARD else ""
        text += f"{head}eval {step}: {{'eval/aime': {value}, 'eval/aime-truncated_ratio': 0.1}}\n"
    (folder / "job.log").write_text(text)
    return folder / "job.log"


def prime_console(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = ""
    for step, value in CURVE.items():
        reward = REWARD.get(step)
        text += f"10:00:00 SUCCESS Step {step} | Time: 31.2s{f' | Reward: {reward}' if step else ''} | Async: 1\n"
        text += f"10:00:09 SUCCESS Evaluated aime in 9.11s (Avg@8={value:.4f}, Completion Length: 100.0)\n"
    (folder / "orchestrator.log").write_text(text)
    return folder / "orchestrator.log"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "swift": swift,
    "llamafactory": llamafactory,
    "jsonl": tinker,
    "wandb": page_export,
    "wandb-api": api_export,
    "csv": percent_table,
    "trl": trl_console,
    "areal": areal_console,
    "console": plain_console,
    "console-prime-rl": prime_console,
    "nemo-rl": nemo_console,
    "slime": slime_console,
}


def only(runs: list[Run]) -> Run:
    assert len(runs) == 1
    return runs[0]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_gives_the_same_run(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "log")
    assert detect(path) == kind.removesuffix("-api").removesuffix("-prime-rl")
    run = only(read_runs(path))
    assert {r.step: r.heldout for r in run.records if r.heldout is not None} == pytest.approx(CURVE)
    seen = {r.step: r.signals["train_reward"] for r in run.records if "train_reward" in r.signals}
    assert seen == pytest.approx(REWARD)


def test_a_console_without_bars_numbers_its_rows_and_says_so(tmp_path: Path) -> None:
    run = only(read_runs(trl_console(tmp_path, bars=False)))
    assert [r.heldout for r in run.records if r.heldout is not None] == list(CURVE.values())
    assert "numbered in their order" in run.notes[0]


def test_metrics_after_megabytes_of_start_up_lines_are_found(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    with path.open("w") as file:
        for number in range(20_000):
            file.write(f"(TaskRunner pid=1)   'key_{number}': {{'a value': True, 'lr': 1e-06}},\n")
        file.writelines(f"(TaskRunner pid=1) step:{s} - val-core/a/acc/mean@1:{v}\n" for s, v in CURVE.items())
    assert path.stat().st_size > 2**20
    run = only(read_runs(path))
    assert run.format == "verl"
    assert len(run.records) == 4


def test_several_runs_of_a_page_export_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    head = '"Step","a - eval/accuracy","a - eval/accuracy__MIN","b - c - eval/accuracy","b - c - eval/accuracy__MIN"'
    path.write_text(f"{head}\n1,0.5,0.5,0.25,0.25\n2,0.5,0.5,,\n")
    assert [(run.name, len(run.records)) for run in read_runs(path)] == [("export a", 2), ("export b - c", 1)]


def test_a_column_of_run_names_gives_a_run_each(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("run_name,_step,eval/accuracy\na,1,0.5\nb,1,0.25\na,2,0.5\n")
    assert [(run.name, len(run.records)) for run in read_runs(path)] == [("all a", 2), ("all b", 1)]


def test_a_tag_exported_by_tensorboards_page_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "run-a-tag-eval_accuracy.csv"
    path.write_text("Wall time,Step,Value\n1.7e9,1,0.5\n1.7e9,2,0.25\n")
    assert [r.heldout for r in only(read_runs(path)).records] == [0.5, 0.25]


def test_a_table_by_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(json.dumps({"step": list(CURVE), "eval_acc": list(CURVE.values())}))
    assert [r.heldout for r in only(read_runs(path)).records] == list(CURVE.values())


def write_events(folder: Path, number: int, values: dict[int, float], tag: str = "eval/accuracy") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(event(step, tag, value) for step, value in values.items())
    (folder / f"events.out.tfevents.{number}.host").write_bytes(data)


def test_a_restart_from_the_start_is_a_run_of_its_own(tmp_path: Path) -> None:
    write_events(tmp_path, 1, {1: 0.5, 2: 0.5, 3: 0.25})
    write_events(tmp_path, 2, {1: 0.75, 2: 0.5})
    first, second = read_runs(tmp_path)
    assert [r.heldout for r in first.records] == [0.5, 0.5, 0.25]
    assert [r.heldout for r in second.records] == [0.75, 0.5]
    assert first.name != second.name


def test_a_restart_that_goes_on_continues_the_run(tmp_path: Path) -> None:
    write_events(tmp_path, 1, {1: 0.5, 2: 0.5, 3: 0.25})
    write_events(tmp_path, 2, {3: 0.75, 4: 1.0})
    assert [r.heldout for r in only(read_runs(tmp_path)).records] == [0.5, 0.5, 0.75, 1.0]


def test_a_file_with_other_tags_belongs_to_the_same_run(tmp_path: Path) -> None:
    write_events(tmp_path, 1, {1: 0.5, 2: 0.5}, "train/reward")
    write_events(tmp_path, 2, {1: 0.75, 2: 1.0})
    assert [r.signals.get("train_reward") for r in only(read_runs(tmp_path)).records] == [0.5, 0.5]


def test_an_output_folder_is_found_from_above_and_its_newest_checkpoint_read(tmp_path: Path) -> None:
    for step in (90, 100):
        state = {
            "global_step": step,
            "log_history": [{"step": s, "eval_accuracy": 0.5} for s in range(0, step + 1, 10)],
        }
        (tmp_path / "out" / "grpo" / f"checkpoint-{step}").mkdir(parents=True)
        (tmp_path / "out" / "grpo" / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    run = only(read_runs(tmp_path))
    assert (run.name, run.records[-1].step) == ("out/grpo", 100)


def dump(folder: Path, step: int, scores: list[list[float]], key: str = "score") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table: list[dict[str, object]] = [
        {"input": f"prompt {p}", "output": "x", key: score, "step": step}
        for p, row in enumerate(scores)
        for score in row
    ]
    jsonl(folder / f"{step}.jsonl", table)


def test_a_format_score_in_verls_dumps_is_no_pass(tmp_path: Path) -> None:
    for step, full in ((0, 1), (10, 3), (20, 0)):
        dump(tmp_path / "val", step, [[1.0] * full + [0.1] * (4 - full)] * 20)
    run = only(read_runs(tmp_path / "val"))
    assert [r.heldout for r in run.records] == [0.25, 0.75, 0.0]
    assert run.records[1].passes == (3,) * 20
    assert judge(run).verdict == "collapsed"
    assert any("counts as passed" in note for note in run.notes)


def test_scores_in_verls_dumps_that_are_no_passes_are_averaged(tmp_path: Path) -> None:
    for step in (0, 10, 20):
        dump(tmp_path / "val", step, [[-1.0, 0.5], [0.25, step / 10]])
    run = only(read_runs(tmp_path / "val"))
    assert run.metric is not None
    assert (run.metric.kind, run.records[0].heldout) == ("score", -0.0625)


def test_results_of_lm_evaluation_harness_make_a_curve(tmp_path: Path) -> None:
    for step, value in ((100, 0.5), (200, 0.25)):
        folder = tmp_path / f"out__checkpoint-{step}"
        folder.mkdir()
        results = {
            "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": value, "exact_match_stderr,strict-match": 0.01}
        }
        told = {"results": results, "configs": {}, "n-samples": {"gsm8k": {"original": 1319, "effective": 1319}}}
        (folder / "results_2026-01-01.json").write_text(
            json.dumps({**told, "config": {"model_args": f"pretrained=out/checkpoint-{step}"}})
        )
    run = only(read_runs(tmp_path))
    assert [(r.step, r.heldout, r.se) for r in run.records] == [(100, 0.5, 0.01), (200, 0.25, 0.01)]


SERVICE = "wandb: Tracking run with wandb version 0.22\nwandb: 🚀 View run at https://wandb.ai/team/grpo/runs/abc123\n"


def test_a_log_whose_metrics_went_to_a_service_says_so(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(SERVICE + "training...\n")
    verdict = judge(only(read_runs(path)))
    assert verdict.verdict == "insufficient"
    assert "Weights & Biases" in verdict.reason
    assert 'run("team/grpo/abc123")' in verdict.reason


def test_a_log_that_only_mentions_a_service_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("We use wandb and mlflow to track our runs.\n")
    with pytest.raises(MonitorError, match="--format"):
        read_runs(path)


def test_a_bad_log_does_not_discard_the_others(tmp_path: Path) -> None:
    good = percent_table(tmp_path)
    (tmp_path / "bad.csv").write_text("step,eval_acc\n1,2,3\n1,2\n")
    runs, bad = read_some([good, tmp_path / "bad.csv", tmp_path / "absent.csv"])
    assert [run.path for run in runs] == [good]
    assert [one.path.name for one in bad] == ["bad.csv", "absent.csv"]
    with pytest.raises(MonitorError):
        read_some([tmp_path / "bad.csv"])


def test_the_size_of_an_evaluation_gives_its_noise(tmp_path: Path) -> None:
    path = percent_table(tmp_path)
    assert judge(only(read_runs(path))).p_value is None
    many, few = (judge(only(read_runs(path, size=Size(tasks=tasks)))) for tasks in (500, 4))
    assert many.verdict == "collapsed"
    assert few.verdict == "insufficient"
    with pytest.raises(MonitorError, match="--tasks"):
        Size(tasks=0)


def test_samples_per_task_come_from_the_columns_name(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "v.jsonl", [{"step": s, "data": {"val-core/a/acc/mean@8": v}} for s, v in CURVE.items()])
    run = only(read_runs(path, size=Size(tasks=100)))
    assert {r.total_samples for r in run.records} == {800}


@pytest.mark.skipif(not (SHARED / "data/qwen3-0.6b-grpo").is_dir(), reason="the public runs are not here")
@pytest.mark.parametrize(
    ("name", "verdict"),
    [("7_3_plus_tracking", "at_risk"), ("7_4_plus_clip_ratio", "healthy"), ("7_5_plus_kl", "collapsed")],
)
def test_the_public_runs_of_qwen_are_judged_as_their_readme_says(name: str, verdict: str) -> None:
    run = only(read_runs(SHARED / "data/qwen3-0.6b-grpo" / f"{name}_metrics.csv", size=Size(tasks=500, samples=1)))
    found = judge(run)
    assert (found.verdict, found.column) == (verdict, "eval_acc")
    assert found.p_value is not None
