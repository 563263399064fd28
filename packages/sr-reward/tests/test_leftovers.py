"""What remains when a grader has closed: no process, at any level, whatever its programs did."""

import subprocess
import sys
import textwrap

import pytest

from sr_reward.sandbox.check import check_isolation

if sys.platform != "linux":
    pytest.skip("these are Linux's process trees", allow_module_level=True)

AVAILABLE = {feature.name for feature in check_isolation() if feature.available}

# orphans of this process's descendants become its own children, as with a container's process 1
SCRIPT = """
import ctypes, os, sys, time
from sr_reward import CallCase, CallTests, CodeGrader, Task
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
task = Task(
    task_id="t", prompt="def f(x):\\n", entry_point="f", tests=CallTests(cases=(CallCase(args=(2,), expected=4),))
)
with CodeGrader(workers=1, timeout_s=20.0, isolation=sys.argv[1]) as grader:
    grader.grade([task], ["```\\ndef f(x):\\n    return 2 * x\\n```"])
    stream = grader.stream([task] * 2, ["    return 2 * x\\n", sys.argv[2]])
    print(next(stream)[1].outcome)
    time.sleep(0.3)
    stream.close()
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    try:
        print("left", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("nothing left")
        break
    time.sleep(0.2)
"""
SPIN = "    while True: pass\n"
OUTLIVE = "    import ctypes\n    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n    while True: pass\n"


@pytest.mark.parametrize(
    ("level", "program"),
    [("full", SPIN), ("full", OUTLIVE), ("landlock", SPIN), ("landlock", OUTLIVE), ("limits", SPIN)],
)
def test_a_closed_grader_has_reaped_everything(level, program):
    if f"level {level}" not in AVAILABLE:
        pytest.skip(f"level {level} is not available here")
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), level, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["passed", "nothing left"], done.stderr
