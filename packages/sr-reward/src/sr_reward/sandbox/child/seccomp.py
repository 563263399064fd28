"""System call filters: one for the zygote and all it forks, and a small one more for each program.

The first is an allow-list: memory, threads, own signals, clocks, files, pipes, waiting, stream socket pairs. What it
does not name is refused, whatever a later kernel adds. The second, put up after the fork, takes away what only the
zygote needs: new processes (threads are allowed), signals to anybody but the program itself, descriptors that are
sent or received, ``prctl`` beyond names.

Locks are accepted without effect: a program is one process, which its own locks never stop, and a real lock on a
shared file would be seen by others. Extended attributes are reported as not supported.
"""

from __future__ import annotations

import ctypes
import os
import struct

from sr_reward.sandbox.child import kernel

# name -> numbers on x86_64 and on aarch64 (-1: no such call there)
_MEMORY = {
    "brk": (12, 214), "madvise": (28, 233), "mincore": (27, 232), "mmap": (9, 222), "mprotect": (10, 226),
    "mremap": (25, 216), "msync": (26, 227), "munmap": (11, 215),
}  # fmt: skip
_THREADS = {
    "exit": (60, 93), "exit_group": (231, 94), "futex": (202, 98), "get_robust_list": (274, 100), "getcpu": (309, 168),
    "gettid": (186, 178), "rseq": (334, 293), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "sched_getaffinity": (204, 123), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_yield": (24, 124), "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
}  # fmt: skip
_SIGNALS = {
    "alarm": (37, -1), "getitimer": (36, 102), "pause": (34, -1), "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134), "rt_sigpending": (127, 136), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137), "setitimer": (38, 103), "sigaltstack": (131, 132),
}  # fmt: skip
_TIME = {
    "clock_getres": (229, 114), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "gettimeofday": (96, 169),
    "nanosleep": (35, 101), "time": (201, -1), "times": (100, 153),
}  # fmt: skip
_PROCESS = {
    "capget": (125, 90), "getegid": (108, 177), "geteuid": (107, 175), "getgid": (104, 176), "getgroups": (115, 158),
    "getpgid": (121, 155), "getpgrp": (111, -1), "getpid": (39, 172), "getppid": (110, 173), "getpriority": (140, 141),
    "getrandom": (318, 278), "getresgid": (120, 150), "getresuid": (118, 148), "getrlimit": (97, 163),
    "getrusage": (98, 165), "getsid": (124, 156), "getuid": (102, 174), "setrlimit": (160, 164), "sysinfo": (99, 179),
    "umask": (95, 166), "uname": (63, 160), "wait4": (61, 260), "waitid": (247, 95),
}  # fmt: skip
_FILES = {
    "access": (21, -1), "chdir": (80, 49), "close": (3, 57), "close_range": (436, 436), "copy_file_range": (326, 285),
    "creat": (85, -1), "dup": (32, 23), "dup2": (33, -1), "dup3": (292, 24), "faccessat": (269, 48),
    "faccessat2": (439, 439), "fadvise64": (221, 223), "fallocate": (285, 47), "fchdir": (81, 50),
    "fdatasync": (75, 83), "fstat": (5, 80), "fstatfs": (138, 44), "fsync": (74, 82), "ftruncate": (77, 46),
    "getcwd": (79, 17), "getdents": (78, -1), "getdents64": (217, 61), "link": (86, -1), "linkat": (265, 37),
    "lseek": (8, 62), "lstat": (6, -1), "mkdir": (83, -1), "mkdirat": (258, 34), "newfstatat": (262, 79),
    "open": (2, -1), "openat": (257, 56), "openat2": (437, 437), "pread64": (17, 67), "preadv": (295, 69),
    "preadv2": (327, 286), "pwrite64": (18, 68), "pwritev": (296, 70), "pwritev2": (328, 287), "read": (0, 63),
    "readlink": (89, -1), "readlinkat": (267, 78), "readv": (19, 65), "rename": (82, -1), "renameat": (264, 38),
    "renameat2": (316, 276), "rmdir": (84, -1), "sendfile": (40, 71), "stat": (4, -1), "statfs": (137, 43),
    "statx": (332, 291), "symlink": (88, -1), "symlinkat": (266, 36), "unlink": (87, -1), "unlinkat": (263, 35),
    "write": (1, 64), "writev": (20, 66),
}  # fmt: skip
_WAITING = {
    "epoll_create": (213, -1), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441), "epoll_wait": (232, -1), "eventfd": (284, -1), "eventfd2": (290, 19),
    "getpeername": (52, 205), "getsockname": (51, 204), "getsockopt": (55, 209), "pipe": (22, -1), "pipe2": (293, 59),
    "poll": (7, -1), "ppoll": (271, 73), "pselect6": (270, 72), "recvfrom": (45, 207), "select": (23, -1),
    "sendto": (44, 206), "shutdown": (48, 210),
}  # fmt: skip
# of files that only /tmp can hold: where nothing can be written, nothing of a file's can be changed either
_ATTRIBUTES = {
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "futimesat": (261, -1),
    "truncate": (76, 45), "utime": (132, -1), "utimensat": (280, 88), "utimes": (235, -1),
}  # fmt: skip
_OF_THE_ZYGOTE = {"memfd_create": (319, 279), "recvmsg": (47, 212), "sched_setaffinity": (203, 122)}
_BY_ARGUMENT = {
    "clone": (56, 220), "fcntl": (72, 25), "ioctl": (16, 29), "kill": (62, 129), "prctl": (157, 167),
    "prlimit64": (302, 261), "socketpair": (53, 199), "tgkill": (234, 131),
}  # fmt: skip
_WITHOUT_EFFECT = {"flock": (73, 32)}
_UNKNOWN = {"clone3": (435, 435)}  # the C library then asks with clone, whose flags can be read
_UNSUPPORTED = {
    "fgetxattr": (193, 10), "flistxattr": (196, 13), "fremovexattr": (199, 16), "fsetxattr": (190, 7),
    "getxattr": (191, 8), "lgetxattr": (192, 9), "listxattr": (194, 11), "llistxattr": (195, 12),
    "lremovexattr": (198, 15), "lsetxattr": (189, 6), "removexattr": (197, 14), "setxattr": (188, 5),
}  # fmt: skip
LAST_KNOWN = 462  # mseal: what came later is refused as unknown, so that libraries fall back
_COLUMN = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # which column, the audit architecture

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS, _EOPNOTSUPP = 1, 38, 95
_DENY, _DONE = _ERRNO | _EPERM, _ERRNO  # refused; answered with 0 and not carried out
_LOAD, _EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data (low words: little endian)
_CLONE_THREAD = 0x00010000
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ: no owners of signals, no
# leases, no notices, no seals, no larger pipes
_FCNTL = (0, 1, 2, 3, 4, 5, 1030, 1032)
_FCNTL_LOCKS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_PRCTL = (3, 15, 16, 0x53564D41)  # PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_PRCTL_OF_THE_ZYGOTE = (1, 22)  # PR_SET_PDEATHSIG, PR_SET_SECCOMP
_STREAM, _TYPE_MASK = 1, 0xF  # datagrams could be addressed to sockets of the host

