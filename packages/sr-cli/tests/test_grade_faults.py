"""``sr grade`` killed, interrupted and on a disk that is really full: it reports, leaves nothing, and goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TASK = {
    "task_id": "t",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "tests": {"kind": "calls", "cases": [{"args": [1], "expected": 2}]},
}
COUNT = 600
WORK = "    for _ in range(100000): pass\n"  # some milliseconds each, so that there is a middle


@pytest.fixture
def command(tmp_path):
    tasks, samples = tmp_path / "tasks.jsonl", tmp_path / "samples.jsonl"
    tasks.write_text(json.dumps(TASK) + "\n")
    rows = [{"task_id": "t", "completion": f"{WORK}    return x + {1 + n % 2}  # {n}\n"} for n in range(COUNT)]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [sys.executable, "-m", "sr_cli", "grade", "--tasks", str(tasks), "--samples", str(samples), "--json"]


def descendants(pid):
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            found += [int(child), *descendants(child)]
    return found


def stop_in_the_middle(command, out, number):
    """Start grading, send the signal once rows are written; returns the exit code and stderr."""
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # a shell that puts the tests in the background has them ignore SIGINT, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 30
    while not (out.exists() and out.read_bytes().count(b"\n") > 20):
        assert time.monotonic() < until
        time.sleep(0.01)
    below = descendants(process.pid)
    assert below, "no workers were seen"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < until, "workers were left behind"
        time.sleep(0.05)
    return process.returncode, errors.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_stopped_in_the_middle_nothing_is_left_and_it_goes_on_where_it_was(command, tmp_path, number, code):
    out = tmp_path / "out.jsonl"
    found, errors = stop_in_the_middle(command, out, number)
    assert found == code
    if number != signal.SIGKILL:
        kept = out.read_bytes().count(b"\n")
        assert f"sr grade: {kept} of {COUNT} rows are in {out}; the same command continues" in errors
    assert "Traceback" not in errors
    rows = out.read_bytes().count(b"\n")
    assert 0 < rows < COUNT
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=60, check=True)
    assert f"{COUNT - rows} samples to grade" in done.stderr
    assert json.loads(done.stdout)["outcomes"]["passed"] == COUNT // 2
    outcomes = [json.loads(line)["outcome"] for line in out.read_text().splitlines()]
    assert outcomes == ["failed" if n % 2 else "passed" for n in range(COUNT)]


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mounts a small file system: needs root and unshare",
)
def test_a_disk_that_fills_up_is_one_line_and_grading_goes_on_when_there_is_room(command, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=16k none "$0" && { "$@" --out "$0/out.jsonl"; code=$?; '
        'grep -c . "$0/out.jsonl"; mount -o remount,size=1m "$0"; "$@" --out "$0/out.jsonl"; exit $code; }'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(disk), *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(disk)},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    rows, result = done.stdout.splitlines()
    assert 0 < int(rows) < COUNT
    assert json.loads(result)["outcomes"]["passed"] == COUNT // 2
