# ruff: noqa: E501  # programs as text read better unbroken
"""Attacks that outlive their program, and attacks on the channel by which outputs come back."""

from __future__ import annotations

from sr_reward.attacks.model import EXIT_CODE, NAIVE_JSON, PICKLE, Attack
from sr_reward.attacks.reaching import _LIBC, _f

_DAEMONS = [
    Attack(group="daemons", name=name, program=program, args=("new_path",), effect="file_made_later")
    for name, program in {
        "fork": _f(
            "import time\nif os.fork() == 0:\n    time.sleep(0.3)\n    open(args[0], 'w').close()\n    os._exit(0)"
        ),
        "setsid": _f(
            "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(0.3)\n    open(args[0], 'w').close()\n    os._exit(0)"
        ),
        "double fork": _f(
            "import time\nif os.fork() == 0:\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(0.3)\n"
            "        open(args[0], 'w').close()\n    os._exit(0)\nos.wait()"
        ),
        "subprocess": _f(
            "import subprocess\nsubprocess.Popen(['sh', '-c', f'sleep 0.3; touch {args[0]}'], start_new_session=True)"
        ),
        "held channel": _f(
            "import time\nif os.fork() == 0:\n    os.dup2(3, 200)\n    time.sleep(0.3)\n    open(args[0], 'w').close()\n    time.sleep(0.5)\n    os._exit(0)"
        ),
    }.items()
]


def _left(name: str, leave: str, look: str, args: tuple[str, ...] = ()) -> Attack:
    return Attack(group="state bleeding", name=name, program=look, before=(leave,), args=args)


_STATE = [
    _left(
        "a file in /tmp",
        _f("open('/tmp/sr-suite-left', 'w').close()"),
        _f("found = os.path.exists('/tmp/sr-suite-left')\nif found: os.unlink('/tmp/sr-suite-left')\nreturn found"),
    ),
    _left(
        "a folder without rights",
        _f(
            "os.makedirs('/tmp/sr-suite-dir/in')\nos.chmod('/tmp/sr-suite-dir/in', 0)\nos.chmod('/tmp/sr-suite-dir', 0)"
        ),
        _f(
            "found = os.path.exists('/tmp/sr-suite-dir')\nif found: os.chmod('/tmp/sr-suite-dir', 0o700); os.rmdir('/tmp/sr-suite-dir/in'); os.rmdir('/tmp/sr-suite-dir')\nreturn found"
        ),
    ),
    _left(
        "deep folders",
        _f(
            "os.makedirs('/tmp/sr-suite-deep')\nos.chdir('/tmp/sr-suite-deep')\nfor _ in range(300): os.mkdir('d' * 200); os.chdir('d' * 200)"
        ),
        _f("return os.path.exists('/tmp/sr-suite-deep')"),
    ),
    _left(
        "a fifo and a link",
        _f("os.mkfifo('/tmp/sr-suite-fifo')"),
        _f("found = os.path.exists('/tmp/sr-suite-fifo')\nif found: os.unlink('/tmp/sr-suite-fifo')\nreturn found"),
    ),
    _left(
        "System V memory",
        _LIBC + _f("libc.shmget(0x5123, 4096, 0o1666)"),
        _LIBC
        + _f("found = libc.shmget(0x5123, 4096, 0o666)\nif found >= 0: libc.shmctl(found, 0, None)\nreturn found >= 0"),
    ),
    _left(
        "System V messages",
        _LIBC + _f("libc.msgget(0x5124, 0o1666)"),
        _LIBC + _f("found = libc.msgget(0x5124, 0o666)\nif found >= 0: libc.msgctl(found, 0, None)\nreturn found >= 0"),
    ),
    _left(
        "POSIX memory",
        _f("open('/dev/shm/sr-suite', 'w').close()"),
        _f("found = os.path.exists('/dev/shm/sr-suite')\nif found: os.unlink('/dev/shm/sr-suite')\nreturn found"),
    ),
    _left(
        "a changed library",
        _f("import abc\nopen(os.path.dirname(abc.__file__) + '/sr_suite_left.py', 'w').close()"),
        _f(
            "import abc\npath = os.path.dirname(abc.__file__) + '/sr_suite_left.py'\nfound = os.path.exists(path)\nif found: os.unlink(path)\nreturn found"
        ),
    ),
] + [
    # without a process of its own for every program the next one finds what this one changed
    Attack(
        group="state bleeding",
        name=name,
        program=f"def f(x):\n    {look}\n",
        before=(f"def f(x):\n    {leave}\n",),
        control=EXIT_CODE,
        asserts="assert f(1) is True\n",
    )
    for name, leave, look in (
        ("builtins", "import builtins; builtins.left = x", "import builtins; return hasattr(builtins, 'left')"),
        ("modules", "import math; math.left = x", "import math; return hasattr(math, 'left')"),
        ("environment", "import os; os.environ['LEFT'] = 'x'", "import os; return 'LEFT' in os.environ"),
        (
            "threads",
            "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
            "import threading; return threading.active_count() > 1",
        ),
        (
            "recursion limit",
            "import sys; sys.setrecursionlimit(4321)",
            "import sys; return sys.getrecursionlimit() == 4321",
        ),
        (
            "working folder",
            "import os; os.chdir('/')or os.makedirs('/tmp/sr-suite-cwd', exist_ok=True) or os.chdir('/tmp/sr-suite-cwd')",
            "import os; return os.getcwd().endswith('sr-suite-cwd')",
        ),
        (
            "codecs",
            "import codecs; codecs.register(lambda n: codecs.lookup('ascii') if n == 'left' else None)",
            "import codecs; return codecs.lookup('left') is not None",
        ),
    )
]


