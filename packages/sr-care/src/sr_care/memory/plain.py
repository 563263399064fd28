"""Memory files as lists of plain values, for programs that keep entries in records of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sr_care.entry import Entry
from sr_care.memory.store import CapabilityMemory

__all__ = ["PlainMemories"]


class PlainMemories:
    """Reads and writes memory files as lists of plain values."""

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The entries of the memory at ``path``, as ``Entry.to_dict`` gives them; none where there is no file."""
        if not path.exists():
            return []
        with CapabilityMemory(path, read_only=True) as memory:
            return [entry.to_dict() for entry in memory.entries()]

    def write(self, path: Path, entries: Sequence[dict[str, Any]]) -> None:
        """A new memory at ``path`` with these entries. Raises CareError for one that is none."""
        with CapabilityMemory(path) as memory:
            memory.append_many([Entry.from_dict(entry) for entry in entries])