ANY_PID = 0x5A5A5A5A  # stands for a program's own number: no such process, and no such number in a filter

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether the tables know this machine."""
    return kernel.MACHINE in _COLUMN


def _number(numbers: tuple[int, int]) -> int:
    return numbers[_COLUMN[kernel.MACHINE][0]]


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _return(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _answer(calls: dict[str, tuple[int, int]], action: int) -> list[Instruction]:
    """The same answer for each of some calls, whose numbers are taken together where they follow each other."""
    numbers = sorted(number for number in map(_number, calls.values()) if number >= 0)
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    program = []
    for first, last in spans:
        if first == last:
            program += [(_EQUAL, 0, 1, first), _return(action)]
        else:
            program += [(_GREATER_EQUAL, 0, 2, first), (_GREATER, 1, 0, last), _return(action)]
    return program


def _when(name: str, offset: int, answers: list[tuple[tuple[int, ...], int]], other: int) -> list[Instruction]:
    """For one call look at an argument: the answer that belongs to its value, else ``other``."""
    body = [_load(offset)]
    for values, action in answers:
        for value in values:
            body += [(_EQUAL, 0, 1, value), _return(action)]
    body.append(_return(other))
    return [(_EQUAL, 0, len(body), _number(_BY_ARGUMENT[name])), *body]


def zygote_filter(*, writable: bool) -> bytes:
    """The filter for everything in the sandbox. ``writable``: there are files that a program may change."""
    allowed = _MEMORY | _THREADS | _SIGNALS | _TIME | _PROCESS | _FILES | _WAITING | _OF_THE_ZYGOTE
    allowed |= {name: _BY_ARGUMENT[name] for name in ("clone", "kill", "tgkill")}  # the second filter looks at these
    if writable:
        allowed |= _ATTRIBUTES
    program = [
        _load(_ARCHITECTURE),
        (_EQUAL, 1, 0, _COLUMN[kernel.MACHINE][1]),
        _return(_KILL),
        _load(_NUMBER),
        (_GREATER_EQUAL, 0, 1, LAST_KNOWN + 1),  # the x32 calls lie above too
        _return(_ERRNO | _ENOSYS),
        *_answer(allowed, _ALLOW),
        *_answer(_UNSUPPORTED, _ERRNO | _EOPNOTSUPP),
        *_answer(_WITHOUT_EFFECT, _DONE),
        *_answer(_UNKNOWN, _ERRNO | _ENOSYS),
        *_when("fcntl", _ARG1, [(_FCNTL, _ALLOW), (_FCNTL_LOCKS, _DONE)], _DENY),
        *_when("ioctl", _ARG1, [(_IOCTL, _ALLOW)], _DENY),
        *_when("prctl", _ARG0, [(_PRCTL + _PRCTL_OF_THE_ZYGOTE, _ALLOW)], _DENY),
        *_when("prlimit64", _ARG0, [((0,), _ALLOW)], _DENY),
    ]
    stream = [_load(_ARG1), (_AND, 0, 0, _TYPE_MASK), (_EQUAL, 0, 1, _STREAM), _return(_ALLOW), _return(_DENY)]
    program += [(_EQUAL, 0, len(stream), _number(_BY_ARGUMENT["socketpair"])), *stream]
    return _assemble([*program, _return(_DENY)])


def program_filter(pid: int) -> bytes:
    """The filter for one program, on top of the zygote's: no new processes, signals only to itself."""
    clone, signals = _number(_BY_ARGUMENT["clone"]), [_number(_BY_ARGUMENT[name]) for name in ("kill", "tgkill")]
    thread = [_load(_ARG0), (_ANY_BIT, 0, 1, _CLONE_THREAD), _return(_ALLOW), _return(_DENY)]
    program = [
        _load(_NUMBER),
        *_answer(_OF_THE_ZYGOTE, _DENY),
        (_EQUAL, 0, len(thread), clone),
        *thread,
        *_when("prctl", _ARG0, [(_PRCTL, _ALLOW)], _DENY),
        (_EQUAL, 2, 0, signals[0]),
        (_EQUAL, 1, 0, signals[1]),
        _return(_ALLOW),
        _load(_ARG0),
        (_EQUAL, 1, 0, pid),
        _return(_DENY),
    ]
    return _assemble([*program, _return(_ALLOW)])


def _assemble(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


class Filter:
    """A filter with everything that installing it needs, made before the fork: what a child need not allocate it
    need not copy. ``ANY_PID`` in it becomes the number of the process that installs it. Without ``put_up``,
    ``install`` does everything but that."""

    def __init__(self, program: bytes, *, put_up: bool = True) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        self._header = ctypes.create_string_buffer(
            struct.pack("<H6xQ", len(program) // 8, ctypes.addressof(self._code))
        )
        self._words = memoryview(self._code).cast("B").cast("I")
        self._places = [place for place, word in enumerate(self._words) if word == ANY_PID]
        option = kernel.PR_SET_SECCOMP if put_up else kernel.PR_GET_DUMPABLE
        self._install = kernel.prepared_prctl(option, 2, ctypes.addressof(self._header))

    def install(self) -> None:
        """Put the filter up for this process and its descendants (no new privileges must be set). Raises OSError."""
        for place in self._places:
            self._words[place] = os.getpid()
        self._install()


def install(program: bytes) -> None:
    """Put up a filter at once. Raises OSError."""
    Filter(program).install()
