"""``sr sandbox``: the isolation here, and the attacks on it."""

import json
import subprocess
import sys


def sr_sandbox(*args):
    return subprocess.run(
        [sys.executable, "-m", "sr_cli", "sandbox", *args], capture_output=True, text=True, timeout=120, check=False
    )


def test_check_names_every_part_and_the_level():
    done = sr_sandbox("check", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = {feature["name"] for feature in found["features"]}
    assert {"limits", "user-namespace", "landlock", "seccomp", "level full", "level landlock"} <= names
    assert found["isolation"] in ("full", "landlock", "limits")
    assert found["verdicts_safe"] == (found["isolation"] != "limits")
    (limits,) = [feature for feature in found["features"] if feature["name"] == "level limits"]
    assert "no verdict safe" in limits["found"]
    assert all(feature["available"] or feature["advice"] for feature in found["features"])
    text = sr_sandbox("check").stdout
    assert all(name in text for name in names)


def test_attack_reports_each_attack_with_its_control():
    done = sr_sandbox("attack", "--json", "--group", "environment secrets")
    assert done.returncode in (0, 1)
    found = json.loads(done.stdout)
    assert found["attacks"] == len(found["findings"]) >= 5
    assert done.returncode == (1 if found["breaches"] else 0)
    if found["isolation"] == "full":
        assert found["breaches"] == []


def test_an_unknown_group_is_one_line():
    done = sr_sandbox("attack", "--group", "nonsense")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
