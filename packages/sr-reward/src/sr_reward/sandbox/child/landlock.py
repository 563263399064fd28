"""Landlock: which files may be read or written at all, since Linux 5.13, without any privilege."""

from __future__ import annotations

import ctypes
import os
import struct

from sr_reward.sandbox.child import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every machine
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
# how many rights on files each version of the interface knows: 2 adds refer, 3 truncate, 5 ioctl on devices, 9
# connecting to UNIX sockets by their path. 7 and 8 add flags of landlock_restrict_self, which we do not use
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16, 8: 16, 9: 17}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_GRANTED = (1 << 16) - 1  # even where everything may be written, no sockets
_TCP = 3  # bind and connect, from version 4
_SCOPES = 3  # abstract unix sockets and signals, from version 6


def abi() -> int:
    """The version this kernel offers; 0 for none."""
    try:
        return kernel.syscall("landlock_create_ruleset", _CREATE, None, 0, 1)
    except OSError:
        return 0


def handled_rights(version: int) -> int:
    """The rights on files that this version of the interface knows, of those that we know."""
    known: int = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    return known


def _create(version: int, handled: int) -> int:
    attributes = struct.pack("<Q", handled)
    if version >= 4:
        attributes += struct.pack("<Q", _TCP)
    if version >= 6:
        attributes += struct.pack("<Q", _SCOPES)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return kernel.syscall("landlock_create_ruleset", _CREATE, buffer, len(attributes), 0)


def restrict(readable: list[str], writable: list[str]) -> None:
    """Confine this process and its descendants to these trees and files, for good; no TCP and no signals to the
    outside where the kernel knows that. Raises OSError."""
    handled = handled_rights(abi())
    rules = _create(abi(), handled)
    read = (_EXECUTE | _READ_FILE | _READ_DIR) & handled
    for path, access in [(path, read) for path in readable] + [(path, handled & _GRANTED) for path in writable]:
        if not os.path.exists(path):
            continue
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = access if os.path.isdir(path) else access & _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, beneath), 12)
        kernel.syscall("landlock_add_rule", _ADD_RULE, rules, 1, rule, 0)
        os.close(beneath)
    kernel.syscall("landlock_restrict_self", _RESTRICT, rules, 0)
    os.close(rules)
