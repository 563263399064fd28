"""Every attack is contained at the level full, and every attack works where nothing isolates it."""

import os

import pytest

from sr_reward import IsolationError
from sr_reward.attacks import ATTACKS, run_suite
from sr_reward.sandbox.worker import Worker


def available(level):
    try:
        Worker(level=level, kind="slim").kill()
    except IsolationError:
        return False
    return True


def test_there_are_at_least_eighty_attacks_with_names_of_their_own():
    assert len(ATTACKS) >= 80
    assert len({(a.group, a.name, a.asserts) for a in ATTACKS}) == len(ATTACKS)


@pytest.mark.skipif(not available("full"), reason="needs user namespaces (sr sandbox check says how)")
def test_every_attack_is_contained_at_full_and_its_control_succeeds():
    findings = run_suite(ATTACKS, levels=("full",))
    assert [f"{f.attack.group}: {f.attack.name}" for f in findings if not f.contained["full"]] == []
    if os.geteuid() == 0:  # some attacks need rights that only root has in the first place
        assert [f"{f.attack.group}: {f.attack.name}" for f in findings if not f.control] == []


@pytest.mark.skipif(not available("landlock"), reason="needs Landlock (Linux 5.13)")
@pytest.mark.parametrize(
    "group", ["reading tests and secrets", "network", "killing and tracing", "daemons", "symlinks and /proc"]
)
def test_landlock_contains_what_reaches_out(group):
    chosen = [attack for attack in ATTACKS if attack.group == group]
    findings = run_suite(chosen, levels=("landlock",), controls=False)
    assert [f.attack.name for f in findings if not f.contained["landlock"]] == []


def test_limits_contain_what_forges_and_what_exhausts_memory():
    groups = ("type confusion", "monkeypatching", "import hooks", "encoding attacks")
    chosen = [attack for attack in ATTACKS if attack.group in groups]
    findings = run_suite(chosen, levels=("limits",), controls=False)
    assert [f.attack.name for f in findings if not f.contained["limits"]] == []
