"""The paper's study: its file, its records, the tables of CARE, and forks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "packages" / "sr-monitor" / "tests"))

from study import care_tables, fork_tables  # noqa: E402
from study.forks import PAPER, WAYS, fork, judge_forks, read_forks  # noqa: E402
from study_records import made  # noqa: E402

from sr_cli.studies import config_of, read_spec  # noqa: E402
from sr_core.studies.records import Record, Records  # noqa: E402

SPEC = read_spec(PAPER)
SMALL: dict[str, Any] = {
    "campaign": {"count": 2, "steps": 2},
    "sampling": {"prompts": 2, "group_size": 2},
    "tasks": {"train": 4, "heldout": 3, "audit": 3, "ood": 3},
    "evaluate": {"samples": 2, "audit_samples": 2},
    "optim": {"lr": 0.05},
}


@pytest.mark.parametrize("regime", SPEC.regimes)
def test_every_chain_has_two_hundred_steps_at_its_regimes_rate(regime: str) -> None:
    for arm in SPEC.arms:
        if not SPEC.arms[arm].retired:
            train = config_of(SPEC, regime, arm).train
            assert train.campaign.count * train.campaign.steps == 200
            assert train.optim.lr == config_of(SPEC, regime, "naive").train.optim.lr
            assert train.evaluate.every == (4 if "guard" in arm else 1 if SPEC.decides(arm) else 2)


def test_the_records_are_of_the_arms_as_the_file_has_them() -> None:
    records = Records(PAPER.parent).packed()
    chains = {name: record for name, record in records.items() if name.startswith("chains/")}
    assert len(chains) > 200
    for name, record in chains.items():
        assert name == f"chains/{record['regime']}/{record['arm']}-{record['seed']}"
        assert SPEC.contradicts(record["regime"], record["arm"], record["config"]) == "", name
    another = chains["chains/rich/es-0"]["config"]
    assert SPEC.contradicts("rich", "patience_5", another) == "guard.mode = 'next_budget', not 'patience'"
    assert SPEC.contradicts("rich-third", "es", another) == "optim.lr = 0.002, not 0.0006"


def test_decisions_of_care_are_listed_with_what_its_modules_bring() -> None:
    records: dict[str, dict[int, Record]] = {}
    for arm, kept in (("naive", 0.1), ("care_v2", 0.2), ("care_v3", 0.5)):
        records[arm] = {seed: made(arm, seed, [(0.3, 0.6, 0.4, 0.4), (0.4, 0.5, kept, kept)]) for seed in (0, 1)}
        for record in records[arm].values():
            record["config"]["optim"] = {"lr": 0.002}
            record["summary"]["campaigns"][0]["plan"] = {
                "action": "reuse",
                "steps": 3,
                "lr": 0.002,
                "start_from": "kept",
            }
            record["summary"]["campaigns"][1]["plan"] = {"action": "adapt", "steps": 5, "lr": 0.0005, "start_from": 0}
    records["care_v3"][1]["summary"]["campaigns"][1]["plan"] |= {"action": "reject", "steps": 0, "start_from": "kept"}
    assert care_tables.tables(SPEC, {"naive": records["naive"]}) == ""
    text = care_tables.tables(SPEC, records)
    assert (
        "| CARE v3 | 50.0 | 2 | +40.0 [+40.0, +40.0] | – | +30.0 [+30.0, +30.0] |  | 6 | 2 reuse, 1 adapt, 1 reject |"
        in text
    )
    assert "| CARE v3 | 0 | r3 a5×0.25@0 | 50.0 |" in text
    assert "| CARE v3 | 1 | r3 x0 | 50.0 |" in text
    assert text.index("| CARE v3 |") < text.index("| CARE v2 |")


@pytest.mark.nightly  # trains eight ways on
def test_forks_start_from_one_checkpoint_and_go_on_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.forks.FIRST_STEPS", 4)
    made = fork("rich", 0, SMALL)
    assert [look["step"] for look in made["looks"]] == [0, 2, 4]
    assert all(look["reference_logprob"] < 0 for look in made["looks"])
    assert made["looks"][0]["samples"][0]["prompt"].startswith("def ")
    assert made["step"] in (0, 2)
    ways = made["ways"]
    assert set(ways) == {name for name, way in WAYS.items() if not way.retired}
    assert ways["continue"]["start"] == ways["lr_half"]["start"] == ways["reset"]["start"]
    assert fork("rich", 0, SMALL) == made
    Records(tmp_path).put("forks/rich/0", made)
    judged = judge_forks(read_forks(Records(tmp_path), "rich"))
    assert judged["ways"]["continue"]["over_continue"] == [0, 0, 0]
    assert judged["ways"]["guard"]["audit"] == ways["guard"]["audit"]
    assert judged["around"]["last look"]["pass1"] == made["looks"][-1]["pass1"]
    written = fork_tables.tables("rich", judged, [made])
    assert "| guard without averaging |" in written
    assert made["looks"][0]["samples"][0]["completion"].strip() in written
    older = {name: way for name, way in ways.items() if name != "guard"}
    assert set(judge_forks([made, made | {"ways": older}])["ways"]) == set(older)


@pytest.mark.nightly  # trains eight ways on
def test_a_fork_of_an_earlier_version_gets_the_ways_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.forks.FIRST_STEPS", 2)
    monkeypatch.setattr("study.forks.WAYS", {name: WAYS[name] for name in ("continue", "lr_tenth", "guard")})
    settings = SMALL
    whole = fork("rich", 0, settings)
    marked = whole["ways"]["continue"] | {"steps": -1}  # a record that says what no run would
    older = json.loads(json.dumps(whole | {"ways": {"continue": marked, "lr_tenth": whole["ways"]["lr_tenth"]}}))
    completed = fork("rich", 0, settings, known=older)
    assert completed == whole | {"ways": whole["ways"] | {"continue": marked}}
    elsewhere = older | {"looks": [look | {"pass1": 0.99} for look in older["looks"]]}
    assert fork("rich", 0, settings, known=elsewhere) == whole  # another checkpoint: all ways start there
