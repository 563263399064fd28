"""The system calls that Python does not offer, by number, for the machines we know."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
_READ, _WRITE, _EXECUTE = 1, 2, 4

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 3, 4, 22, 24
PR_SET_NO_NEW_PRIVS = 38

MACHINE = os.uname().machine
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def syscall(name: str, number: int, *args: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A raw system call; raises OSError, which names it."""
    prepared = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _checked(_libc.syscall(ctypes.c_long(number), *prepared), name)


def prctl(option: int, *args: int) -> int:
    """``prctl``; raises OSError."""
    padded = (*args, 0, 0, 0, 0)[:4]
    return _checked(_libc.prctl(option, *(ctypes.c_ulong(arg) for arg in padded)), f"prctl {option}")


def prepared_prctl(option: int, *args: int) -> Callable[[], None]:
    """``prctl`` with its arguments converted beforehand; calling it raises OSError as ``prctl`` does."""
    padded = tuple(ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4])
    call, number = _libc.prctl, ctypes.c_int(option)

    def run() -> None:
        if call(number, *padded) < 0:
            _checked(-1, f"prctl {option}")

    return run


def join_mappings() -> None:
    """Make one mapping of the read-only parts of each library, and one of its writable ones: a fork pays for each.

    The constants of a library become executable, what the linker had made read-only after binding becomes writable
    again. That protects nothing from a program, which may do either to its own memory. Where a policy forbids it, all
    stays as it is.
    """
    found: dict[str, list[tuple[int, int, str]]] = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, rights, _, _, _, *name = line.split()
            begin, end = span.split("-")
            if name and ".so" in name[0]:
                found.setdefault(name[0], []).append((int(begin, 16), int(end, 16), rights))
    for parts in found.values():
        if [rights for _, _, rights in parts] == ["r--p", "r-xp", "r--p", "r--p", "rw-p"]:
            _protect(parts[0][0], parts[2][1], _READ | _EXECUTE)
            _protect(parts[3][0], parts[3][1], _READ | _WRITE)


def _protect(begin: int, end: int, rights: int) -> None:
    _libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), rights)


def core() -> Callable[[], int] | None:
    """A function that says which core the caller runs on; None where the C library has none."""
    return getattr(_libc, "sched_getcpu", None)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """``mount``; raises OSError, which names the target."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _checked(result, f"mount {target}")


def enter_root(path: str) -> None:
    """Make ``path`` the root of this mount namespace and let go of the old one; raises OSError."""
    os.chdir(path)
    syscall("pivot_root", _PIVOT_ROOT[MACHINE], b".", b".")  # the old root comes to lie on top of the new one
    _checked(_libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/")


def set_host_name(name: str) -> None:
    """Name the host of this uts namespace; raises OSError."""
    _checked(_libc.sethostname(name.encode(), len(name)), "sethostname")


def drop_capabilities() -> None:
    """Give up every capability for good; raises OSError."""
    for capability in range(64):  # without the right to drop, or past this kernel's last one, it fails: no matter
        _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
