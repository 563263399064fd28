"""Frames of text over the socket between a judge and a program, which both ends read with suspicion.

A frame is four bytes of length and that many bytes of ASCII. One end at a time sends; the other waits for it.
"""

from __future__ import annotations

import os

from sr_reward.sandbox.child import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FRAME_BYTES = 64 << 20
DESCRIPTOR = 4


class LineEnded(Exception):
    """The other end has gone or sends what is no frame."""


def send(text: str) -> None:
    """Send one frame. Raises LineEnded; CodecError for one that is too large."""
    data = text.encode("ascii")
    if len(data) > FRAME_BYTES:
        raise codec.CodecError(f"a value of {len(data)} bytes is too large to pass (at most {FRAME_BYTES})")
    view = memoryview(len(data).to_bytes(4, "little") + data)
    try:
        while view:
            view = view[os.write(DESCRIPTOR, view) :]
    except OSError:
        raise LineEnded("it stopped listening") from None


def receive(build: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    """Read one frame. Raises LineEnded at the end, for an oversized frame and for anything malformed."""
    size = int.from_bytes(_read(4), "little")
    if size > FRAME_BYTES:
        raise LineEnded(f"it sent a frame of {size} bytes")
    try:
        return codec.parse(_read(size).decode("ascii"), build)
    except (codec.CodecError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise LineEnded(f"it sent no data ({error})") from None


def _read(size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(DESCRIPTOR, min(size, 1 << 20))
        except OSError:
            part = b""
        if not part:
            raise LineEnded("it ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
