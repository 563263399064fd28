"""Studies: a file declares arms and regimes, chains run once, copy budgets and memories, and are written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sr_care import CapabilityMemory, Entry
from sr_cli.commands.study import command
from sr_cli.studies import config_of, make_spec, open_study, read_spec
from sr_core.errors import ConfigError, RunError
from sr_core.studies.jobs import Chain, why_it_failed
from sr_core.studies.spec import StudySpec, modern
from sr_reward.task import CallTests
from sr_reward.testbed import load_testbed

ROOT = Path(__file__).parents[3]
TINY: dict[str, Any] = {
    "campaign": {"count": 2, "steps": 2},
    "sampling": {"prompts": 2, "group_size": 2},
    "tasks": {"train": 4, "heldout": 3, "audit": 3, "ood": 3},
    "evaluate": {"samples": 2, "audit_samples": 2},
    "sandbox": {"workers": 1},
}
EARLY = {"guard": {"name": "early_stop"}}
CARE = {"planner": {"name": "care", "version": "v3"}}
FIXED = {"planner": {"name": "schedule"}, "budget_from": "es"}
ARMS: dict[str, Any] = {
    "taught": {**CARE, "memory_from": "care", "memory_seeds": [0]},
    "naive": {},
    "es": {**EARLY, "label": "ES"},
    "mean": FIXED,
    "shuffled": {**FIXED, "budget_as": "shuffled", "seeds": 1},
    "evaluations": {**EARLY, "budget_from": "es", "budget_as": "evaluations"},
    "care": CARE,
    "gone": {"retired": "its option is gone"},
}


def spec(**changes: Any) -> StudySpec:
    return make_spec({"settings": TINY, "regimes": {"rich": {"optim": {"lr": 0.05}}}, "arms": ARMS, **changes})


def test_later_settings_win_and_another_variant_replaces_what_it_does_not_have() -> None:
    study = make_spec(
        {
            "record_every": 7,
            "settings": {"algorithm": {"name": "grpo", "clip": 0.1, "entropy_bonus": 0.2}, "optim": {"lr": 1.0}},
            "regimes": {"slow": {"preset": "testbed-fragile", "optim": {"lr": 0.1}}},
            "quick": {"campaign": {"steps": 3}, "seeds": 1},
            "arms": {
                "a": {"algorithm": {"name": "topr"}},
                "b": {"guard": {"name": "collapse"}, "seeds": 2},
                "c": {"evaluate": {"every": 3}},
            },
        },
        quick=True,
    )
    a, b, c = (config_of(study, "slow", name) for name in ("a", "b", "c"))
    assert (a.train.algorithm.name, a.train.algorithm.entropy_bonus, b.train.algorithm.name) == ("topr", 0.2, "grpo")
    assert (a.train.optim.lr, a.train.campaign.steps, a.train.policy.path) == (0.1, 3, "pocket-fragile")
    assert (study.decides("a"), study.decides("b")) == (False, True)
    assert (a.train.evaluate.every, b.train.evaluate.every) == (7, 2)  # for the record only; the preset's
    assert c.train.evaluate.every == 3  # its own


def test_controls_copy_what_the_other_arm_did() -> None:
    study, steps = spec(), [20, 4, 7, 7]
    assert study.copied("mean", steps, 42, 0, 20) == {"planner": {"budgets": [10] * 4}}  # mean 9.5
    assert sorted(study.copied("shuffled", steps, 42, 0, 20)["planner"]["budgets"]) == sorted(steps)
    assert study.copied("evaluations", steps, 16, 0, 20) == {"evaluate": {"every": 5}}  # 80 steps, 16 evaluations
    assert study.copied("evaluations", [12] * 3, 36, 0, 12) == {"evaluate": {"every": 1}}


def test_an_arm_that_copies_brings_the_one_it_copies_first() -> None:
    study = spec()
    assert study.with_sources(["mean", "naive"]) == ["naive", "es", "mean"]
    assert study.with_sources(["taught"]) == ["care", "taught"]


def test_a_study_cut_short_has_the_same_seeds_of_all_arms(tmp_path: Path) -> None:
    study = open_study(spec(regimes={"rich": {}, "fragile": {}}), tmp_path)
    chains = study.plan(["rich", "fragile"], ["naive", "shuffled", "gone"], [0, 1, 2])
    assert [str(chain) for chain in chains[:4]] == [
        "rich/naive-0",
        "rich/shuffled-0",
        "fragile/naive-0",
        "fragile/shuffled-0",
    ]
    assert sum(chain.arm == "shuffled" for chain in chains) == 2  # it takes one seed
    assert sum(chain.arm == "naive" for chain in chains) == 2 * 3
    assert {chain.seed for chain in study.plan(["rich"], ["taught"], [0, 1, 2])} == {1, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"a": {"gaurd": {"name": "collapse"}}}}, r"unknown key arms.a.gaurd: did you mean 'guard'\?"),
        ({"arms": {"a": {"guard": {"margin": 0.2}}}}, r"arm a in regime rich: guard.margin belongs to .* 'collapse'"),
        ({"arms": {"a": {"budget_from": "b"}}}, "unknown arm 'b'"),
        ({"arms": {"a": {"budget_as": "median"}}}, "arms.a.budget_as must be one of 'mean'"),
        ({"arms": {}}, "a study must declare at least one arm"),
        ({"arm": {}}, "unknown key arm of a study: did you mean 'arms'"),
        ({"compare": ["naiv"]}, "unknown arm 'naiv': did you mean 'naive'"),
        ({"default_regimes": ["reich"]}, "unknown regime 'reich': did you mean 'rich'"),
        ({"regimes": {"rich": {"preset": "testbad"}}}, "unknown preset 'testbad'"),
        ({"settings": {"optin": {}}}, "unknown section settings.optin: did you mean 'optim'"),
        ({"settings": {"tasks": {"audit": 0}}}, r"a study compares arms on the audit set.*set tasks.audit"),
    ],
)
def test_a_bad_study_is_named_with_its_rule_and_the_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec(**changes)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('[arms.naive]\n[arms.es]\nguard.name = "early_stop"\n')
    for arguments, rule in (
        (["--arms", "nave"], "unknown arm 'nave': did you mean 'naive'?"),
        (["--regimes", "poor"], "unknown regime 'poor'"),
        (["--quick"], "the study has no table [quick]"),
    ):
        result = study(file, *arguments, "--out", tmp_path / "study")
        assert isinstance(result.exception, ConfigError)
        assert rule in str(result.exception)
    assert "--seeds takes FIRST-LAST" in study(file, "--seeds", "4-1", "--out", tmp_path / "study").output
    assert isinstance(study(tmp_path / "none.toml", "--out", tmp_path / "study").exception, ConfigError)
    assert not (tmp_path / "study").exists()


def study(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_configuration_of_an_earlier_version_is_read_with_todays_names() -> None:
    old = {"controller": {"name": "es", "mode": "patience", "patience": 5}, "penalty": {"name": "strong_kl"}}
    now = modern(old)
    assert (now["guard"]["name"], now["guard"]["patience"], now["planner"]["name"]) == ("early_stop", 5, "none")
    assert now["penalty"]["name"] == "kl"
    budget = {"controller": {"name": "guard", "evaluation": "budget", "share": 0.3}}
    assert (modern(budget)["guard"]["name"], modern(budget)["guard"]["budget"]) == ("collapse", 0.3)
    assert modern({"controller": {"name": "care", "version": "v2"}})["planner"]["version"] == "v2"
    assert old["penalty"]["name"] == "strong_kl"


def record(chain: Chain, config: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"regime": chain.regime, "arm": chain.arm, "seed": chain.seed, "config": config, **values}


def test_a_record_of_other_settings_is_refused_and_its_budgets_are_copied(tmp_path: Path) -> None:
    found = open_study(spec(), tmp_path)
    es, mean = (Chain(regime="rich", arm=name, seed=0) for name in ("es", "mean"))
    assert not found.done(es)
    with pytest.raises(RunError, match="needs what rich/es-0 did, which has not been run"):
        found._copied(mean)
    config = config_of(found.spec, "rich", "es").plain()
    campaigns = {"campaigns": [{"steps": 1}, {"steps": 2}]}
    found.records.put(es.record, record(es, config, summary=campaigns, evaluated=[1, 0, 1]))
    assert found.done(es)
    assert found._copied(mean) == {"planner": {"budgets": [2, 2]}}
    found.records.put(es.record, record(es, config | {"optim": config["optim"] | {"lr": 0.1}}))
    with pytest.raises(RunError, match=r"rich/es-0 with other settings \(optim.lr = 0.1, not 0.05\): choose another"):
        found.done(es)


def test_a_taught_chain_begins_with_what_its_teachers_remember(tmp_path: Path) -> None:
    found = open_study(spec(), tmp_path)
    chains = found.plan(["rich"], found.spec.with_sources(["taught"]), [0, 1])
    assert [str(chain) for chain in chains] == ["rich/care-0", "rich/care-1", "rich/taught-1"]
    found.run([chains[0]], workers=1, on_done=lambda _: None)
    memory = found._taught(chains[2])
    kept = found.records.get(chains[0].record)
    assert kept is not None
    assert len(kept["memory"]) == 2
    with CapabilityMemory(memory, read_only=True) as taught:
        assert [(entry.run, entry.delta) for entry in taught.entries()] == [
            (entry.run, entry.delta) for entry in map(Entry.from_dict, kept["memory"])
        ]
    found.records.path(chains[0].record).unlink()
    with pytest.raises(RunError, match="needs what rich/care-0 did, which has not been run"):
        found._taught(chains[2])


def native_rows(count: int) -> Iterator[dict[str, Any]]:
    """Tasks of the testbed as a task file has them."""
    for task in load_testbed().train[:count]:
        assert isinstance(task.tests, CallTests)
        cases = [{"args": case.args, "kwargs": {}, "expected": case.expected} for case in task.tests.cases]
        tests = {"kind": "calls", "cases": cases}
        yield {"task_id": task.task_id, "prompt": task.prompt, "entry_point": task.entry_point, "tests": tests}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed, as a system does that runs out of memory"),
        ("import os; os.kill(os.getpid(), 15)", "ended by SIGTERM"),
        ("import sys; sys.exit('warning\\nsr: no space left\\n')", "no space left"),
    ],
)
def test_a_process_that_failed_says_why(program: str, reason: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert why_it_failed(done.returncode, "campaign 0 step 3\n" * (done.returncode < 0) + done.stderr).endswith(reason)


@pytest.mark.nightly  # starts three chains, twice
def test_a_study_of_ones_own_tasks_runs_once_and_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in native_rows(40)))
    example = str(ROOT / "docs" / "own-tasks.toml")
    arguments = [
        "study",
        example,
        "--quick",
        "--regimes",
        "fast",
        "--arms",
        "plain,same_steps",
        "--out",
        "own",
        "--json",
    ]

    def sr() -> subprocess.CompletedProcess[str]:
        process = [sys.executable, "-m", "sr_cli", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(process, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    first = sr()
    assert first.returncode == 0, first.stderr
    assert "3 chains, 0 of them done" in first.stderr  # the arm whose budgets are copied comes along
    results = json.loads(first.stdout)
    assert results == json.loads((tmp_path / "own" / "results.json").read_text())
    arms = results["regimes"]["fast"]["arms"]
    assert list(arms) == ["plain", "guarded", "same_steps"]
    for arm in arms.values():
        assert set(arm) >= {"end", "ci", "per_seed", "gap", "hindsight", "steps", "evaluation_samples", "seconds"}
        assert arm["over_plain"][3] == 1
    assert arms["same_steps"]["steps"] == round(arms["guarded"]["steps"])
    kept = open_study(read_spec(Path(example), quick=True), tmp_path / "own").by_arm()["fast"]
    assert arms["plain"]["end"] == kept["plain"][0]["summary"]["audit"]["kept"]
    assert "| GRPO, guard |" in (tmp_path / "own" / "RESULTS.md").read_text()
    assert (tmp_path / "own" / "arms-fast.png").stat().st_size > 1000
    assert not any((tmp_path / "own" / "running").rglob("run.json"))
    before = {path: path.read_bytes() for path in (tmp_path / "own" / "chains").rglob("*.gz")}
    again = sr()
    assert "3 chains, 3 of them done" in again.stderr
    assert json.loads(again.stdout) == results
    assert {path: path.read_bytes() for path in before} == before
