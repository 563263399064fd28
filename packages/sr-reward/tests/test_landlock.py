"""Landlock's rights by version of its interface, those of kernels to come among them."""

import struct
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("Landlock is Linux's", allow_module_level=True)

from sr_reward.sandbox.child import kernel, landlock


@pytest.mark.parametrize(
    ("version", "rights"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (8, 16), (9, 17), (99, 17)]
)
def test_only_known_rights_are_handled_and_granted(monkeypatch, tmp_path, version, rights):
    """A kernel refuses a rule set or a rule with a right it does not know, and one that is not handled."""
    calls = []

    def syscall(name, number, *args):
        calls.append((name, args))
        if name == "landlock_create_ruleset" and args[0] is None:
            return version
        return 100 if name == "landlock_create_ruleset" else 0

    monkeypatch.setattr(kernel, "syscall", syscall)
    monkeypatch.setattr(landlock.os, "close", lambda descriptor: None)
    file = tmp_path / "file"
    file.write_text("")
    landlock.restrict([str(tmp_path)], [str(tmp_path), str(file)])
    (attributes,) = [args[0].raw for name, args in calls if name == "landlock_create_ruleset" and args[0] is not None]
    handled = struct.unpack_from("<Q", attributes)[0]
    assert handled == (1 << rights) - 1
    granted = [struct.unpack_from("<Q", args[2].raw)[0] for name, args in calls if name == "landlock_add_rule"]
    assert len(granted) == 3
    assert all(each & ~handled == 0 and each < 1 << 16 for each in granted)
    assert len(attributes) == 8 * (1 + (version >= 4) + (version >= 6))
