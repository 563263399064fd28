"""The line between a judge and a program: frames of text that both ends read with suspicion.

A frame is four bytes of length and that many bytes of ``codec`` text. The judge asks, the program answers, one
frame each, so neither end can be made to run code of the other's choosing; at worst it is told wrong data.
"""

from __future__ import annotations

import os
import sys

from sr_reward.sandbox.child import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FRAME_BYTES = 8 << 20
DESCRIPTOR = 4


class LineEnded(Exception):
    """The other end has gone or sends what is no frame."""


def send(text: str) -> None:
    """Send one frame. Raises LineEnded."""
    data = text.encode("ascii")
    if len(data) > FRAME_BYTES:
        raise codec.CodecError(f"a value of {len(data)} bytes is too large to pass")
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


class Objects:
    """Objects of one process that the other names by number."""

    def __init__(self) -> None:
        self.known: list[Any] = []
        self.numbers: dict[int, int] = {}

    def number(self, value: Any) -> int:
        """The number of an object, which is kept alive from now on."""
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.known)
            self.known.append(value)
        return number

    def get(self, number: Any) -> Any:
        """The object of a number. Raises CodecError for one that was never given out."""
        if type(number) is not int or not 0 <= number < len(self.known):
            raise codec.CodecError("a number that names no object")
        return self.known[number]


class Shared:
    """The lists, dicts and sets among the arguments of one call: they have a number on both ends, so that changes
    made in place come back to the very objects, and an object that is passed or returned twice stays one."""

    def __init__(self) -> None:
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}

    def add(self, number: int, value: Any) -> None:
        self.objects[number] = value
        self.numbers[id(value)] = number

    def encode(self, value: Any, other: Callable[[Any], str], shown: set[int], *, adding: bool = False) -> str:
        """The text of a value, each shared object in it as ``{"o": [number, content]}`` the first time and as
        ``{"o": number}`` when its number is in ``shown``. ``adding`` gives new objects a number."""
        kind = type(value)
        if kind not in (list, dict, set, tuple):
            return codec.encode(value, other)
        if adding and kind is not tuple and id(value) not in self.numbers:
            self.add(len(self.objects), value)
        number = self.numbers.get(id(value))
        if number is not None:
            if number in shown:
                return f'{{"o":{number}}}'
            shown.add(number)
        if kind is dict:
            pairs = [
                f"[{codec.encode(key, other)},{self.encode(item, other, shown, adding=adding)}]"
                for key, item in value.items()
            ]
            text = '{"d":[' + ",".join(pairs) + "]}"
        elif kind is set:
            text = codec.encode(value, other)
        else:
            text = "[" + ",".join([self.encode(item, other, shown, adding=adding) for item in value]) + "]"
            text = text if kind is list else f'{{"t":{text}}}'
        return text if number is None else f'{{"o":[{number},{text}]}}'

    def learn(self, content: Any) -> Any:
        """The object of an ``o`` tag, on the end that receives arguments."""
        if type(content) is list and len(content) == 2:
            self.add(content[0], content[1])
            return content[1]
        return self.objects[content]

    def bring_back(self, content: Any) -> Any:
        """The object of an ``o`` tag, on the end that owns it: its content is replaced in place.

        Raises CodecError for a number or a content that does not fit."""
        number, new = content if type(content) is list and len(content) == 2 else (content, None)
        if type(number) is not int or number not in self.objects:
            raise codec.CodecError("a number that names no argument")
        ours = self.objects[number]
        if new is not None:
            if type(new) is not type(ours):
                raise codec.CodecError("an argument does not change its type")
            if type(ours) is list:
                ours[:] = new
            else:
                ours.clear()
                ours.update(new)
        return ours


def plain_base(value: Any) -> Any:
    """The plain value inside an instance of a sub-class of a plain type (a Counter, a named tuple, an IntEnum),
    taken with the base class's own methods; raises TypeError for anything else."""
    for base, take in _BASES:
        if isinstance(value, base):
            return take(value)
    raise TypeError


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (dict, lambda value: dict(dict.items(value))),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (str, lambda value: str.__str__(value)[:]),
    (int, lambda value: int.__int__(value)),
    (float, lambda value: float.__float__(value)),
    (bytes, lambda value: bytes(memoryview(value))),
)

STDLIB = sys.stdlib_module_names
