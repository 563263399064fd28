"""Logs of every trainer give the same run; bad logs are handled, or are one clear error."""

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_monitor import MonitorError, Run, judge, read_runs
from sr_monitor.logs.readers import detect

CURVE = {0: 0.2, 1: 0.5, 2: 0.75, 3: 0.25}
REWARD = {1: 0.25, 2: 0.5, 3: 0.125}


def sr_log(folder: Path) -> Path:
    rows = [
        {
            "campaign": 0,
            "step": step,
            "heldout_pass1": value,
            "heldout_passes": [round(20 * value)] * 4,
            "heldout_samples": 20,
            "train_reward": REWARD.get(step),
            "decision": {"action": "continue", "rule": "fall", "value": None, "limit": None},
        }
        for step, value in CURVE.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def trl_log(folder: Path) -> Path:
    history = [{"step": step, "epoch": 0.1, "reward": value, "kl": 0.0} for step, value in REWARD.items()]
    history += [{"step": step, "eval_reward": value, "eval_runtime": 3.0} for step, value in CURVE.items()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"global_step": 3, "log_history": history}))
    return path


def verl_log(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "verl.jsonl"
    rows = [
        {"step": step, "data": {"val-core/apps/acc/mean@16": value, "critic/score/mean": REWARD.get(step)}}
        for step, value in CURVE.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verl_console(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.log"
    lines = ["(TaskRunner pid=7) loading weights: 100%"]
    for step, value in CURVE.items():
        reward = f" - critic/score/mean:{REWARD[step]}" if step in REWARD else ""
        shown = f"np.float64({value})" if step % 2 else value  # as numpy 2 writes it
        lines.append(
            f"\x1b[36m(TaskRunner pid=7)\x1b[0m step:{step} - val-core/openai/gsm8k/acc/mean@1:{shown}{reward}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def openrlhf_console(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "openrlhf.log"
    lines = []
    for step, value in CURVE.items():
        if step in REWARD:
            trained = f"✨ Global step {step}: {{'policy_loss': 0.1, 'reward': {REWARD[step]}, 'kl': nan}}"
            lines.append(f"\x1b[36m(PPOTrainer pid=7)\x1b[0m INFO 07-01 12:00:00 [ppo_trainer.py:390] {trained}")
        told = f"{{'eval_apps_pass4': 0.9, 'eval_apps_pass1': {value}}}"
        done = f"✨ Evaluation completed in 0:00:12, global_step {step}, eval_metrics: {told}"
        lines.append(f"\x1b[36m(PPOTrainer pid=7)\x1b[0m INFO 07-01 12:00:01 [ppo_trainer.py:520] {done}")
    path.write_text("\n".join(lines) + "\n")
    return path


def openrlhf_one_kind_of_line(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "openrlhf.log"
    lines = [f"INFO ✨ Global step {s}: {{'eval_apps_pass1': {v}}}" for s, v in CURVE.items()]
    lines += [f"INFO ✨ Global step {s}: {{'reward': {v}, 'kl': nan}}" for s, v in REWARD.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def csv_log(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "log.csv"
    lines = [f"{s},{v},30,16,{REWARD.get(s, '')}" for s, v in CURVE.items()]
    path.write_text("step,heldout_pass1,tasks,samples_per_task,reward\n" + "\n".join(lines) + "\n")
    return path


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def block(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def event(step: int, tag: str, value: float, *, as_tensor: bool = False) -> bytes:
    """A TFRecord with one scalar, written after the format's description, checksums left zero."""
    scalar = varint(2 << 3 | 5) + struct.pack("<f", value)
    if as_tensor:
        scalar = block(8, varint(1 << 3) + varint(1) + block(4, struct.pack("<f", value)))
    summary = block(1, block(1, tag.encode()) + scalar)
    record = varint(1 << 3 | 1) + struct.pack("<d", 1.7e9) + varint(2 << 3) + varint(step) + block(5, summary)
    return struct.pack("<Q", len(record)) + b"\0" * 4 + record + b"\0" * 4


def tensorboard_log(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    first = b"".join(event(s, "eval/heldout_pass1", v) for s, v in CURVE.items())
    then = b"".join(event(s, "train/reward", v, as_tensor=True) for s, v in REWARD.items())
    (folder / "events.out.tfevents.1700000000.host").write_bytes(first + then)
    return folder


WRITERS = {
    "sr": sr_log,
    "trl": trl_log,
    "verl": verl_log,
    "verl-console": verl_console,
    "openrlhf": openrlhf_console,
    "openrlhf-console": openrlhf_one_kind_of_line,
    "csv": csv_log,
    "tensorboard": tensorboard_log,
}


def only(runs: list[Run]) -> Run:
    assert len(runs) == 1
    return runs[0]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_run(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "log")
    assert detect(path) == kind.removesuffix("-console")
    run = only(read_runs(path))
    assert {r.step: r.heldout for r in run.records} == pytest.approx(CURVE)
    seen = {r.step: r.signals["train_reward"] for r in run.records if "train_reward" in r.signals}
    assert seen == pytest.approx(REWARD)


def test_an_evaluation_of_openrlhf_joins_the_training_row_of_its_step(tmp_path: Path) -> None:
    path = tmp_path / "o.log"
    path.write_text(
        "✨ Global step 5: {'reward': 0.25, 'policy_loss': 0.5}\n"
        "✨ Evaluation completed in 1 day, 0:00:12, global_step 5, eval_metrics: {'pass1': 0.75, 'reward': 0.75}\n"
    )
    run = only(read_runs(path))
    assert [(r.step, r.heldout, dict(r.signals)) for r in run.records] == [
        (5, 0.75, {"train_reward": 0.25, "loss": 0.5})
    ]
    assert run.metric is not None
    assert run.metric.column == "eval/pass1"


@pytest.mark.parametrize(
    ("printed", "value"), [("nan", math.nan), ("-inf", -math.inf), ("inf", math.inf), ("np.float64(0.5)", 0.5)]
)
def test_numbers_that_openrlhf_prints_as_no_literal_are_numbers(printed: str, value: float, tmp_path: Path) -> None:
    path = tmp_path / "o.log"
    path.write_text(
        "✨ Global step 1: {'eval_a_pass1': 0.5, 'policy_loss': 0.1}\n"
        f"✨ Global step 2: {{'eval_a_pass1': 0.5, 'policy_loss': {printed}, 'infinite/nan': None}}\n"
    )
    run = only(read_runs(path))
    assert [r.heldout for r in run.records] == [0.5, 0.5]
    assert run.records[-1].signals["loss"] == pytest.approx(value, nan_ok=True)
    assert judge(run).verdict == ("insufficient" if math.isfinite(value) else "at_risk")


@pytest.mark.parametrize("broken", ["{'reward': <object>}", "{'reward': dangerous}", "{0.5}", "{'reward': f()}"])
def test_a_row_of_openrlhf_that_is_no_dict_of_values_is_left_out_and_noted(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "o.log"
    path.write_text(f"✨ Global step 1: {{'reward': 0.5}}\n✨ Global step 2: {broken}\n")
    run = only(read_runs(path))
    assert [r.step for r in run.records] == [1]
    assert "a row of step 2 could not be read" in run.notes[0]


@pytest.mark.parametrize("format", ["auto", "tensorboard", "openrlhf"])
def test_every_directory_of_a_tensorboard_root_is_a_run(format: str, tmp_path: Path) -> None:
    for folder, value in (("a/tb", 0.25), ("b/tb", 0.75)):
        (tmp_path / folder / "1700.5").mkdir(parents=True)
        (tmp_path / folder / "events.out.tfevents.1.host").write_bytes(event(1, "eval/heldout_pass1", value))
        (tmp_path / folder / "1700.5" / "events.out.tfevents.2.host").write_bytes(event(1, "train/reward", value))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "events.out.tfevents.3.host").touch()
    runs = read_runs(tmp_path, format)
    assert [(run.name, run.path) for run in runs] == [("a/tb", tmp_path / "a/tb"), ("b/tb", tmp_path / "b/tb")]
    assert [[(r.heldout, r.signals["train_reward"]) for r in run.records] for run in runs] == [
        [(0.25, 0.25)],
        [(0.75, 0.75)],
    ]
    assert all(run.notes == () for run in runs)


def test_a_tensorboard_root_that_holds_files_itself_is_one_run(tmp_path: Path) -> None:
    tensorboard_log(tmp_path / "root")
    (tmp_path / "root" / "more").mkdir()
    (tmp_path / "root" / "more" / "events.out.tfevents.1.host").write_bytes(event(9, "eval/heldout_pass1", 0.5))
    run = only(read_runs(tmp_path / "root"))
    assert (run.name, run.records[-1].step) == ("root", 9)


def test_our_event_reader_agrees_with_tensorboards_own_writer(tmp_path: Path) -> None:
    writer_class = pytest.importorskip("tensorboard.summary").Writer
    with_theirs = writer_class(str(tmp_path))
    for step, value in CURVE.items():
        with_theirs.add_scalar("eval/heldout_pass1", value, step)
    with_theirs.close()
    run = only(read_runs(tmp_path, "tensorboard"))
    assert {r.step: r.heldout for r in run.records} == pytest.approx(CURVE)


def test_a_trl_output_directory_gives_its_newest_checkpoint(tmp_path: Path) -> None:
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        state = {"global_step": step, "log_history": [{"step": step, "eval_reward": 0.5}]}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    assert only(read_runs(tmp_path)).records[-1].step == 10


def test_a_directory_of_runs_gives_them_all(tmp_path: Path) -> None:
    sr_log(tmp_path / "unguarded")
    sr_log(tmp_path / "guarded")
    assert [run.name for run in read_runs(tmp_path)] == ["guarded", "unguarded"]


def test_several_data_sources_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    data = {"val-core/a/acc/mean@1": 0.2, "val-core/b/acc/mean@1": 0.6}
    path.write_text(json.dumps({"step": 1, "data": data}) + "\n")
    assert only(read_runs(path)).records[0].heldout == pytest.approx(0.4)


def test_the_column_map_comes_before_every_pattern(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("it,heldout_pass1,mine\n1,0.1,0.9\n2,0.2,0.8\n")
    run = only(read_runs(path, columns={"step": "it", "heldout_pass1": "mine"}))
    assert [r.heldout for r in run.records] == [0.9, 0.8]
    with pytest.raises(MonitorError, match="no column 'yours'"):
        read_runs(path, columns={"heldout_pass1": "yours"})
    with pytest.raises(MonitorError, match="unknown name"):
        read_runs(path, columns={"pass": "mine"})


def test_the_later_of_two_rows_counts_and_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("step,heldout_pass1\n1,0.1\n2,0.2\n2,0.25\n3,0.3\n")
    run = only(read_runs(path))
    assert [r.heldout for r in run.records] == [0.1, 0.25, 0.3]
    assert "logged more than once" in run.notes[0]


def test_not_finite_and_missing_values_are_gaps(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("step,heldout_pass1\n1,0.1\n2,nan\n3,\n4,0.4\n")
    run = only(read_runs(path))
    assert [r.heldout for r in run.records] == [0.1, None, None, 0.4]
    assert "not finite" in run.notes[0]


@pytest.mark.parametrize("kind", ["sr", "csv", "tensorboard"])
def test_a_half_written_last_line_is_left_out(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "log")
    file = path if path.is_file() else next(path.iterdir())
    with file.open("ab") as out:
        out.write({"sr": b'{"campaign": 0, "st', "csv": b"4,0.", "tensorboard": event(4, "x", 1.0)[:20]}[kind])
    assert only(read_runs(path)).records[-1].step == 3


def test_more_broken_lines_than_rows_are_one_error_with_a_number(tmp_path: Path) -> None:
    path = sr_log(tmp_path) / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *["{oops"] * 4, *lines[1:]]) + "\n")
    with pytest.raises(MonitorError, match=r"metrics\.jsonl:2: not JSON"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "epoch,heldout_pass1\n1,0.5\n", "step"),
        ("a.csv", "", "no row"),
        ("a.csv", "step,heldout_pass1\n1,0.5,9\n2,0.5\n", "a.csv:2"),
        ("a.json", '{"x": 1}', "log_history"),
        ("a.json", "{", "not JSON"),
        ("a.jsonl", "[1]\n{}\n", "one JSON object per line"),
        ("a.txt", "hello\n", "--format"),
        ("events.out.tfevents.1", "x" * 100, "no row"),
    ],
)
def test_what_is_no_log_is_one_clear_error(name: str, content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(MonitorError, match=says) as caught:
        read_runs(path)
    assert "\n" not in str(caught.value)


def test_an_absent_path_and_an_empty_directory_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="no such"):
        read_runs(tmp_path / "none")
    with pytest.raises(MonitorError, match="no log of a known kind"):
        read_runs(tmp_path)


rows = st.dictionaries(st.integers(0, 200), st.floats(0, 1), min_size=1, max_size=30)


@given(rows, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_table_survives_any_order_of_its_rows(tmp_path_factory, table, random) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    lines = [f"{step},{value!r}" for step, value in table.items()]
    random.shuffle(lines)
    path.write_text("\n".join(["step,heldout_pass1", *lines]) + "\n")
    assert {r.step: r.heldout for r in only(read_runs(path)).records} == table
