"""Landlock: which files may be read or written at all, since Linux 5.13, without any privilege."""

from __future__ import annotations

import ctypes
import os
import struct

from sr_reward.sandbox.child import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every machine
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 3  # bind and connect, from ABI 4
_SCOPES = 3  # abstract unix sockets and signals, from ABI 6


def abi() -> int:
    """The version this kernel offers; 0 for none."""
    try:
        return kernel.syscall("landlock_create_ruleset", _CREATE, None, 0, 1)
    except OSError:
        return 0


def restrict(readable: list[str], writable: list[str]) -> None:
    """Confine this process and its descendants to these trees and files, for good; no TCP and no signals to the
    outside where the kernel knows that. Raises OSError."""
    version = abi()
    handled = _ALL_OF_ABI.get(version, (1 << 16) - 1)
    attributes = struct.pack("<Q", handled)
    if version >= 4:
        attributes += struct.pack("<Q", _TCP)
    if version >= 6:
        attributes += struct.pack("<Q", _SCOPES)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    rules = kernel.syscall("landlock_create_ruleset", _CREATE, buffer, len(attributes), 0)
    read = (_EXECUTE | _READ_FILE | _READ_DIR) & handled
    for path, access in [(path, read) for path in readable] + [(path, handled) for path in writable]:
        if not os.path.exists(path):
            continue
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = access if os.path.isdir(path) else access & _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, beneath), 12)
        kernel.syscall("landlock_add_rule", _ADD_RULE, rules, 1, rule, 0)
        os.close(beneath)
    kernel.syscall("landlock_restrict_self", _RESTRICT, rules, 0)
    os.close(rules)
