"""Logs in other encodings, packed, cut short, glued together by a resume: the same run, or one clear error."""

import bz2
import codecs
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sr_monitor import MonitorError, Run, judge, read_runs
from sr_monitor.logs.readers import detect, read_some

FALL = {0: 0.2, 50: 0.45, 100: 0.5, 150: 0.4, 200: 0.2, 250: 0.05, 300: 0.0}
TABLE = "step,eval_accuracy\n" + "".join(f"{step},{value}\n" for step, value in FALL.items())
LINES = "".join(json.dumps({"step": step, "eval_accuracy": value}) + "\n" for step, value in FALL.items())
CONSOLE = "".join(f"step:{step} - val-core/gsm8k/acc/mean@1:{value}\n" for step, value in FALL.items())
STATE = json.dumps({"log_history": [{"step": step, "eval_accuracy": value} for step, value in FALL.items()]})
TEXTS = {"log.csv": TABLE, "log.jsonl": LINES, "train.log": CONSOLE, "trainer_state.json": STATE}


def read(path: Path) -> Run:
    (run,) = read_runs(path)
    return run


def held_out(run: Run) -> dict[int, float | None]:
    return {record.step: record.heldout for record in run.records}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8 with a mark", "utf-16 LE", "utf-16 BE", "CRLF"],
)
def test_a_log_reads_the_same_in_every_encoding(name: str, encode: Callable[[str], bytes], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encode(TEXTS[name]))
    assert held_out(read(tmp_path / name)) == FALL


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_packed_log_reads_like_the_log(
    name: str, suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    packed = tmp_path / f"{name}{suffix}"
    packed.write_bytes(pack(TEXTS[name].encode()))
    assert held_out(read(packed)) == FALL
    packed.write_bytes(pack(TEXTS[name].encode())[:-9])
    with pytest.raises(MonitorError, match="cannot be unpacked"):
        read_runs(packed)


@pytest.mark.parametrize(
    ("start", "says"), [(b"PK\x03\x04", "unpack it"), (b"PAR1", "to_csv"), (b"SQLite format 3\0", "as CSV")]
)
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.json", "log.parquet", "log"])
def test_a_file_that_is_no_text_is_refused_with_the_way_out(name: str, start: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(start + bytes(100))
    with pytest.raises(MonitorError, match=says):
        read_runs(tmp_path / name)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(MonitorError, match="pipe"):
        read_runs(tmp_path / "log.csv")


@pytest.mark.parametrize("name", ["log.json", "log.txt", "log", "log.ndjson", "LOG.JSONL"])
def test_a_json_object_per_line_is_known_under_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LINES)
    assert held_out(read(tmp_path / name)) == FALL


@pytest.mark.parametrize("name", ["log.txt", "log", "LOG.CSV", "log.tsv"])
def test_a_table_is_known_under_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("# seed 1\n\n" + TABLE)
    assert detect(tmp_path / name) == "csv"
    assert held_out(read(tmp_path / name)) == FALL


def test_decimal_commas_of_a_table_with_semicolons_are_points(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step;eval_accuracy\n" + "".join(f"{s};{v}\n".replace(".", ",") for s, v in FALL.items()))
    assert held_out(read(path)) == FALL


def test_letters_of_another_encoding_do_not_hide_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = "".join(f"{step},{value},1\n" for step, value in FALL.items())
    path.write_bytes(f"step,eval_accuracy,précision\n{rows}".encode("latin-1"))
    assert held_out(read(path)) == FALL


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("log.csv", "120"),
        ("log.csv", "120,0.3,150,0.4"),
        ("log.jsonl", '{"step": 1'),
        ("log.jsonl", '{"step": 1{"st": 2}'),
    ],
)
def test_a_line_that_a_killed_writer_left_half_is_left_out_and_named(name: str, half: str, tmp_path: Path) -> None:
    lines = TEXTS[name].splitlines()
    (tmp_path / name).write_text("\n".join([*lines[:4], half, *lines[4:]]) + "\n")
    run = read(tmp_path / name)
    assert held_out(run) == FALL
    assert run.notes[0].startswith("1 broken line(s) were left out")
    assert f"{name}:5" in run.notes[0]


def test_a_header_that_a_resume_writes_again_names_the_columns_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(TABLE + "step,loss,eval_accuracy\n350,1.5,0.1\n")
    run = read(path)
    assert held_out(run) == {**FALL, 350: 0.1}
    assert run.records[-1].signals["loss"] == 1.5
    assert run.notes == ()


def test_a_table_by_columns_with_an_index_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    columns = {"step": [*FALL], "eval_accuracy": [*FALL.values()]}
    path.write_text(json.dumps({name: {str(i): v for i, v in enumerate(column)} for name, column in columns.items()}))
    assert held_out(read(path)) == FALL
    assert judge(read(path)).verdict == "collapsed"


@pytest.mark.parametrize(
    "code",
    ["\x1b[1;36m", "\x1b[K", "\x1b[2A", "\x1b[?25l", "\x1b]8;;https://example.org\x1b\\", "\x1b]0;title\x07", "\x1bM"],
)
def test_commands_to_a_terminal_are_no_part_of_a_console_log(code: str, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(CONSOLE.replace("step:", f"{code}step:{code}").replace("mean@1:", f"mean@1{code}:{code}"))
    assert held_out(read(path)) == FALL


def test_percentages_on_a_console_are_rates(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("".join(f"Step {step} | eval accuracy: {value:.2%} | loss: 0.5\n" for step, value in FALL.items()))
    (run,) = read_runs(path, columns={"heldout": "eval accuracy"})
    assert held_out(run) == pytest.approx(FALL)


@pytest.mark.parametrize("bad", ["x" * 5000, "folder", "events.out.tfevents.1"])
def test_a_path_that_cannot_be_used_does_not_discard_the_others(bad: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(TABLE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "results.json").write_text("{")
    (tmp_path / "events.out.tfevents.1").write_bytes(bytes([30]) + bytes(11) + b"\xff" * 40)
    runs, unreadable = read_some([tmp_path / bad, tmp_path / "log.csv"])
    assert [held_out(run) for run in runs] == [FALL]
    assert len(unreadable) == 1
    with pytest.raises(MonitorError):
        read_some([tmp_path / bad])
