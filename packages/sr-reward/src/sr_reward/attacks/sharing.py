# ruff: noqa: E501  # programs as text read better unbroken
"""Attacks on what the kernel shares between programs, workers and the host: open files, locks, leases, attributes,
watches, and what it counts per user."""

from __future__ import annotations

from sr_reward.attacks.lasting import _left
from sr_reward.attacks.model import Attack
from sr_reward.attacks.reaching import _LIBC, _f, _group

_FCNTL = "import fcntl, struct\n"
_LOCK = "struct.pack('hhqqi4x', 1, 0, 4242, 17, 0)"  # a write lock of 17 bytes

_STATE = [
    _left(
        "a lock on the null device",
        _f(f"fcntl.fcntl(2, 37, {_LOCK})", first=_FCNTL),
        _f(
            f"fd = os.open('/dev/null', os.O_RDWR)\nfound = struct.unpack('hhqqi4x', fcntl.fcntl(fd, 36, {_LOCK}))\n"
            "return found[0] != fcntl.F_UNLCK and found[3] == 17",
            first=_FCNTL,
        ),
    ),
    _left(
        "a lock on a whole file",
        _f("fcntl.flock(1, fcntl.LOCK_EX | fcntl.LOCK_NB)", first=_FCNTL),
        _f(
            "fd = os.open('/dev/null', os.O_RDWR)\ntry: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
            "except BlockingIOError: return True",
            first=_FCNTL,
        ),
    ),
    _left(
        "flags of an open file",
        _f("fcntl.fcntl(2, 4, os.O_APPEND | os.O_NONBLOCK)", first=_FCNTL),
        _f("return fcntl.fcntl(2, 3) & os.O_APPEND > 0", first=_FCNTL),
    ),
    _left(
        "the signal of an open file",
        _f("fcntl.fcntl(0, 10, 42)", first=_FCNTL),
        _f("return fcntl.fcntl(0, 11) == 42", first=_FCNTL),
    ),
    _left(
        "times of the private folder",
        _f("os.utime('/tmp', (1234, 1234))"),
        _f("return os.stat('/tmp').st_mtime == 1234"),
    ),
]

_MARK = "path = '/tmp/sr-suite-mark'\nopen(path, 'w').close()\ntry:\n    {}\nfinally: os.unlink(path)"
_ACL = "b''.join([b'\\2\\0\\0\\0'] + [struct.pack('<HHI', *e) for e in ((1, 6, 2**32 - 1), (2, 6, 1234), (4, 4, 2**32 - 1), (16, 6, 2**32 - 1), (32, 4, 2**32 - 1))])"
_FILES = _group(
    "file locks and attributes",
    {
        "a lease on a library": (
            _f(
                "import abc\nfd = os.open(abc.__file__, os.O_RDONLY)\nfcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)\nreturn True",
                first=_FCNTL,
            ),
            (),
            True,
        ),
        "notices of a folder": (
            _f("fcntl.fcntl(os.open('/', os.O_RDONLY), 1026, 4)\nreturn True", first=_FCNTL),
            (),
            True,
        ),
        "an extended attribute": (
            _f(_MARK.format("os.setxattr(path, 'trusted.left', b'1'); return True")),
            (),
            True,
        ),
        "an access control list": (
            _f(
                _MARK.format(f"os.setxattr(path, 'system.posix_acl_access', {_ACL}); return True"),
                first="import struct\n",
            ),
            (),
            True,
        ),
        "inode flags": (
            _f(
                _MARK.format(
                    "fd = os.open(path, os.O_RDONLY); fcntl.ioctl(fd, 0x40086602, struct.pack('l', 0x40)); return True"
                ),
                first=_FCNTL,
            ),
            (),
            True,
        ),
        "watching the library": (
            _LIBC
            + _f(
                "import abc\nfd = libc.inotify_init()\nreturn fd >= 0 and libc.inotify_add_watch(fd, os.path.dirname(abc.__file__).encode(), 0x20) > 0"
            ),
            (),
            True,
        ),
        "watching the file system": (_LIBC + _f("return libc.fanotify_init(0, 0) >= 0"), (), True),
    },
)

_COUNTED = _group(
    "limits of the host's user",
    {
        "watches": (
            _LIBC + _f("fds = [libc.inotify_init() for _ in range(20)]\nreturn all(fd >= 0 for fd in fds)"),
            (),
            True,
        ),
        "timers": (
            _LIBC
            + _f(
                "made = ctypes.c_void_p()\nreturn all(libc.timer_create(1, None, ctypes.byref(made)) == 0 for _ in range(100))"
            ),
            (),
            True,
        ),
        "queued signals": (
            _LIBC
            + _f(
                "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {40})\n"
                "return all(libc.sigqueue(os.getpid(), 40, None) == 0 for _ in range(100))"
            ),
            (),
            True,
        ),
        "signals sent to itself": (
            _LIBC
            + _f(
                "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {41})\n"
                "return all(libc.kill(os.getpid(), 41) == 0 for _ in range(100)) and sum(bool(signal.sigtimedwait({41}, 0)) for _ in range(100)) == 100"
            ),
            (),
            True,
        ),
        "descriptors on their way": (
            _f(
                "import array, socket\na, b = socket.socketpair()\nfd = os.open('/dev/null', os.O_RDONLY)\n"
                "for _ in range(20): a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])\nreturn True"
            ),
            (),
            True,
        ),
        "message queues": (_LIBC + _f("return libc.mq_open(b'/sr-suite', 0o100 | 2, 0o600, None) >= 0 and libc.mq_unlink(b'/sr-suite') == 0"), (), True),
        "an asynchronous ring": (
            _LIBC + _f("return libc.syscall(425, 1, ctypes.create_string_buffer(200)) >= 0"),
            (),
            True,
        ),
    },
)  # fmt: skip

_OTHERS = [
    *_group(
        "daemons",
        {"outliving the worker": (_LIBC + _f("return libc.prctl(1, 0, 0, 0, 0) == 0"), (), True)},
    ),
    *_group(
        "network",
        {
            name: (
                "import socket\n"
                + _f(
                    f"a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\na.sendto(args[1].encode(), {address})"
                ),
                (value, "secret"),
                True,
            )
            for name, address, value in (
                ("datagram to a path", "args[0]", "datagram_path"),
                ("datagram to a name", "'\\0' + args[0]", "datagram_name"),
            )
        },
        effect="heard",
    ),
    *_group(
        "time",
        {
            "a little at a time": (
                _f(
                    "import time\nend = time.time() + 4\nwhile time.time() < end:\n    began = time.thread_time()\n"
                    "    while time.thread_time() < began + 0.005: pass\n    time.sleep(0.1)\nreturn True"
                ),
                (),
                True,
            )
        },
    ),
]

SHARING: tuple[Attack, ...] = (*_STATE, *_FILES, *_COUNTED, *_OTHERS)
