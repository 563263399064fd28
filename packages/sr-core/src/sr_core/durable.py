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

__all__ = ["reporting", "verify", "write_file", "write_folder", "write_json"]


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
    """Make the folder ``target`` of what ``fill`` writes into it, with a manifest, unless it is there already."""
    if (target / "manifest.json").exists():
        return  # written by the run before it was killed, or held for longer: the contents are the same
    temporary = target.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    temporary.mkdir()
    fill(temporary)
    manifest = {p.name: {"bytes": p.stat().st_size, "sha256": _digest(p)} for p in sorted(temporary.iterdir())}
    for path in temporary.iterdir():
        _sync(path)
    write_file(temporary / "manifest.json", json.dumps(manifest, indent=2).encode())
    temporary.rename(target)
    _sync(target.parent)


def verify(folder: Path) -> None:
    """Raise ValueError unless a folder of ``write_folder`` is what its manifest says."""
    for name, noted in json.loads((folder / "manifest.json").read_text()).items():
        if (folder / name).stat().st_size != noted["bytes"] or _digest(folder / name) != noted["sha256"]:
            raise ValueError(f"{name} is not what its manifest says")


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Turn a failed write into a RunError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(
            f"cannot write to {str(folder)!r} ({error}): make room or mend the folder, then: sr resume {folder}"
        ) from error


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
