"""Several processes, kill -9, damage, full and read-only disks: nothing acknowledged is lost, nothing else
touched."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sr_care import CapabilityDelta, CapabilityMemory, Context, Entry, Strategy
from sr_care.belief.effects import EffectModel
from sr_care.belief.posterior import Posterior
from sr_care.errors import EntryError, StoreError
from sr_care.memory import schema
from sr_care.memory.plain import PlainMemories
from sr_care.memory.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from sr_care.memory.summaries import CHUNK

WRITER = """
import sys
from sr_care import CapabilityDelta, CapabilityMemory, Context, Entry, Strategy
path, run, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
strategy, context = Strategy(algorithm="grpo", lr=1e-3, steps=20), Context(pass1=0.3)
delta = CapabilityDelta.from_errors({"pass1": 0.1}, {"pass1": 0.03})
with CapabilityMemory(path) as memory:
    for batch in range(batches):
        memory.append_many(
            [Entry(strategy=strategy, context=context, delta=delta, run=run, campaign=batch * size + k)
             for k in range(size)]
        )
        print(batch, flush=True)
"""

OPENER = """
import sys
from sr_care import CapabilityMemory, CareError
for line in sys.stdin:
    try:
        CapabilityMemory(line.strip()).close()
        print("opened", flush=True)
    except CareError as error:
        print(error, flush=True)
