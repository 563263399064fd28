"""The study: its arms can be configured, its chains run, resume and are not run twice, its numbers are the chains'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sr_care import CapabilityMemory, Entry
from sr_cli.commands.study import command
from sr_cli.config import load_config
from sr_cli.study import arms as choices
from sr_cli.study.care_pages import tables as care_tables
from sr_cli.study.chains import SIGNALS, Chain, Study, plan
from sr_cli.study.forks import WAYS, fork, judge_forks
from sr_cli.study.pages import figures, tables
from sr_cli.study.records import PACKED, Record, Records
from sr_cli.study.results import end, hindsight, judge, trajectories
from sr_core.errors import ConfigError, RunError

TINY = {
    "campaign.count": 2,
    "campaign.steps": 2,
    "sampling.prompts": 2,
    "sampling.group_size": 2,
    "tasks.train": 4,
    "tasks.heldout": 3,
    "tasks.audit": 3,
    "tasks.ood": 3,
    "evaluate.samples": 2,
    "evaluate.audit_samples": 2,
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "QUICK", TINY)


def study(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.parametrize("regime", choices.REGIMES)
def test_every_arm_is_a_valid_configuration(regime: str) -> None:
    for name, arm in choices.ARMS.items():
        copied = choices.copied_settings(name, [4, 20, 7], 33, 0, 20) if arm.copies else {}
        preset, settings = choices.settings_of(regime, name, False, copied)
        config = load_config(None, preset, [f"{key}={value}" for key, value in settings.items()])
        assert config.train.optim.lr == choices.REGIMES[regime].lr
        assert config.train.campaign.count * config.train.campaign.steps == 200


def test_controls_copy_what_the_other_arm_did() -> None:
    steps = [20, 4, 7, 7]
    assert choices.copied_settings("fixed_budget", steps, 42, 0, 20) == {"planner.budgets": [10] * 4}  # mean 9.5
    shuffled = choices.copied_settings("random_stop", steps, 42, 0, 20)["planner.budgets"]
    assert sorted(shuffled) == sorted(steps)
    assert choices.copied_settings("best_of_n", steps, 16, 0, 20) == {"evaluate.every": 5}  # 80 steps, 16 evaluations
    assert choices.copied_settings("best_of_n", [12] * 3, 36, 0, 12) == {"evaluate.every": 1}  # as a quick study has it


def test_an_arm_that_copies_brings_the_one_it_copies_first() -> None:
    assert choices.arms_named(["random_stop", "naive"]) == ["naive", "es", "random_stop"]
    with pytest.raises(ConfigError, match="did you mean 'naive'"):
        choices.arms_named(["naiv"])


def test_a_study_cut_short_has_the_same_seeds_of_all_arms() -> None:
    chains = plan(["rich", "fragile"], ["naive", "ewc"], [0, 1, 2, 3])
    assert [str(chain) for chain in chains[:4]] == ["rich/naive-0", "rich/ewc-0", "fragile/naive-0", "fragile/ewc-0"]
    assert sum(chain.arm == "ewc" for chain in chains) == 2 * 3  # controls take three seeds
    assert sum(chain.arm == "naive" for chain in chains) == 2 * 4


@pytest.mark.usefixtures("tiny")
def test_a_taught_chain_begins_with_what_its_teachers_remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("arms", "chains"):
        monkeypatch.setattr(f"sr_cli.study.{module}.TEACHERS", (0,))
    found = Study(tmp_path, quick=True)
    chains = plan(["rich"], choices.arms_named(["care_v3_taught"]), [0, 1])
    assert [chain.arm for chain in chains] == ["care_v3", "care_v3", "care_v3_taught"]
    found.run([chains[0]], workers=1, on_done=lambda _: None)
    memory = found._taught(chains[2])
    record = found.records.get(chains[0].record)
    assert record is not None
    assert len(record["memory"]) == 2
    with CapabilityMemory(memory, read_only=True) as taught:
        assert [(entry.run, entry.delta) for entry in taught.entries()] == [
            (entry.run, entry.delta) for entry in map(Entry.from_dict, record["memory"])
        ]
    found.records.path(chains[0].record).unlink()
    with pytest.raises(RunError, match="needs what rich/care_v3-0 did, which has not been run"):
        found._taught(chains[2])


@pytest.mark.usefixtures("tiny")
def test_chains_run_once_and_are_written_down(tmp_path: Path) -> None:
    found = Study(tmp_path, quick=True)
    chains = plan(["rich"], ["es", "fixed_budget"], [0])
    done: list[Chain] = []
    found.run(chains, workers=2, on_done=done.append)
    assert done == chains
    assert not any((tmp_path / "running").rglob("run.json"))
    before = {chain: found.records.path(chain.record).read_bytes() for chain in chains}
    Study(tmp_path, quick=True).run(chains, workers=1, on_done=done.append)
    assert done == chains
    assert {chain: found.records.path(chain.record).read_bytes() for chain in chains} == before
    first, copied = (found.records.get(chain.record) for chain in chains)
    assert first is not None
    assert copied is not None
    steps = [campaign["steps"] for campaign in first["summary"]["campaigns"]]
    assert copied["config"]["planner"]["budgets"] == [round(sum(steps) / 2)] * 2
    shown = study("--quick", "--rebuild", "--seeds", "0", "--arms", "es", "--out", tmp_path, "--json")
    assert shown.exit_code == 0, shown.output
    results = json.loads(shown.stdout.splitlines()[-1])
    assert results == json.loads((tmp_path / "results.json").read_text())
    es = results["regimes"]["rich"]["arms"]["es"]
    assert set(es) >= {"end", "ci", "per_seed", "gap", "hindsight", "steps", "evaluation_samples", "seconds"}
    assert es["end"] == end(found.by_arm()["rich"]["es"][0])
    assert es["steps"] == sum(steps)
    for name in ("arms-rich.png", "campaigns-rich.png"):
        assert (tmp_path / name).stat().st_size > 1000
        assert f"![{name[:-4]}]({name})" in (tmp_path / "RESULTS.md").read_text()


def test_a_finished_run_without_a_record_is_not_run_again(tmp_path: Path) -> None:
    found = Study(tmp_path, quick=True)
    chain = Chain(regime="rich", arm="naive", seed=0)
    folder = tmp_path / "running" / str(chain)
    folder.mkdir(parents=True)
    row = {"campaign": 0, "step": 0, "heldout_passes": [1, 0], "heldout_unique": [2, 1], "heldout_well_formed": [2, 2]}
    row |= {"heldout_se": 0.123456, "evaluation_samples": 4, "heldout_samples": 2}
    row |= dict.fromkeys(("train_reward", "entropy", "length", "truncated", "unique_share", "zero_std_groups"))
    row |= {"grad_norm": None, "lr": 0.1, "sampled_tokens": None}
    row |= {"seconds": dict.fromkeys(("rollout", "grade", "update", "evaluate"), 1.0)}
    row |= {"decision": {"action": "continue", "rule": "none", "to_step": None, "reason": "no guard"}}
    run = {"config": {"sampling": {"prompts": 2, "group_size": 2}}, "versions": {}, "device": "cpu", "threads": 1}
    (folder / "run.json").write_text(json.dumps(run | {"isolation": "full"}))
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "summary.json").write_text("{}")
    found.run([chain], workers=1, on_done=lambda _: None)
    record = found.records.get(chain.record)
    assert record is not None
    assert [record[name] for name in ("heldout", "unique", "well_formed", "se")] == [[1], [3], [4], [0.123]]
    assert record["samples"] == [2]
    assert record["seconds"] == {"training": 3.0, "evaluate": 1.0}
    assert not folder.exists()


def made(arm: str, seed: int, audits: list[tuple[float, float, float, float]]) -> Record:
    """A record as a chain of three-step campaigns with these audited starts, peaks, ends and kept ones leaves it."""
    campaigns: list[dict[str, Any]] = [
        {"campaign": i, "steps": 3, "audit": dict(zip(("start", "peak", "end", "kept"), audit, strict=True))}
        for i, audit in enumerate(audits)
    ]
    rows = len(audits) * 4
    return {
        "regime": "rich",
        "arm": arm,
        "seed": seed,
        "config": {"tasks": {"heldout": 10}, "evaluate": {"samples": 16}},
        "summary": {"campaigns": campaigns, "audit": campaigns[-1]["audit"]},
        "campaign": [i for i in range(len(audits)) for _ in range(4)],
        "step": [0, 1, 2, 3] * len(audits),
        "heldout": [40, 80, 100, 10] * len(audits),
        "well_formed": [160, 160, 150, 90] * len(audits),
        "samples": [16] * rows,
        "se": [0.03] * rows,
        "signals": {name: [None, 0.4, 0.5, 0.6] * len(audits) for name in SIGNALS},
        "evaluated": [1] * rows,
        "evaluation_samples": 640,
        "training_samples": 384,
        "seconds": {"training": 5.0, "evaluate": 2.0},
        "decisions": [{"action": "roll_back"}],
    }


def test_numbers_of_hand_made_chains(tmp_path: Path) -> None:
    naive = [(0.3, 0.6, 0.1, 0.1), (0.1, 0.2, 0.0, 0.0)]
    guard = [(0.3, 0.5, 0.5, 0.5), (0.5, 0.7, 0.6, 0.68)]
    records = {
        "rich": {
            "naive": {0: made("naive", 0, naive), 1: made("naive", 1, naive)},
            "guard": {0: made("guard", 0, guard), 1: made("guard", 1, guard)},
        }
    }
    arms = judge(records)["regimes"]["rich"]["arms"]
    assert arms["naive"]["end"] == 0.0
    assert arms["naive"]["gap"] == pytest.approx((0.5 + 0.2) / 2)
    assert arms["naive"]["collapse_rate"] == 0.5  # a gap of exactly 0.20 is none
    assert arms["naive"]["worst_campaign"] == pytest.approx(-0.2)
    assert arms["guard"]["hindsight"] == pytest.approx(0.7)
    assert hindsight(records["rich"]["guard"][0]) == pytest.approx(0.7)
    assert arms["guard"]["share_of_hindsight"] == pytest.approx(0.68 / 0.7)
    assert arms["guard"]["trace_oracle"] == pytest.approx((0.5 + 0.7) / 2)
    assert arms["guard"]["over_naive"] == pytest.approx([0.68, 0.68, 0.68, 2])
    assert arms["guard"]["per_100_steps"] == pytest.approx(100 * 0.38 / 6)
    assert arms["naive"]["real_falls"] == 1.0
    assert arms["naive"]["onset"] == 3
    assert 0 < arms["naive"]["null_gap"] < 0.2
    text = tables("rich", arms)
    assert "| guard | 68.0 [68.0, 68.0] | +68.0 [+68.0, +68.0] |" in text
    assert figures({"regimes": {"rich": {"arms": arms}}}, records, tmp_path) == [
        "arms-rich.png",
        "campaigns-rich.png",
        "mechanism-rich.png",
    ]


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
    assert care_tables({"naive": records["naive"]}) == ""
    text = care_tables(records)
    assert (
        "| CARE v3 | 50.0 | 2 | +40.0 [+40.0, +40.0] | – | +30.0 [+30.0, +30.0] |  | 6 | 2 reuse, 1 adapt, 1 reject |"
        in text
    )
    assert "| CARE v3 | 0 | r3 a5×0.25@0 | 50.0 |" in text
    assert "| CARE v3 | 1 | r3 x0 | 50.0 |" in text
    assert text.index("| CARE v3 |") < text.index("| CARE v2 |")


def test_bad_input_is_refused(tmp_path: Path) -> None:
    for arguments, rule in (
        (["--arms", "nave"], "unknown arm 'nave': did you mean 'naive'?"),
        (["--regimes", "poor"], "unknown regime 'poor'"),
    ):
        result = study(*arguments, "--out", tmp_path / "study")
        assert isinstance(result.exception, ConfigError)
        assert rule in str(result.exception)
    assert "--seeds takes FIRST-LAST" in study("--seeds", "4-1", "--out", tmp_path / "study").output
    assert not (tmp_path / "study").exists()
    Study(tmp_path / "study", quick=True)
    with pytest.raises(RunError, match="another --out"):
        Study(tmp_path / "study", quick=False)


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


def test_a_curve_seen_with_few_samples_is_read_as_what_it_is() -> None:
    record = made("guard", 0, [(0.3, 0.5, 0.5, 0.5)])
    record |= {"samples": [1] * 4, "heldout": [3, 5, 9, 8]}
    assert trajectories(record)[0].pass1_E == pytest.approx([0.3, 0.5, 0.9, 0.8])


def test_an_oracle_is_chosen_by_one_half_of_the_samples_and_measured_by_the_other() -> None:
    record = made("guard", 0, [(0.3, 0.5, 0.5, 0.5), (0.5, 0.7, 0.6, 0.68)])
    first, second = (campaign["audit"] for campaign in record["summary"]["campaigns"])
    first["halves"] = {"start": [0.3, 0.3], "peak": [0.5, 0.5], "end": [0.5, 0.5], "kept": [0.5, 0.5]}
    second["halves"] = {"start": [0.5, 0.5], "peak": [0.8, 0.6], "end": [0.55, 0.65], "kept": [0.66, 0.7]}
    # the first half says peak, which the second has at 0.6; the second says kept, which the first has at 0.66
    assert hindsight(record) == pytest.approx((0.6 + 0.66) / 2)
    assert judge({"rich": {"guard": {0: record}}})["regimes"]["rich"]["arms"]["guard"]["flattered_oracle"] is False


def test_forks_start_from_one_checkpoint_and_go_on_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sr_cli.study.forks.FIRST_STEPS", 4)
    made = fork("rich", 0, TINY | {"optim.lr": 0.05})
    assert [look["step"] for look in made["looks"]] == [0, 2, 4]
    assert all(look["reference_logprob"] < 0 for look in made["looks"])
    assert made["looks"][0]["samples"][0]["prompt"].startswith("def ")
    assert made["step"] in (0, 2)
    ways = made["ways"]
    assert set(ways) == {name for name, way in WAYS.items() if not way.retired}
    assert ways["continue"]["start"] == ways["lr_half"]["start"] == ways["reset"]["start"]
    assert fork("rich", 0, TINY | {"optim.lr": 0.05}) == made
    Records(tmp_path).put("forks/rich/0", made)
    shown = study("--rebuild", "--forks", "1", "--out", tmp_path, "--json")
    assert shown.exit_code == 0, shown.output
    judged = json.loads(shown.stdout.splitlines()[-1])["forks"]["rich"]
    assert judged["ways"]["continue"]["over_continue"] == [0, 0, 0]
    assert judged["ways"]["guard"]["audit"] == ways["guard"]["audit"]
    assert judged["around"]["last look"]["pass1"] == made["looks"][-1]["pass1"]
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| guard without averaging |" in written
    assert made["looks"][0]["samples"][0]["completion"].strip() in written
    older = {name: way for name, way in ways.items() if name != "guard"}
    assert set(judge_forks([made, made | {"ways": older}])["ways"]) == set(older)


def test_a_fork_of_an_earlier_version_gets_the_ways_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sr_cli.study.forks.FIRST_STEPS", 2)
    monkeypatch.setattr("sr_cli.study.forks.WAYS", {name: WAYS[name] for name in ("continue", "lr_tenth", "guard")})
    settings = TINY | {"optim.lr": 0.05}
    whole = fork("rich", 0, settings)
    marked = whole["ways"]["continue"] | {"steps": -1}  # a record that says what no run would
    older = json.loads(json.dumps(whole | {"ways": {"continue": marked, "lr_tenth": whole["ways"]["lr_tenth"]}}))
    completed = fork("rich", 0, settings, known=older)
    assert completed == whole | {"ways": whole["ways"] | {"continue": marked}}
    elsewhere = older | {"looks": [look | {"pass1": 0.99} for look in older["looks"]]}
    assert fork("rich", 0, settings, known=elsewhere) == whole  # another checkpoint: all ways start there
