# ruff: noqa: E501  # programs as text read better unbroken
"""Attacks on what lies around a program: files, secrets, the network, other processes, descriptors."""

from __future__ import annotations

from sr_reward.attacks.model import Attack

_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _f(code: str, *, first: str = "", args: str = "*args") -> str:
    body = "\n".join("    " + line for line in code.splitlines())
    return f"import os\n{first}def f({args}):\n{body}\n"


def _group(group: str, made: dict[str, tuple[str, tuple[str, ...], object]], effect: str = "") -> list[Attack]:
    return [
        Attack(group=group, name=name, program=program, args=args, expected=expected, effect=effect)
        for name, (program, args, expected) in made.items()
    ]


_FILES = _group(
    "reading tests and secrets",
    {
        "open": (_f("return open(args[0]).read()"), ("secret_path",), "secret"),
        "os.open": (_f("return os.read(os.open(args[0], os.O_RDONLY), 99).decode()"), ("secret_path",), "secret"),
        "up and down": (_f("return open('../' * 30 + args[0][1:]).read()"), ("secret_path",), "secret"),
        "list the folder": (_f("return args[1] in os.listdir(args[0])"), ("folder", "secret_name"), True),
        "walk from the root": (
            _f("there = os.path.dirname(args[0])\nreturn any(args[1] in names for _, _, names in os.walk(there))"),
            ("secret_path", "secret_name"),
            True,
        ),
        "mmap": (
            _f("import mmap\nwith open(args[0]) as file:\n    return mmap.mmap(file.fileno(), 0, prot=1)[:].decode()"),
            ("secret_path",),
            "secret",
        ),
        "chroot": (
            _f("os.chroot(os.path.dirname(args[0]))\nreturn open('/' + os.path.basename(args[0])).read()"),
            ("secret_path",),
            "secret",
        ),
        "the account file": (_f("return 'root:' in open('/etc/passwd').read()"), (), True),
        "run cat": (
            _f("import subprocess\nreturn subprocess.run(['cat', args[0]], capture_output=True).stdout.decode()"),
            ("secret_path",),
            "secret",
        ),
        "by system call": (
            _LIBC + _f("fd = libc.open(args[0].encode(), 0)\nreturn os.read(fd, 99).decode()"),
            ("secret_path",),
            "secret",
        ),
    },
)

_LINKS = _group(
    "symlinks and /proc",
    {
        "symlink": (
            _f(
                "link = f'/tmp/link-{os.getpid()}'\nos.symlink(args[0], link)\ntry: return open(link).read()\nfinally: os.unlink(link)"
            ),
            ("secret_path",),
            "secret",
        ),
        "hard link": (
            _f(
                "link = args[0] + '-link'\nos.link(args[0], link)\ntry: return open(link).read()\nfinally: os.unlink(link)"
            ),
            ("secret_path",),
            "secret",
        ),
        "/proc/self/root": (_f("return open('/proc/self/root' + args[0]).read()"), ("secret_path",), "secret"),
        "/proc/self/cwd": (
            _f("return open('/proc/self/cwd/' + '../' * 30 + args[0]).read()"),
            ("secret_path",),
            "secret",
        ),
        "/proc/PID/root": (
            _f("return open(f'/proc/{args[1]}/root{args[0]}').read()"),
            ("secret_path", "victim"),
            "secret",
        ),
        "/proc/PID/cmdline": (
            _f("return args[1] in open(f'/proc/{args[0]}/cmdline').read()"),
            ("victim", "secret"),
            True,
        ),
        "/proc/PID/environ": (
            _f("return args[1] in open(f'/proc/{args[0]}/environ').read()"),
            ("victim", "secret"),
            True,
        ),
        "/proc/PPID/environ": (
            _f("return len(open(f'/proc/{os.getppid()}/environ').read()) >= 0"),
            (),
            True,
        ),
        "/proc/PID/maps": (_f("return 'r-xp' in open(f'/proc/{args[0]}/maps').read()"), ("victim",), True),
        "/proc/PID/mem": (
            _f(
                "start = int(open(f'/proc/{args[0]}/maps').readline().split('-')[0], 16)\n"
                "with open(f'/proc/{args[0]}/mem', 'rb') as mem:\n    mem.seek(start)\n    return mem.read(4) == b'\\x7fELF'"
            ),
            ("victim",),
            True,
        ),
        "list processes": (_f("return str(args[0]) in os.listdir('/proc')"), ("victim",), True),
        "write /proc/PID/oom_score_adj": (
            _f("return open(f'/proc/{args[0]}/oom_score_adj', 'w').write('500') > 0"),
            ("victim",),
            True,
        ),
        "write to the library": (
            _f("import abc\npath = abc.__file__ + '.attack'\nopen(path, 'w').close()\nos.unlink(path)\nreturn True"),
            (),
            True,
        ),
        "change file attributes": (_f("os.chmod(args[0], 0o640)\nreturn True"), ("secret_path",), True),
        "truncate": (_f("os.truncate(args[0], 0)\nreturn True"), ("scratch_path",), True),
        "delete": (_f("os.unlink(args[0])\nreturn True"), ("scratch_path",), True),
    },
)

_SECRETS = _group(
    "environment secrets",
    {
        "os.environ": (_f("return os.environ.get('SR_SUITE_SECRET')"), (), "secret"),
        "getenv": (
            _LIBC + _f("libc.getenv.restype = ctypes.c_char_p\nreturn libc.getenv(b'SR_SUITE_SECRET').decode()"),
            (),
            "secret",
        ),
        "/proc/self/environ": (_f("return args[0] in open('/proc/self/environ').read()"), ("secret",), True),
        "host name": (_f("return os.uname().nodename == args[0] and args[0] != 'sandbox'"), ("host",), True),
        "real user": (_f("return os.getuid() == args[0]"), ("uid",), True),
        "home folder": (_f("return os.path.expanduser('~') == args[0]"), ("home",), True),
    },
)