"""


def start_writer(path, run, batches, size):
    command = [sys.executable, "-c", WRITER, str(path), run, str(batches), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def entry(campaign, run="r", value=0.1, **context):
    return Entry(
        strategy=Strategy(algorithm="reinforce", lr=1e-3, steps=20),
        context=Context(pass1=0.3, **context),
        delta=CapabilityDelta.from_errors({"pass1": value, "hard": value / 2}, {"pass1": 0.03, "hard": 0.05}),
        run=run,
        campaign=campaign,
    )


def many(count, run="r"):
    random = np.random.default_rng(0)
    return [entry(k, run, float(random.uniform(-0.3, 0.3)), entropy=float(random.uniform())) for k in range(count)]


def test_several_processes_open_a_new_file_at_once(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    openers = [subprocess.Popen([sys.executable, "-c", OPENER], **pipes) for _ in range(4)]
    said = []
    for name in ("warm", *range(20)):
        for opener in openers:
            opener.stdin.write(f"{tmp_path}/{name}.db\n")
            opener.stdin.flush()
        said += [opener.stdout.readline() for opener in openers]
    for opener in openers:
        opener.communicate()
    assert said == ["opened\n"] * len(said)
    for path in tmp_path.glob("*.db"):
        with CapabilityMemory(path) as memory:
            assert memory._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            memory.append(entry(0))


@pytest.fixture
def busy(tmp_path):
    """A new file that another connection is about to write to, and that connection."""
    other = sqlite3.connect(tmp_path / "m.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield tmp_path / "m.db", other
    other.close()


def test_creating_a_file_waits_for_who_holds_it(busy):
    path, other = busy
    release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
    release.start()
    with CapabilityMemory(path, timeout_s=30) as memory:
        memory.append(entry(0))
    release.join()


def test_creating_a_file_waits_no_longer_than_the_time_out(busy):
    begin = time.monotonic()
    with pytest.raises(StoreError, match="held by another writer"):
        CapabilityMemory(busy[0], timeout_s=0.3)
    assert 0.3 <= time.monotonic() - begin < 10


def test_a_file_that_another_creates_while_it_is_recognised_is_ours(tmp_path, monkeypatch):
    path, open_file, created = tmp_path / "m.db", schema._open, []
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.close()

    def create_between_the_reads(statement):
        if statement == "PRAGMA user_version" and not created:
            created.append(True)
            monkeypatch.setattr(schema, "_open", open_file)
            with CapabilityMemory(path) as memory:
                memory.append(entry(0))

    def open_traced(*arguments):
        connection = open_file(*arguments)
        connection.set_trace_callback(create_between_the_reads)
        return connection

    monkeypatch.setattr(schema, "_open", open_traced)
    with CapabilityMemory(path) as memory:
        assert created
        assert len(memory) == 1


def test_several_processes_write_while_others_read(tmp_path):
    path = tmp_path / "m.db"
    CapabilityMemory(path).close()
    writers = [start_writer(path, f"run-{n}", 8, 25) for n in range(3)]
    with CapabilityMemory(path, read_only=True) as reader:
        lengths = []
        while any(writer.poll() is None for writer in writers):
            lengths.append(len(reader))
            assert int(reader.recall().count[0]) % 25 == 0  # whole batches only
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert lengths == sorted(lengths)
    with CapabilityMemory(path) as memory:
        assert len(memory) == 600
        for n in range(3):
            assert [e.campaign for e in memory.entries(run=f"run-{n}")] == list(range(200))
        np.testing.assert_allclose(memory.recall().count, [600, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("acknowledged", [1, 3, 7])
def test_kill_9_loses_nothing_acknowledged_and_no_half_batch_stays(tmp_path, acknowledged):
    path = tmp_path / "m.db"
    writer = start_writer(path, "r", 10_000, 40)
    for _ in range(acknowledged):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with CapabilityMemory(path) as memory:
        count = len(memory)
        assert count >= (last + 1) * 40
        assert count % 40 == 0
        assert memory.recall().count[0] == count
        memory.append(entry(0, "after"))


def test_a_belief_recalled_equals_one_computed_from_all_entries(tmp_path):
    entries = many(3 * CHUNK + 77)
    with CapabilityMemory(tmp_path / "m.db") as memory:
        for first in range(0, len(entries), 97):
            memory.append_many(entries[first : first + 97])
        recalled = memory.recall()
        early = memory.recall(upto=500)
    for posterior, n in ((recalled, len(entries)), (early, 500)):
        whole = Posterior.empty().update(entries[:n])
        for a, b in zip(posterior.weights(), whole.weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)


def test_a_pinned_horizon_stays_whatever_is_written_later(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many(many(700, "old"))
        horizon = memory.pin("mine")
        before = memory.recall(upto=horizon).weights()[0]
        memory.append_many(many(3 * CHUNK, "new"))
        assert memory.pin("mine") == horizon == 700
    with CapabilityMemory(tmp_path / "m.db") as memory:
        np.testing.assert_array_equal(memory.recall(upto=memory.pin("mine")).weights()[0], before)


def test_a_run_that_wrote_before_it_was_pinned_does_not_count_itself_as_history(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many([*many(5, "old"), entry(0, "mine"), *many(5, "new")])
        assert memory.pin("mine") == 5


@pytest.mark.parametrize("what", [{"run": "mine"}, {"run": "mine", "campaign": 0}, {"ids": [6]}])
def test_a_forgotten_run_that_is_run_again_sees_what_others_wrote_since(tmp_path, what):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many([*many(5, "old"), entry(0, "mine"), *many(30, "new")])
        memory.forget(**what)
        assert memory.recall(upto=memory.pin("mine")).count[0] == 35
        memory.append(entry(0, "mine"))
        assert memory.recall(upto=memory.pin("mine")).count[0] == 35


def test_a_run_forgotten_by_name_is_pinned_anew_and_one_that_lost_a_campaign_is_not(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many(many(5, "old"))
        memory.pin("mine")
        memory.append_many([entry(0, "mine"), entry(1, "mine"), *many(30, "new")])
        memory.forget(run="mine", campaign=0)
        assert memory.recall(upto=memory.pin("mine")).count[0] == 5
        memory.forget(run="mine")
        assert memory.recall(upto=memory.pin("mine")).count[0] == 35


def test_the_forgotten_leave_every_belief(tmp_path):
    entries = many(2 * CHUNK)
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many(entries)
        memory.pin("someone")
        memory.append_many([entry(k, "bad", -0.9) for k in range(10)])
        memory.forget(run="bad")
        memory.forget(ids=[3])
        recalled = memory.recall().weights()[0]
    expected = Posterior.empty().update([*entries[:2], *entries[3:]]).weights()[0]
    np.testing.assert_allclose(recalled, expected, atol=1e-8)


def test_another_model_has_its_own_belief_in_the_same_file(tmp_path):
    entries, other = many(CHUNK + 5), EffectModel(process_error=0.2)
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many(entries)
    with CapabilityMemory(tmp_path / "m.db", model=other) as memory:
        recalled = memory.recall().weights()[0]
    np.testing.assert_allclose(recalled, Posterior.empty(other).update(entries).weights()[0], atol=1e-8)


def test_an_old_schema_is_migrated_with_everything_in_it(tmp_path):
    path = tmp_path / "m.db"
    with CapabilityMemory(path) as memory:
        memory.append_many(many(10))
        expected = list(memory.entries())
        rows = [row[:-1] for row in memory._db.execute("SELECT * FROM entries")]  # start_from came later
    path.unlink()
    old = sqlite3.connect(path)
    old.executescript(MIGRATIONS[0])
    old.executemany(f"INSERT INTO entries VALUES ({', '.join('?' * len(rows[0]))})", rows)
    old.execute("PRAGMA user_version = 1")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.commit()
    old.close()
    with pytest.raises(StoreError, match="open it once for writing"):
        CapabilityMemory(path, read_only=True)
    with CapabilityMemory(path) as memory:
        assert list(memory.entries()) == expected
        assert memory.recall().count[0] == 10
        assert memory._db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_damage_in_the_middle_is_reported_and_the_file_left_alone(tmp_path):
    path = tmp_path / "m.db"
    with CapabilityMemory(path) as memory:
        memory.append_many(many(2000))
    content = bytearray(path.read_bytes())
    content[4096 * 20 : 4096 * 60] = os.urandom(4096 * 40)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), CapabilityMemory(path, read_only=True) as memory:
        list(memory.entries())
    assert path.read_bytes() == content


def test_a_truncated_delta_is_damage(tmp_path):
    path = tmp_path / "m.db"
    with CapabilityMemory(path) as memory:
        memory.append(entry(0))
        memory._db.execute("DROP TRIGGER entries_no_update")
        memory._db.execute("UPDATE entries SET delta = x'00'")
        with pytest.raises(StoreError, match="damaged"):
            list(memory.entries())
        with pytest.raises(StoreError, match="damaged"):
            memory.recall()


def test_a_full_disk_keeps_what_was_there_and_nothing_of_the_failed_write(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many(many(100))
        pages = memory._db.execute("PRAGMA page_count").fetchone()[0]
        memory._db.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(StoreError, match="free some space"):
            memory.append_many(many(2000, "more"))
        assert len(memory) == 100
        memory._db.execute("PRAGMA max_page_count = 1000000")
        memory.append_many(many(2000, "more"))
        assert len(memory) == 2100


READER = """
import os, sys
from sr_care import CapabilityMemory, CareError, CarePlanner
os.setuid(65534)
try:
    with CapabilityMemory(sys.argv[1], read_only=True) as memory:
        print(len(memory), int(memory.recall().count[0]))
