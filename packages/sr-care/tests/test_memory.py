import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_care import CapabilityDelta, CapabilityMemory, Context, Entry, Strategy
from sr_care.entry import Boundary
from sr_care.errors import EntryError, StoreError
from sr_care.memory.plain import PlainMemories
from sr_care.memory.schema import SCHEMA_VERSION


def make(run="r", campaign=0, value=0.1, **more):
    return Entry(
        strategy=Strategy(algorithm="reinforce", lr=1e-3, steps=20),
        context=Context(family="numbers", pass1=0.3),
        delta=CapabilityDelta.from_errors({"pass1": value}, {"pass1": 0.03}),
        boundary=Boundary(start=0.3, peak=0.5, peak_step=8, end=0.4, kept=0.4),
        **{"run": run, "campaign": campaign, "recorded_at": "2026-01-01T00:00:00+00:00", **more},
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.floats(-1, 1)), unique_by=lambda t: t[:2]))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back_in_order(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("memory") / "m.db"
    written = [make(run, campaign, value) for run, campaign, value in rows]
    with CapabilityMemory(path) as memory:
        ids = memory.append_many(written)
    with CapabilityMemory(path, read_only=True) as memory:
        read = list(memory.entries())
    assert [entry.id for entry in read] == ids
    assert [entry.to_dict() | {"id": 0} for entry in read] == [entry.to_dict() for entry in written]
    plain = PlainMemories()
    copy = path.with_name("copy.db")
    assert plain.read(copy) == []
    plain.write(copy, plain.read(path))
    assert plain.read(copy) == [entry.to_dict() for entry in read]


def test_a_campaign_is_remembered_once(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append(make())
        with pytest.raises(EntryError, match="already remembered"):
            memory.append(make(value=0.2))
        assert len(memory) == 1


def test_a_batch_with_one_bad_entry_writes_nothing(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        with pytest.raises(EntryError):
            memory.append_many([make(campaign=0), make(campaign=1), make(campaign=0)])
        assert len(memory) == 0


def test_history_cannot_be_rewritten(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append(make())
    raw = sqlite3.connect(tmp_path / "m.db")
    for sql in ("UPDATE entries SET lr = 1", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(sql)


def test_the_forgotten_are_set_aside_and_may_be_written_anew(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many([make(campaign=k) for k in range(3)])
        assert memory.forget(run="r", campaign=1, reason="wrong seed") == 1
        assert [entry.campaign for entry in memory.entries()] == [0, 2]
        memory.append(make(campaign=1, value=0.7))
        assert memory.find("r", 1).delta.values["pass1"] == 0.7
        assert memory.forget(run="r", campaign=1) == 1
        memory.append(make(campaign=1, value=0.8))
        assert len(memory) == 3


@pytest.mark.parametrize("how", [{}, {"ids": [1], "run": "r"}, {"campaign": 1}])
def test_what_to_forget_must_be_named_once(tmp_path, how):
    with CapabilityMemory(tmp_path / "m.db") as memory, pytest.raises(EntryError, match="name either"):
        memory.forget(**how)


@pytest.mark.parametrize("how", [{"ids": [1, 99]}, {"run": "other"}, {"run": "r", "campaign": 7}])
def test_what_is_not_remembered_cannot_be_forgotten_and_all_stays(tmp_path, how):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        memory.append_many([make(campaign=k) for k in range(3)])
        with pytest.raises(EntryError, match=r"99|other|7"):
            memory.forget(**how)
        assert len(memory) == 3


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "m.db"
    CapabilityMemory(path).close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(StoreError, match="upgrade"):
        CapabilityMemory(path)
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION + 1


def test_another_programs_database_is_never_touched(tmp_path):
    path = tmp_path / "other.db"
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE mine (x)")
    raw.close()
    content = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        CapabilityMemory(path)
    assert path.read_bytes() == content


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are my notes, not a database " * 100)
    content = path.read_bytes()
    with pytest.raises(StoreError, match="no memory file"):
        CapabilityMemory(path)
    assert path.read_bytes() == content


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(StoreError, match="folder"):
        CapabilityMemory(tmp_path / "none" / "m.db")
    with pytest.raises(StoreError, match="must exist"):
        CapabilityMemory(tmp_path / "m.db", read_only=True)
    assert not (tmp_path / "m.db").exists()


def test_an_empty_memory_is_not_nothing(tmp_path):
    with CapabilityMemory(tmp_path / "m.db") as memory:
        assert len(memory) == 0
        assert memory
