"""Records of finished runs: what is kept of a run, packed and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sr_core.errors import RunError
from sr_core.studies.records import PACKED, Records, condense


def test_records_survive_packing_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    records = Records(tmp_path)
    assert records.get("chains/rich/es-0") is None
    for name in ("chains/rich/es-10", "chains/rich/es-2", "chains/fragile/es-0", "forks/rich/0"):
        records.put(name, {"name": name})
    assert records.pack() == 4
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [PACKED]
    records.put("chains/rich/es-3", {"name": "new"})
    again = Records(tmp_path)
    assert list(again.under("chains", "rich")) == ["es-10", "es-2", "es-3"]
    assert again.get("forks/rich/0") == {"name": "forks/rich/0"}
    assert "forks/rich/0" in again
    assert again.pack() == 5
    again.put("chains/rich/es-2", {"name": "run again"})
    assert again.get("chains/rich/es-2") == {"name": "run again"}
    path = again.path("chains/rich/es-2")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"es-2\.json\.gz.*is damaged"):
        Records(tmp_path).get("chains/rich/es-2")
    (tmp_path / PACKED).write_bytes((tmp_path / PACKED).read_bytes()[:-9])
    with pytest.raises(RunError, match=r"records\.jsonl\.xz' is damaged"):
        Records(tmp_path).get("chains/rich/es-3")


def test_a_record_keeps_counts_and_costs_of_a_run(tmp_path: Path) -> None:
    row = {"campaign": 0, "step": 0, "heldout_passes": [1, 0], "heldout_unique": [2, 1], "heldout_well_formed": [2, 2]}
    row |= {"heldout_se": 0.123456, "evaluation_samples": 4, "heldout_samples": 2}
    row |= dict.fromkeys(("train_reward", "entropy", "length", "truncated", "unique_share", "zero_std_groups"))
    row |= {"grad_norm": None, "lr": 0.1, "sampled_tokens": None}
    row |= {"seconds": dict.fromkeys(("rollout", "grade", "update", "evaluate"), 1.0)}
    row |= {"decision": {"action": "continue", "rule": "none", "to_step": None, "reason": "no guard"}}
    run = {"config": {"sampling": {"prompts": 2, "group_size": 2}}, "versions": {}, "device": "cpu", "threads": 1}
    (tmp_path / "run.json").write_text(json.dumps(run | {"isolation": "full"}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "summary.json").write_text("{}")
    record = condense(tmp_path)
    assert [record[name] for name in ("heldout", "unique", "well_formed", "se")] == [[1], [3], [4], [0.123]]
    assert record["samples"] == [2]
    assert record["seconds"] == {"training": 3.0, "evaluate": 1.0}
    assert record["evaluation_samples"] == 4
