# ruff: noqa: E501  # programs as text read better unbroken
"""Attacks on the machine: memory, processes and threads, time, output, disk. All are bounded: without isolation each
one takes what it proves with, for a moment, and gives it back."""

from __future__ import annotations

from sr_reward.attacks.model import Attack
from sr_reward.attacks.reaching import _LIBC, _f

_BIG = 280 << 20  # beyond the suite's memory limit of 256 MiB
_TOUCH = f"for place in range(0, {_BIG}, 4096): held[place] = 1\nreturn True"  # what is only reserved takes nothing


def _returns(group: str, made: dict[str, str], **more: str) -> list[Attack]:
    return [Attack(group=group, name=name, program=program) for name, program in made.items()]


_MEMORY = _returns(
    "memory bombs",
    {
        "bytearray": _f(f"return len(bytearray({_BIG})) > 0"),
        "list": _f(f"return len([None] * ({_BIG} // 8)) > 0"),
        "string": _f(f"return len('x' * {_BIG}) > 0"),
        "anonymous mmap": _f(f"import mmap\nheld = mmap.mmap(-1, {_BIG})\n" + _TOUCH),
        "shared mmap": _f(f"import mmap\nheld = mmap.mmap(-1, {_BIG}, mmap.MAP_SHARED)\n" + _TOUCH),
        "malloc": _LIBC
        + _f(
            f"libc.malloc.restype = ctypes.c_void_p\nheld = libc.malloc(ctypes.c_size_t({_BIG}))\n"
            f"if held is not None: ctypes.memset(held, 1, {_BIG})\nreturn held is not None"
        ),
        "big power": _f("return (1 << (8 * 280 * 2**20)).bit_length() > 0"),
        "memory file": _f(
            "fds = [os.memfd_create('m') for _ in range(40)]\n[os.ftruncate(fd, 8 << 20) for fd in fds]\nreturn True"
        ),
        "raise the limit": _f(
            "import resource\nhuge = resource.RLIM_INFINITY\nresource.setrlimit(resource.RLIMIT_AS, (huge, huge))\n"
            f"return len(bytearray({_BIG})) > 0"
        ),
        "kernel pipes": _f(
            "import fcntl\nends = [os.pipe() for _ in range(200)]\n"
            "[fcntl.fcntl(w, 1031, 1 << 16) for _, w in ends]\nreturn len(ends) == 200"
        ),
    },
)

_PROCESSES = _returns(
    "fork and thread bombs",
    {
        "fork": _f(
            "import time\nchildren = []\nfor _ in range(20):\n    pid = os.fork()\n    if pid == 0: time.sleep(0.2); os._exit(0)\n"
            "    children.append(pid)\nfor pid in children: os.waitpid(pid, 0)\nreturn len(children) == 20"
        ),
        "fork by system call": _LIBC
        + _f(
            "pid = libc.syscall(57)\nif pid == 0: os._exit(0)\nif pid < 0: return False\nos.waitpid(pid, 0)\nreturn True"
        ),
        "vfork": _LIBC + _f("import subprocess\nreturn subprocess.run(['true']).returncode == 0"),
        "clone": _LIBC
        + _f(
            "pid = libc.syscall(56, 17, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nif pid < 0: return False\nos.waitpid(pid, 0)\nreturn True"
        ),
        "clone3": _LIBC
        + _f(
            "args = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17, 0, 0, 0)\npid = libc.syscall(435, args, 64)\n"
            "if pid == 0: os._exit(0)\nif pid < 0: return False\nos.waitpid(pid, 0)\nreturn True"
        ),
        "posix_spawn": _f("pid = os.posix_spawn('/bin/true', ['true'], {})\nreturn os.waitpid(pid, 0)[1] == 0"),
        "multiprocessing": _f(
            "import multiprocessing as m\np = m.get_context('fork').Process(target=int)\np.start(); p.join()\nreturn p.exitcode == 0"
        ),
        "threads": _f(
            "import threading\nthreading.stack_size(1 << 15)\ngate = threading.Event()\n"
            "made = []\ntry:\n    for _ in range(300):\n        t = threading.Thread(target=gate.wait, daemon=True); t.start(); made.append(t)\n"
            "finally:\n    gate.set()\nreturn len(made) == 300"
        ),
    },
)

