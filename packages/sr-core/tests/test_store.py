from __future__ import annotations

import json
import resource
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sr_core.errors import RunError
from sr_core.runs import atomic_io
from sr_core.runs.checkpoint import Checkpoint
from sr_core.runs.run_dir import check_new
from sr_core.runs.store import RunStore


def checkpoint(step: int, held: tuple[int, ...] = (0,)) -> Checkpoint:
    return Checkpoint(
        campaign=0,
        step=step,
        state={"number": step},
        trainer={"optimizer": {"moment": torch.full((3,), float(step))}},
        weights={"w": torch.full((4,), float(step))},
        retained={h: {"w": torch.full((4,), float(h))} for h in held},
        positions={h: {"updates": h, "moment": torch.full((2,), float(h))} for h in held},
    )


def make_store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", {"seed": 1})


def folders(store: RunStore) -> list[str]:
    return sorted(path.name for path in store.checkpoints.iterdir())


def test_a_checkpoint_round_trips(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.save(checkpoint(3, held=(0, 2)))
    found = RunStore.open(store.folder).load()
    assert found is not None
    assert (found.campaign, found.step, found.state) == (0, 3, {"number": 3})
    assert torch.equal(found.trainer["optimizer"]["moment"], torch.full((3,), 3.0))
    assert torch.equal(found.weights["w"], torch.full((4,), 3.0))
    assert torch.equal(found.retained[2]["w"], torch.full((4,), 2.0))
    assert found.positions[2]["updates"] == 2
    assert torch.equal(found.positions[2]["moment"], torch.full((2,), 2.0))


def test_only_what_the_last_two_checkpoints_need_stays(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    for step, held in ((0, (0,)), (1, (0, 1)), (2, (0, 1)), (3, (0,)), (4, (0,))):
        store.save(checkpoint(step, held))
    assert folders(store) == ["c0000-held-000000", "c0000-step-000003", "c0000-step-000004"]


@pytest.mark.parametrize("name", ["weights.safetensors", "trainer.pt", "state.json", "manifest.json"])
def test_a_truncated_checkpoint_is_found_and_the_one_before_used(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path)
    store.append("metrics.jsonl", [{"step": 0}])
    store.save(checkpoint(0))
    store.append("metrics.jsonl", [{"step": 1}])
    store.save(checkpoint(1))
    path = store.checkpoints / "c0000-step-000001" / name
    path.write_bytes(path.read_bytes()[:-1])
    found = store.load()
    assert found is not None
    assert found.step == 0
    assert store.rows() == [{"step": 0}]
    assert "c0000-step-000001 is damaged" in store.notices[0]


def contents(store: RunStore) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def of_steps(tmp_path: Path, *steps: int, held: tuple[int, ...] = (0,)) -> RunStore:
    """A run with a row and a checkpoint of each of ``steps``."""
    store = make_store(tmp_path)
    for step in steps:
        store.append("metrics.jsonl", [{"step": step}])
        store.save(checkpoint(step, held))
    return store


def test_a_run_of_a_gpu_goes_on_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as saved_on_a_gpu:
        saved_on_a_gpu.setattr(torch.serialization, "location_tag", lambda storage: "cuda:7")
        store = of_steps(tmp_path, 0, 1)
    found = store.load()
    assert found is not None
    assert (found.step, store.notices) == (1, [])
    assert found.trainer["optimizer"]["moment"].device.type == "cpu"
    assert torch.equal(found.positions[0]["moment"], torch.zeros(2))


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError("much"), PermissionError("not yours")]
)
def test_a_whole_checkpoint_that_cannot_be_loaded_here_stops_the_run_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = of_steps(tmp_path, 0, 1, 2)
    before = contents(store)

    def failing(*args: object, **how: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(RunError, match=rf"c0000-step-000002.*{type(error).__name__}: {error}.*sr resume"):
        store.load()
    assert (contents(store), store.notices) == (before, [])


def test_a_checkpoint_of_another_layout_stops_the_run_and_costs_nothing(tmp_path: Path) -> None:
    store = of_steps(tmp_path, 0, 1)
    newest = store.checkpoints / "c0000-step-000001"
    state = json.loads((newest / "state.json").read_text())
    del state["earlier"]

    def fill(folder: Path) -> None:
        (folder / "state.json").write_text(json.dumps(state))

    shutil.rmtree(newest)
    atomic_io.write_folder(newest, fill)
    before = contents(store)
    with pytest.raises(RunError, match=r"c0000-step-000001.*KeyError: 'earlier'.*versions"):
        store.load()
    assert contents(store) == before


def test_a_run_whose_checkpoints_are_all_damaged_says_which_and_why_and_keeps_its_rows(tmp_path: Path) -> None:
    store = of_steps(tmp_path, 0, 1)
    shorten(store.checkpoints / "c0000-step-000000" / "weights.safetensors")
    (store.checkpoints / "c0000-step-000001" / "manifest.json").unlink()
    before = contents(store)
    with pytest.raises(RunError) as said:
        store.load()
    for part in (
        "c0000-step-000001 is damaged (manifest.json is missing)",
        "c0000-step-000000 is damaged (weights.safetensors is not what its manifest says)",
        "put a copy of one back",
    ):
        assert part in str(said.value)
    assert contents(store) == before


def test_a_damaged_held_policy_that_all_checkpoints_refer_to_is_named(tmp_path: Path) -> None:
    store = of_steps(tmp_path, 0, 1)
    shorten(store.checkpoints / "c0000-held-000000" / "position.pt")
    before = contents(store)
    with pytest.raises(RunError, match=r"000001 is damaged \(of c0000-held-000000, position\.pt is not what"):
        store.load()
    assert contents(store) == before


def test_a_checkpoint_that_was_passed_over_does_not_crowd_out_those_that_come_after(tmp_path: Path) -> None:
    store = of_steps(tmp_path, 5, 10)
    shorten(store.checkpoints / "c0000-step-000010" / "trainer.pt")
    assert store.load() is not None
    assert store.saved() == (0, 5)
    store.save(checkpoint(6))
    assert folders(store) == ["c0000-held-000000", "c0000-step-000005", "c0000-step-000006"]
    again = RunStore.open(store.folder)
    found = again.load()
    assert found is not None
    assert (found.step, again.notices) == (6, [])


@pytest.mark.parametrize("name", ["weights.safetensors", "position.pt", "manifest.json"])
def test_a_held_policy_that_lost_a_byte_is_written_again(tmp_path: Path, name: str) -> None:
    store = of_steps(tmp_path, 0, 1, 2)
    shorten(store.checkpoints / "c0000-held-000000" / name)
    store.save(checkpoint(3))
    found = RunStore.open(store.folder).load()
    assert found is not None
    assert found.step == 3
    assert torch.equal(found.retained[0]["w"], torch.zeros(4))


def test_a_held_policy_that_made_the_run_fall_back_is_replaced(tmp_path: Path) -> None:
    store = of_steps(tmp_path, 0)
    store.save(checkpoint(1, held=(0, 1)))
    shorten(store.checkpoints / "c0000-held-000001" / "weights.safetensors")
    again = RunStore.open(store.folder)
    fallback = again.load()
    assert fallback is not None
    assert fallback.step == 0
    assert "of c0000-held-000001, weights.safetensors is not" in again.notices[0]
    again.save(checkpoint(1, held=(0, 1)))
    found = RunStore.open(store.folder).load()
    assert found is not None
    assert (found.step, sorted(found.retained)) == (1, [0, 1])


def test_a_held_policy_is_written_once_and_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, read = atomic_io._digest, []

    def counting(path: Path) -> str:
        read.append(path.relative_to(path.parents[1]))
        return plain(path)

    monkeypatch.setattr(atomic_io, "_digest", counting)
    of_steps(tmp_path, *range(6))
    written = [path for path in read if path.parent.name.startswith("c0000-held-000000")]
    assert sorted(written) == [Path(f"c0000-held-000000.tmp/{name}") for name in ("position.pt", "weights.safetensors")]


def test_rows_after_the_last_checkpoint_are_cut_even_half_written(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.append("metrics.jsonl", [{"step": 0}])
    store.save(checkpoint(0))
    with (store.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1}\n{"st')
    store.load()
    assert (store.folder / "metrics.jsonl").read_text() == '{"step": 0}\n'


def test_a_checkpoint_being_written_is_not_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.save(checkpoint(0))
    half = store.checkpoints / "c0000-step-000001.tmp"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    found = store.load()
    assert found is not None
    assert found.step == 0
    store.save(checkpoint(1))
    assert ".tmp" not in "".join(folders(store))


def test_a_folder_with_another_run_is_refused_untouched(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(RunError, match="sr resume"):
        RunStore.create(store.folder, {"seed": 2})
    assert store.run() == {"seed": 1}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="new or empty"):
        RunStore.create(tmp_path / "full", {})
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.lock(), pytest.raises(RunError, match="another process"), RunStore.open(store.folder).lock():
        pass


def test_a_folder_without_a_run_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json"):
        RunStore.open(tmp_path)


def test_a_failed_write_says_what_to_do(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.save(checkpoint(0))
    (store.folder / "metrics.jsonl").unlink()
    (store.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"No space left.*sr resume"):
        store.append("metrics.jsonl", [{"step": 1}])


def test_a_run_that_never_began_is_not_to_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="give another --out") as caught:
        RunStore.create(tmp_path / "file" / "run", {})
    assert "sr resume" not in str(caught.value)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond ``size`` bytes of a file fails, as on a full disk; a real limit of the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [8, 100, 1000, 1200])
def test_no_room_for_a_checkpoint_is_said_and_costs_nothing_that_was_there(tmp_path: Path, size: int) -> None:
    store = make_store(tmp_path)
    store.save(checkpoint(0))
    with files_of_at_most(size), pytest.raises(RunError, match="make room"):
        store.save(checkpoint(1, held=(0, 1)))
    found = RunStore.open(store.folder).load()
    assert found is not None
    assert found.step == 0
    store.save(checkpoint(1, held=(0, 1)))
    again = RunStore.open(store.folder).load()
    assert again is not None
    assert (again.step, sorted(again.retained)) == (1, [0, 1])


def test_a_run_killed_while_its_folder_is_made_can_be_started_or_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json.tmp").write_text('{"se')
    store = RunStore.create(folder, {"seed": 1})
    store.checkpoints.rmdir()  # killed right after its first file
    (folder / "metrics.jsonl").unlink()
    again = RunStore.open(folder)
    assert again.load() is None
    again.save(checkpoint(0))


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append("metrics.jsonl", [{"step": float("nan")}])
    assert json.loads(json.dumps(store.rows())) == []


@pytest.mark.parametrize("name", ["run", "my run", "it's", "a;b", "$HOME"])
def test_the_command_that_an_error_names_can_be_given_to_a_shell(tmp_path: Path, name: str) -> None:
    RunStore.create(tmp_path / name, {"seed": 1})
    with pytest.raises(RunError) as caught:
        check_new(tmp_path / name)
    assert shlex.split(str(caught.value).partition("continue it with: ")[2]) == ["sr", "resume", str(tmp_path / name)]
