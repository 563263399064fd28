"""System call filters: one for the zygote and all it forks, and a small one more for each program.

The first refuses what neither needs: other processes' memory, mounts, namespaces, sockets, keys, kernel modules,
starting files, and every call newer than this list. The second, put up after the fork, refuses new processes
(threads are allowed), signals to anybody but the program itself, and descriptors onto other processes.
"""

from __future__ import annotations

import ctypes
import os
import struct

from sr_reward.sandbox.child import kernel

# name -> numbers on x86_64 and on aarch64 (-1: no such call there)
_CALLS = {
    "accept": (43, 202), "accept4": (288, 242), "acct": (163, 89), "add_key": (248, 217), "adjtimex": (159, 171),
    "bind": (49, 200), "bpf": (321, 280), "chmod": (90, -1), "chown": (92, -1), "chroot": (161, 51),
    "clock_adjtime": (305, 266), "clone": (56, 220), "clone3": (435, 435), "connect": (42, 203),
    "delete_module": (176, 106), "execve": (59, 221), "execveat": (322, 281), "fanotify_init": (300, 262),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "fchown": (93, 55), "fchownat": (260, 54),
    "fcntl": (72, 25), "finit_module": (313, 273), "fork": (57, -1), "fremovexattr": (199, 16),
    "fsconfig": (431, 431), "fsetxattr": (190, 7), "fsmount": (432, 432), "fsopen": (430, 430),
    "fspick": (433, 433), "futimesat": (261, -1), "init_module": (175, 105), "io_setup": (206, 0),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "ioctl": (16, 29), "ioperm": (173, -1), "iopl": (172, -1), "ioprio_set": (251, 30), "kcmp": (312, 272),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219), "kill": (62, 129),
    "lchown": (94, -1), "listen": (50, 201), "lookup_dcookie": (212, 18), "lremovexattr": (198, 15),
    "lsetxattr": (189, 6), "mbind": (237, 235), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "migrate_pages": (256, 238), "mknod": (133, -1), "mknodat": (259, 33), "modify_ldt": (154, -1),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_open": (240, 180), "msgget": (68, 186), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "perf_event_open": (298, 241), "personality": (135, 92), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "prlimit64": (302, 261),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "reboot": (169, 142), "removexattr": (197, 14), "request_key": (249, 218), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "semget": (64, 190),
    "set_mempolicy": (238, 237), "setdomainname": (171, 162), "sethostname": (170, 161), "setns": (308, 268),
    "setpriority": (141, 140), "settimeofday": (164, 170), "setxattr": (188, 5), "shmget": (29, 194),
    "socket": (41, 198), "swapoff": (168, 225), "swapon": (167, 224), "syslog": (103, 116), "tgkill": (234, 131),
    "tkill": (200, 130), "truncate": (76, 45), "umount2": (166, 39), "unshare": (272, 97),
    "userfaultfd": (323, 282), "utime": (132, -1), "utimensat": (280, 88), "utimes": (235, -1), "vfork": (58, -1),
}  # fmt: skip
LAST_KNOWN = 462  # mseal: what came later is refused as unknown
_COLUMN = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # which column, the audit architecture

_BY_ARGUMENT = {"clone", "fcntl", "ioctl", "prlimit64"}
_SIGNALS = ("kill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill")
_PER_PROGRAM = {"clone3", "fork", "vfork", "memfd_create", "pidfd_open", "sched_setaffinity", "tkill"}
# what the mount namespace makes harmless and Landlock leaves open
_FILE_ATTRIBUTES = {
    "chmod", "chown", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fremovexattr", "fsetxattr",
    "futimesat", "lchown", "lremovexattr", "lsetxattr", "mknod", "mknodat", "removexattr", "setxattr", "truncate",
    "utime", "utimensat", "utimes",
}  # fmt: skip

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data (low words: little endian)
_CLONE_THREAD = 0x00010000
_REFUSED_COMMANDS = (8, 15, 1033)  # F_SETOWN, F_SETOWN_EX: have signals sent to others; F_ADD_SEALS
_OWNER_REQUESTS = (0x8901, 0x8902, 0x5412, 0x541C)  # FIOSETOWN, SIOCSPGRP; TIOCSTI, TIOCLINUX

ANY_PID = 0x5A5A5A5A  # stands for a program's own number: no such process, and no such number in a filter

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether the table knows this machine."""
    return kernel.MACHINE in _COLUMN


def _number(name: str) -> int:
    return _CALLS[name][_COLUMN[kernel.MACHINE][0]]


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _return(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _refuse(name: str, error: int = _EPERM) -> list[Instruction]:
    number = _number(name)
    return [] if number < 0 else [(_EQUAL, 0, 1, number), _return(_ERRNO | error)]


def _when(name: str, offset: int, tests: list[Instruction], matched: int, other: int) -> list[Instruction]:
    """For one call look at an argument: the first test that jumps goes to ``matched``, else ``other``."""
    body = [_load(offset)]
    for place, (code, _, _, value) in enumerate(tests):
        body.append((code, len(tests) - place, 0, value))
    body += [_return(other), _return(matched)]
    return [(_EQUAL, 0, len(body), _number(name)), *body]


def zygote_filter(*, guard_files: bool) -> bytes:
    """The filter for everything in the sandbox. ``guard_files`` also refuses changes of file attributes."""
    refused = set(_CALLS) - _BY_ARGUMENT - set(_SIGNALS) - _PER_PROGRAM - (set() if guard_files else _FILE_ATTRIBUTES)
    program = [
        _load(_ARCHITECTURE),
        (_EQUAL, 1, 0, _COLUMN[kernel.MACHINE][1]),
        _return(_KILL),
        _load(_NUMBER),
        (_GREATER_EQUAL, 0, 1, LAST_KNOWN + 1),  # the x32 calls lie above too
        _return(_ERRNO | _ENOSYS),
    ]
    for name in sorted(refused):
        program += _refuse(name)
    deny = _ERRNO | _EPERM
    program += _when("fcntl", _ARG1, [(_EQUAL, 0, 0, value) for value in _REFUSED_COMMANDS], deny, _ALLOW)
    program += _when("ioctl", _ARG1, [(_EQUAL, 0, 0, value) for value in _OWNER_REQUESTS], deny, _ALLOW)
    program += _when("prlimit64", _ARG0, [(_EQUAL, 0, 0, 0)], _ALLOW, deny)
    return _assemble([*program, _return(_ALLOW)])


def program_filter(pid: int) -> bytes:
    """The filter for one program: no new processes, signals only to itself."""
    deny = _ERRNO | _EPERM
    program = [_load(_NUMBER), *_refuse("clone3", _ENOSYS)]  # the C library then asks with clone, which can be read
    for name in sorted(_PER_PROGRAM - {"clone3"}):
        program += _refuse(name)
    program += _when("clone", _ARG0, [(_ANY_BIT, 0, 0, _CLONE_THREAD)], _ALLOW, deny)
    for place, name in enumerate(_SIGNALS):  # they share what follows: is the target the program itself?
        program.append((_EQUAL, len(_SIGNALS) - place, 0, _number(name)))
    program += [_return(_ALLOW), _load(_ARG0), (_EQUAL, 1, 0, pid), _return(deny)]
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