_S = "import socket\n"
_NETWORK = [
    *_group(
        "network",
        {
            "tcp": (
                _S + _f("s = socket.create_connection(('127.0.0.1', args[0]), 1)\ns.send(args[1].encode())"),
                ("tcp_port", "secret"),
                True,
            ),
            "udp": (
                _S
                + _f(
                    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(args[1].encode(), ('127.0.0.1', args[0]))"
                ),
                ("udp_port", "secret"),
                True,
            ),
            "abstract unix socket": (
                _S + _f("s = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + args[0])\ns.send(args[1].encode())"),
                ("abstract_name", "secret"),
                True,
            ),
            "unix socket": (
                _S + _f("s = socket.socket(socket.AF_UNIX)\ns.connect(args[0])\ns.send(args[1].encode())"),
                ("socket_path", "secret"),
                True,
            ),
            "http": (
                _f(
                    "import urllib.request\ntry: urllib.request.urlopen(f'http://127.0.0.1:{args[0]}/{args[1]}', timeout=0.3)\nexcept OSError: pass"
                ),
                ("tcp_port", "secret"),
                True,
            ),
            "by system call": (
                _S
                + _LIBC
                + _f(
                    "fd = libc.socket(2, 1, 0)\nif fd < 0: return\ns = socket.socket(fileno=fd)\n"
                    "s.connect(('127.0.0.1', args[0]))\ns.send(args[1].encode())"
                ),
                ("tcp_port", "secret"),
                True,
            ),
        },
        effect="heard",
    ),
    *_group(
        "network",
        {
            "listen": (_S + _f("s = socket.socket()\ns.bind(('0.0.0.0', 0))\ns.listen()\nreturn True"), (), True),
            "netlink": (
                _S + _f("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).bind((0, 0))\nreturn True"),
                (),
                True,
            ),
            "interfaces": (_S + _f("return len(socket.if_nameindex()) > 0 and socket.socket() is not None"), (), True),
        },
    ),
]

_PROCESSES = [
    *_group(
        "killing and tracing",
        {
            "kill": (_f("os.kill(args[0], 9)"), ("victim",), True),
            "killpg": (_f("os.killpg(args[0], 9)"), ("victim",), True),
            "pidfd": (_f("import signal\nsignal.pidfd_send_signal(os.pidfd_open(args[0]), 9)"), ("victim",), True),
            "sigqueue": (_LIBC + _f("libc.sigqueue(args[0], 9, ctypes.c_void_p(0))"), ("victim",), True),
            "cpu limit": (
                _f("import resource\nresource.prlimit(args[0], resource.RLIMIT_NOFILE, (1, 1))\nos.kill(args[0], 9)"),
                ("victim",),
                True,
            ),
        },
        effect="victim_dead",
    ),
    *_group(
        "killing and tracing",
        {
            "signal the parent": (_f("os.kill(os.getppid(), 0)\nreturn True"), (), True),
            "ptrace": (
                _LIBC + _f("return libc.ptrace(16, args[0], 0, 0) == 0 and (libc.ptrace(17, args[0], 0, 0), True)[1]"),
                ("victim",),
                True,
            ),
            "process_vm_readv": (
                _LIBC
                + _f(
                    "class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
                    "here = ctypes.create_string_buffer(8)\n"
                    "return libc.process_vm_readv(os.getpid() if len(args) == 0 else args[0],"
                    " V(ctypes.addressof(here), 8), 1, V(args[1], 8), 1, 0) == 8",
                )
                .replace("V(ctypes.addressof(here), 8)", "ctypes.byref(V(ctypes.addressof(here), 8))")
                .replace("V(args[1], 8)", "ctypes.byref(V(args[1], 8))"),
                ("victim", "victim_address"),
                True,
            ),
            "limits of another": (
                _f("import resource\nreturn len(resource.prlimit(args[0], resource.RLIMIT_NPROC)) == 2"),
                ("victim",),
                True,
            ),
            "affinity of another": (
                _f("os.sched_setaffinity(args[0], os.sched_getaffinity(0))\nreturn True"),
                ("victim",),
                True,
            ),
            "priority of another": (_f("os.setpriority(os.PRIO_PROCESS, args[0], 19)\nreturn True"), ("victim",), True),
            "signals by F_SETOWN": (
                _f("import fcntl\nr, w = os.pipe()\nfcntl.fcntl(r, 8, args[0])\nreturn True"),
                ("victim",),
                True,
            ),
            "new user namespace": (_LIBC + _f("return libc.unshare(0x10000000) == 0"), (), True),
            "perf events": (
                _LIBC + _f("return libc.syscall(298, 0, 0, 0, 0, 0) < 0 and ctypes.get_errno() != 1"),
                (),
                True,
            ),
            "kernel keys": (_LIBC + _f("return libc.syscall(250, 0, -3, 1) > 0"), (), True),
        },
    ),
]

_DESCRIPTORS = _group(
    "descriptor leaks",
    {
        "read what was inherited": (
            _f(
                "for fd in range(3, 256):\n    try:\n        if args[0].encode() in os.pread(fd, 99, 0): return True\n"
                "    except OSError: pass"
            ),
            ("secret",),
            True,
        ),
        "the grader's socket": (
            "import stat\n"
            + _f(
                "def is_socket(fd):\n    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)\n    except OSError: return False\n"
                "return any(is_socket(fd) for fd in range(3, 256))"
            ),
            (),
            True,
        ),
    },
)

REACHING = (*_FILES, *_LINKS, *_SECRETS, *_NETWORK, *_PROCESSES, *_DESCRIPTORS)