def _raw(data: str) -> str:
    """Write to the channel in place of an answer and end."""
    return f"import os\ndef f(*args):\n    data = {data}\n    while data: data = data[os.write(3, data):]\n    os._exit(0)\n"


_CHANNEL = [
    Attack(
        group="encoding attacks",
        name="pickle that runs",
        program="import os, pickle\nclass Run:\n    def __init__(self, path): self.path = path\n    def __reduce__(self): return open, (self.path, 'w')\n"
        "def f(path):\n    data = pickle.dumps(Run(path))\n    os.write(3, data)\n    os._exit(0)\n",
        args=("new_path",),
        control=PICKLE,
        effect="file_made",
    ),
    *(
        Attack(group="encoding attacks", name=name, program=_raw(data), control=NAIVE_JSON)
        for name, data in {
            "deep lists": "b'[' * 200000",
            "deep tags": "b'{\"t\":[' * 100000",
            "truncated": "b'[[1,{\"d\":[[1,'",
            "empty": "b'' or b' '",
            "not text": "b'\\xff\\xfe\\x00' * 9",
            "huge number": "b'[[1,' + b'9' * 100000 + b']]'",
            "bad escape": "b'\"\\\\ud8'",
            "not a list": "b'1e999'",
            "wrong shape": "b'[[1]]'",
            "two answers": "b'[[1,true]][[1,true]]'",
            "unknown tag": 'b\'[[1,{"__class__":"os"}]]\'',
            "duplicate tags": 'b\'[[1,{"t":[],"t":[1]}]]\'',
            "unhashable keys": "b'[[1,{\"d\":[[[1],2]]}]]'",
            "null bytes": "b'\\x00' * 4096",
        }.items()
    ),
    Attack(
        group="encoding attacks",
        name="colliding hashes",
        program=_raw(
            "(lambda n: b'[[1,{\"s\":[' + b','.join(b'%d' % (i * (2**61 - 1)) for i in range(n)) + b']}]]')(8000)"
        ),
        control=NAIVE_JSON,
    ),
]

LASTING = (*_DAEMONS, *_STATE, *_CHANNEL)
