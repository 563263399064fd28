"""What is kept of finished runs: a compressed record each, in a file of its own or all of them in one.

A record's name is its path in the folder: ``chains/rich/naive-0``.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sr_core.errors import RunError

Record = dict[str, Any]
PACKED = "records.jsonl.xz"
SIGNALS = (
    *("train_reward", "entropy", "length", "truncated", "unique_share", "zero_std_groups", "grad_norm", "lr"),
    *("step_kl", "step_scale", "step_shortened"),
)
COUNTS = {"heldout": "heldout_passes", "unique": "heldout_unique", "well_formed": "heldout_well_formed"}


class Records:
    """The records under a folder. A file of its own takes precedence over a packed record of the same name."""

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
            raise RunError(f"the record {str(path)!r} is damaged ({error}): remove it and run again") from error
        return record

    def put(self, name: str, record: Record) -> None:
        """Write it, whole or not at all; the same record gives the same bytes."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(gzip.compress(json.dumps(record, separators=(",", ":")).encode(), mtime=0))
        part.replace(path)

    def under(self, kind: str, regime: str) -> dict[str, Record]:
        """The records whose names begin with ``kind/regime/``, by the rest of their names, in that order."""
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
                    f"{str(path)!r} is damaged ({error}): fetch it again, or remove it and run again"
                ) from error
        return self._packed

    def pack(self) -> int:
        """Move all records into the one file, which is half as large; return how many it holds."""
        files = sorted(self.folder.rglob("*.json.gz"))
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


def condense(folder: Path) -> Record:
    """The record of a finished run: description, summary, and its rows as columns, signals to three digits."""
    run = json.loads((folder / "run.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    acted = [row for row in rows if row["decision"]["action"] != "continue"]
    training = sum(row["seconds"][phase] for row in rows for phase in ("rollout", "grade", "update"))
    sampling = run["config"]["sampling"]
    return {
        **{key: run[key] for key in ("config", "versions", "device", "threads", "isolation")},
        "summary": _rounded(summary),
        "campaign": [row["campaign"] for row in rows],
        "step": [row["step"] for row in rows],
        **{name: [row[key] and sum(row[key]) for row in rows] for name, key in COUNTS.items()},
        "samples": [row["heldout_samples"] for row in rows],
        "se": [_short(row["heldout_se"]) for row in rows],
        "evaluated": [int(row["heldout_passes"] is not None) for row in rows],
        "evaluation_samples": sum(row["evaluation_samples"] for row in rows)
        + sum(campaign.get("ood_samples", 0) for campaign in summary.get("campaigns", [])),
        "training_samples": sum(row["sampled_tokens"] is not None for row in rows)
        * sampling["prompts"]
        * sampling["group_size"],
        "signals": {name: [_short(row.get(name)) for row in rows] for name in SIGNALS},
        "seconds": {"training": round(training, 1), "evaluate": round(sum(r["seconds"]["evaluate"] for r in rows), 1)},
        "decisions": [
            {"campaign": row["campaign"], "step": row["step"]}
            | {key: row["decision"][key] for key in ("action", "rule", "to_step", "reason")}
            for row in acted
        ],
    }


def _rounded(value: Any) -> Any:
    """Numbers to six digits: an audited share of 1,600 samples has four, and covariances of capabilities fill room."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
