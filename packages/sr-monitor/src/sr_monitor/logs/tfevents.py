"""Scalars out of TensorBoard event files, without TensorBoard: a dozen protobuf fields are all that is needed.

Read from a record: Event.step (2), Event.summary (5) -> Summary.value (1) -> tag (1), simple_value (2), or tensor
(8) -> dtype (1), tensor_content (4), float_val (5), double_val (6). Checksums are not verified; a record cut short
at the end of the file (the writer is still at it) is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError

_HEADER = struct.Struct("<Q4x")
_FOOTER_BYTES = 4
_FLOAT, _DOUBLE = 1, 2  # tensorflow's DataType


def scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) in the order they were written."""
    data = path.read_bytes()
    at = 0
    while at + _HEADER.size <= len(data):
        (length,) = _HEADER.unpack_from(data, at)
        begin = at + _HEADER.size
        if begin + length + _FOOTER_BYTES > len(data):
            return
        try:
            yield from _event(data[begin : begin + length])
        except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
            raise MonitorError(f"{path}: no TensorBoard event at byte {at}; is this an event file?") from error
        at = begin + length + _FOOTER_BYTES


def _event(record: bytes) -> Iterator[tuple[int, str, float]]:
    step, summaries = 0, []
    for number, value in _fields(record):
        if number == 2:
            step = value
        elif number == 5:
            summaries.append(value)
    for summary in summaries:
        for number, value in _fields(summary):
            if number == 1:
                tag, scalar = _value(value)
                if scalar is not None:
                    yield step, tag, scalar


def _value(message: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, value in _fields(message):
        if number == 1:
            tag = value.decode()
        elif number == 2:
            scalar = struct.unpack("<f", value)[0]
        elif number == 8:
            scalar = _tensor(value)
    return tag, scalar


def _tensor(message: bytes) -> float | None:
    """The number in a scalar tensor; None for anything else (text, images, histograms)."""
    kind, content = 0, b""
    for number, value in _fields(message):
        if number == 1:
            kind = value
        elif number in (4, 5, 6):
            content = value
    if kind == _FLOAT and len(content) == 4:
        return float(struct.unpack("<f", content)[0])
    if kind == _DOUBLE and len(content) == 8:
        return float(struct.unpack("<d", content)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value): an int for varints, bytes for everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("field beyond the end")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