except CareError as error:
    print(error)
try:
    CarePlanner(sys.argv[1], run="r")
except CareError as error:
    print(error)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop the right to write")


def read_as_nobody(path, file_mode, folder_mode):
    """What a user without rights of its own can read, and why a planner of that user refuses."""
    for file in path.parent.iterdir():
        file.chmod(file_mode)
    path.parent.chmod(folder_mode)
    child = subprocess.run([sys.executable, "-c", READER, path], capture_output=True, text=True, check=False)
    return child.stdout.splitlines()


@as_root
@pytest.mark.parametrize("modes", [(0o444, 0o555), (0o444, 0o777), (0o666, 0o555)])
def test_a_read_only_place_is_readable_and_no_planner_begins_in_it(modes):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        path = Path(folder) / "m.db"
        with CapabilityMemory(path) as memory:
            memory.append_many(many(20))
        first, second = read_as_nobody(path, *modes)
    assert first == "20 20"
    assert "writable place" in second


@as_root
@pytest.mark.parametrize("lost", [(), ("m.db-shm",)])
def test_the_last_writes_of_a_killed_process_are_read_in_a_read_only_place_or_it_is_said_that_they_are_not(lost):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.db"
        with CapabilityMemory(path) as memory:
            memory.append_many(many(20))
        writer = start_writer(path, "killed", 10_000, 10)
        writer.stdout.readline()
        writer.kill()
        writer.wait()
        for name in lost:
            (Path(folder) / name).unlink()
        answer, _ = read_as_nobody(path, 0o444, 0o555)
    if lost:
        assert "its last writes are in m.db-wal" in answer
    else:
        assert int(answer.split()[0]) >= 30


def test_a_reader_waits_for_who_holds_the_file_and_never_reads_beside_it(tmp_path):
    path = tmp_path / "m.db"
    with CapabilityMemory(path) as memory:
        memory.append(entry(0))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="held by another writer"):
        CapabilityMemory(path, read_only=True, timeout_s=0.2)
    holder.close()
    with CapabilityMemory(path, read_only=True) as memory:
        assert len(memory) == 1


def test_an_export_is_whole_or_not_there_and_makes_the_same_memory(tmp_path):
    out = tmp_path / "entries.jsonl"
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many(many(5))
        memory.forget(ids=[2])
        assert memory.export(out) == 4
        expected = [replace(entry, id=0) for entry in memory.entries()]
        memory._db.execute("DROP TRIGGER entries_no_update")
        memory._db.execute("UPDATE entries SET delta = x'00' WHERE id = 5")
        with pytest.raises(StoreError, match="damaged"):
            memory.export(tmp_path / "half.jsonl")
    assert not (tmp_path / "half.jsonl").exists()
    PlainMemories().write(tmp_path / "copy.db", [json.loads(row) for row in out.read_text().splitlines()])
    with CapabilityMemory(tmp_path / "copy.db") as memory:
        assert [replace(entry, id=0) for entry in memory.entries()] == expected


def test_what_no_memory_can_hold_is_refused(tmp_path):
    with pytest.raises(StoreError, match="must be a file"):
        CapabilityMemory(":memory:")
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreError, match="is empty"):
        CapabilityMemory(tmp_path / "empty.db", read_only=True)
    with CapabilityMemory(tmp_path / "m.db") as memory:
        for ids in ([2**70], "12", [1.5]):
            with pytest.raises(EntryError, match="an entry id must be a whole number"):
                memory.forget(ids=ids)
        with pytest.raises(StoreError, match="can hold no such value"):
            list(memory.entries(run="a\udcff"))


def test_a_memory_opened_for_reading_refuses_to_write(tmp_path):
    CapabilityMemory(tmp_path / "m.db").close()
    with CapabilityMemory(tmp_path / "m.db", read_only=True) as memory:
        for write in (lambda: memory.append(entry(0)), lambda: memory.forget(run="r"), lambda: memory.pin("r")):
            with pytest.raises(StoreError, match="read_only"):
                write()
