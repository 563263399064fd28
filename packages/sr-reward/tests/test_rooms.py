"""Rooms import in one direction, and what is loaded before a fork stays small."""

import ast
import os
import subprocess
from pathlib import Path

import sr_reward
from sr_reward.sandbox.worker import interpreter

PACKAGE = Path(sr_reward.__file__).parent
# each imports itself and those before it only
ORDER = (
    "errors",
    "canonical",
    "rules",
    "sandbox.child",
    "sandbox",
    "task",
    "testbed",
    "formats",
    "prompts",
    "grading",
    "attacks",
    "integrations",
)
HEAVY = {"re", "typing", "dataclasses", "json", "signal", "socket", "inspect", "ast", "enum", "threading"}


LOADED = """
import sys
for name, path in (("sr_reward", sys.argv[1]), ("sr_reward.sandbox", sys.argv[1] + "/sandbox")):
    package = type(sys)(name)
    package.__path__ = [path]
    sys.modules[name] = package
import sr_reward.sandbox.child.zygote
print(*sys.modules)
"""


def room_of(parts):
    """The room of a module, given by the parts of its name below sr_reward; None for the package itself."""
    name = ".".join(parts)
    found = [room for room in ORDER if name == room or name.startswith(room + ".")]
    return max(found, key=len) if found else None


def test_rooms_import_in_one_direction():
    seen = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
        if room is None:  # the package's own __init__, which shows what users need
            continue
        seen.add(room)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sr_reward."):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("sr_reward.")]
            else:
                continue
            for name in names:
                other = room_of(name.split(".")[1:])
                assert other is not None, f"{path}: {name}"
                assert ORDER.index(other) <= ORDER.index(room), f"{path}: {name}"
    assert seen == set(ORDER)


def test_what_a_fork_copies_is_small():
    """The size of the forked interpreter decides how many programs per second it can run."""
    command = [interpreter(), "-s", "-S", "-B", "-c", LOADED, str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.defpath})
    loaded = set(done.stdout.split())
    assert "sr_reward.sandbox.child.program" in loaded
    assert not loaded & HEAVY
