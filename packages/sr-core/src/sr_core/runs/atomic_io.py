"""Files and folders that are on disk, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from sr_core.errors import RunError
from sr_core.runs.run_dir import RUN, to_resume

__all__ = ["DamageError", "reporting", "verify", "write_file", "write_folder", "write_json"]

MANIFEST = "manifest.json"
_digests: dict[tuple[int, ...], str] = {}  # state of a file -> its digest, the oldest first


class DamageError(RunError):
    """A folder of ``write_folder`` is not what its manifest says, or has none that can be read."""


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, whole or not at all. Raises RunError when it cannot be written."""
    with reporting(path.parent):
        write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_file(path: Path, data: bytes) -> None:
    """Put ``data`` into ``path``; on disk when this returns."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder ``target`` of what ``fill`` writes into it, with a manifest, unless it is there already, whole.

    A damaged one is replaced.
    """
    if _is_whole(target):
        return  # written by the run before it was killed, or retained for longer: the contents are the same
    temporary = target.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    fill(temporary)
    for path in temporary.iterdir():
        _sync(path)
    manifest = {p.name: {"bytes": p.stat().st_size, "sha256": _digest_anew(p)} for p in sorted(temporary.iterdir())}
    write_file(temporary / MANIFEST, json.dumps(manifest, indent=2).encode())
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    _sync(target.parent)


def verify(folder: Path) -> None:
    """Raise DamageError unless a folder of ``write_folder`` is what its manifest says.

    A file that is there and cannot be read (no permission, a failing disk) is an OSError, not damage.
    """
    _compare(folder, _digest)


def _is_whole(folder: Path) -> bool:
    """Whether it would be verified; files that have not changed since this process last did so are not read again."""
    try:
        _compare(folder, _digest_once)
    except DamageError:
        return False
    return True


def _compare(folder: Path, digest: Callable[[Path], str]) -> None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        noted = {name: (file["bytes"], file["sha256"]) for name, file in manifest.items()}
    except (FileNotFoundError, NotADirectoryError):
        raise DamageError(f"{MANIFEST} is missing") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamageError(f"{MANIFEST} is no manifest ({error})") from error
    for name, (size, sha256) in noted.items():
        try:
            same = (folder / name).stat().st_size == size and digest(folder / name) == sha256
        except FileNotFoundError:
            raise DamageError(f"{name} is missing") from None
        if not same:
            raise DamageError(f"{name} is not what its manifest says")


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Turn a failed write into a RunError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        run = next((path for path in (folder, *folder.parents) if (path / RUN).exists()), None)
        way_out = f"make room or repair the folder, {f'then: {to_resume(run)}' if run else 'or give another --out'}"
        raise RunError(f"cannot write to {str(folder)!r} ({error}): {way_out}") from error


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest_once(path: Path) -> str:
    """``_digest``, remembered for as long as the file system tells of no change; a renamed folder is none."""
    known = _digests.get(_state(path))
    return _digest_anew(path) if known is None else known


def _digest_anew(path: Path) -> str:
    state = _state(path)
    _digests[state] = digest = _digest(path)
    while len(_digests) > 1024:
        del _digests[next(iter(_digests))]
    return digest


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