_TIME = _returns(
    "time",
    {
        "busy loop": _f(
            "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\nreturn True"
        ),
        "sleep": _f("import time\ntime.sleep(1.6)\nreturn True"),
        "short sleeps": _f("import time\nfor _ in range(300): time.sleep(0.01)\nreturn True"),
        "ignored signals": _f(
            "import signal, time\nfor s in (signal.SIGXCPU, signal.SIGTERM, signal.SIGALRM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\n"
            "end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\nreturn True"
        ),
        "many threads": _f(
            "import threading, time\ndef spin():\n    end = time.thread_time() + 0.2\n    while time.thread_time() < end: pass\n"
            "ts = [threading.Thread(target=spin) for _ in range(3)]\n[t.start() for t in ts]\n[t.join() for t in ts]\nreturn True"
        ),
        "one long call": _f(
            "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: sum(range(10**6))\nreturn True"
        ),
        "a closed channel": _f(
            "import time\nos.close(3) if not os.isatty(3) else None\nend = time.process_time() + 0.5\n"
            "while time.process_time() < end: pass\nopen(args[0], 'w').close()",
        ),
        "a caught exception": _f(
            "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end:\n    try: raise KeyboardInterrupt\n"
            "    except BaseException: pass\nreturn True"
        ),
    },
)
_TIME = [
    attack
    if attack.name != "a closed channel"
    else Attack(group=attack.group, name=attack.name, program=attack.program, args=("new_path",), effect="file_made")
    for attack in _TIME
]

_FLOOD = 8 << 20
_OUTPUT = [
    Attack(group="output floods", name="print", program=f"print('x' * {_FLOOD})\n", prints="x" * _FLOOD),
    Attack(
        group="output floods",
        name="many writes",
        program=f"import os\nfor _ in range({_FLOOD} // 4096): os.write(1, b'x' * 4096)\n",
        prints="x" * _FLOOD,
    ),
    Attack(group="output floods", name="return value", program=_f(f"return 'x' * {_FLOOD}"), expected="x" * _FLOOD),
    Attack(
        group="output floods",
        name="many values",
        program=_f("return list(range(10 ** 6, 10 ** 6 + 540000))"),
        expected=list(range(10**6, 10**6 + 540000)),
    ),
]

_WHERE = "there = args[0] if os.path.isdir(args[0]) else '/tmp'\n"
_DISK = [
    Attack(group="disk filling", name=name, program=program, args=("folder",))
    for name, program in {
        "one file": _f(
            _WHERE
            + "with open(there + '/big', 'wb') as file:\n    for _ in range(40): file.write(bytes(1 << 20))\nos.unlink(there + '/big')\nreturn True"
        ),
        "several files": _f(
            _WHERE + "for i in range(5):\n    with open(f'{there}/part{i}', 'wb') as file: file.write(bytes(8 << 20))\n"
            "for i in range(5): os.unlink(f'{there}/part{i}')\nreturn True"
        ),
        "many files": _f(
            _WHERE + "for i in range(1200): open(f'{there}/f{i}', 'w').close()\n"
            "for i in range(1200): os.unlink(f'{there}/f{i}')\nreturn True"
        ),
        "sparse file": _f(
            _WHERE
            + "with open(there + '/sparse', 'wb') as file: file.truncate(1 << 40)\nos.unlink(there + '/sparse')\nreturn True"
        ),
        "open files": _f("kept = [open('/dev/null') for _ in range(900)]\nreturn len(kept) == 900"),
    }.items()
]

EXHAUSTING = (*_MEMORY, *_PROCESSES, *_TIME, *_OUTPUT, *_DISK)
