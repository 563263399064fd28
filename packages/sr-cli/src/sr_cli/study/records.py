"""What a study keeps of its chains and forks: a compressed file each as they are done, or all of them in one.

A record's name is its path in the study's folder: ``chains/rich/naive-0``, ``forks/rich/3``.
"""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

from sr_core.errors import RunError

Record = dict[str, Any]
PACKED = "records.jsonl.xz"


class Records:
    """The records under a study's folder. A file of its own counts before a packed one of the same name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packed: dict[str, Record] | None = None

    def path(self, name: str) -> Path:
        """Where a new record of this name is written."""
        return self.folder / f"{name}.json.gz"

    def __contains__(self, name: str) -> bool:
        return self.path(name).exists() or name in self.packed()

    def get(self, name: str) -> Record | None:
        """The record, or None where there is none. Raises RunError where it is damaged."""
        path = self.path(name)
        if not path.exists():
            return self.packed().get(name)
        try:
            record: Record = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError) as error:
            raise RunError(
                f"the record {str(path)!r} is damaged ({error}): remove it and run the study again"
            ) from error
        return record

    def put(self, name: str, record: Record) -> None:
        """Write it, whole or not at all; the same record gives the same bytes."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(gzip.compress(json.dumps(record, separators=(",", ":")).encode(), mtime=0))
        part.replace(path)

    def under(self, kind: str, regime: str) -> dict[str, Record]:
        """The records of a kind (``chains``, ``forks``) and regime by the rest of their names, in that order."""
        start = f"{kind}/{regime}/"
        files = {start + path.name.removesuffix(".json.gz") for path in (self.folder / start).glob("*.json.gz")}
        names = sorted(files | {name for name in self.packed() if name.startswith(start)})
        return {name.removeprefix(start): record for name in names if (record := self.get(name)) is not None}

    def packed(self) -> dict[str, Record]:
        """What the one file holds. Raises RunError where it is damaged."""
        if self._packed is None:
            path = self.folder / PACKED
            try:
                lines = lzma.decompress(path.read_bytes()).decode().splitlines() if path.exists() else []
                self._packed = {item["name"]: item["record"] for item in map(json.loads, lines)}
            except (OSError, lzma.LZMAError, ValueError, KeyError) as error:
                raise RunError(
                    f"{str(path)!r} is damaged ({error}): fetch it again, or remove it and run the study again"
                ) from error
        return self._packed

    def pack(self) -> int:
        """Move all records into the one file, in which they take half the room; gives how many it holds."""
        files = [path for kind in ("chains", "forks") for path in sorted((self.folder / kind).rglob("*.json.gz"))]
        names = [path.relative_to(self.folder).as_posix().removesuffix(".json.gz") for path in files]
        held = self.packed() | {name: record for name in names if (record := self.get(name)) is not None}
        lines = [json.dumps({"name": name, "record": held[name]}, separators=(",", ":")) for name in sorted(held)]
        part = self.folder / f"{PACKED}.part"
        part.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
        part.replace(self.folder / PACKED)
        self._packed = held
        for name in names:
            self.path(name).unlink()
        return len(held)
