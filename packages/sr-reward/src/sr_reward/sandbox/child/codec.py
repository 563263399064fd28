"""Plain Python values as text: the only form in which anything leaves a program's process.

The text is JSON in which every object is a tag with one key. Lists, strings, floats, small ints, booleans and
None are themselves; ``{"t": [...]}`` is a tuple, ``{"s": [...]}`` a set, ``{"z": [...]}`` a frozenset,
``{"d": [[k, v], ...]}`` a dict, ``{"i": "hex"}`` an int beyond 64 bits, ``{"b": "latin-1"}`` bytes,
``{"c": [re, im]}`` a complex, ``{"u": "hex of UTF-8"}`` a string with halves of surrogate pairs. Reading it builds
plain values and nothing else; there is no way to name a class.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BIG = 1 << 63
SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class CodecError(ValueError):
    """A value that is not plain, or a text that is not one of ours."""


def encode(value: Any, other: Callable[[Any], str] | None = None) -> str:
    """The text of a plain value. ``other`` may supply the text of values that are not plain.

    Raises CodecError for those without it; RecursionError for values nested too deeply or in a cycle.
    """
    kind = type(value)
    if kind is int:
        return repr(value) if -BIG < value < BIG else f'{{"i":"{value:x}"}}'
    if kind is str:
        text = encode_basestring_ascii(value)
        return text if "\\ud" not in text or _is_whole(value) else f'{{"u":"{_hex(value)}"}}'
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is float:
        text = repr(value)
        return SPECIAL.get(text, text)
    if kind is list:
        return "[" + ",".join([encode(item, other) for item in value]) + "]"
    if kind is tuple:
        return '{"t":[' + ",".join([encode(item, other) for item in value]) + "]}"
    if kind is dict:
        pairs = [f"[{encode(key, other)},{encode(item, other)}]" for key, item in value.items()]
        return '{"d":[' + ",".join(pairs) + "]}"
    if kind is set:
        return '{"s":[' + ",".join([encode(item, other) for item in value]) + "]}"
    if kind is frozenset:
        return '{"z":[' + ",".join([encode(item, other) for item in value]) + "]}"
    if kind is bytes:
        return '{"b":' + encode_basestring_ascii(value.decode("latin-1")) + "}"
    if kind is complex:
        return f'{{"c":[{encode(value.real)},{encode(value.imag)}]}}'
    if other is not None:
        return other(value)
    raise CodecError(f"a value of type {kind.__name__} is not plain data")


def _is_whole(value: str) -> bool:
    """Whether a string has no half of a surrogate pair, two of which JSON would read as one character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hex(value: str) -> str:
    return value.encode("utf-8", "surrogatepass").hex()


class _Scanner:
    """The settings that the C scanner of the json module reads from its owner."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__

    def __init__(self, build: Callable[[list[tuple[str, Any]]], Any]) -> None:
        self.object_pairs_hook = build
        self.memo: dict[str, str] = {}
        self.scan = make_scanner(self)  # type: ignore[arg-type]  # the stub names no protocol


# what the scanner raises for malformed text, and ``build`` for tags that do not fit; without the json module loaded
# the scanner ends some errors with SystemError
_UNREADABLE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
    *(StopIteration, MemoryError, SystemError),
)


def parse(text: str, build: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    """Read ``text``; every tag goes through ``build``. Raises CodecError for anything malformed."""
    try:
        value, end = _Scanner(build).scan(text, 0)
    except _UNREADABLE as error:
        raise CodecError(f"malformed data ({type(error).__name__})") from None
    if end != len(text):
        raise CodecError("malformed data (text after the end)")
    return value


def build_value(pairs: list[tuple[str, Any]], other: Callable[[str, Any], Any] | None = None) -> Any:
    """The plain value of one tag. ``other`` may read tags beyond the plain ones."""
    if len(pairs) != 1:
        raise CodecError("a tag has one key")
    tag, content = pairs[0]
    if type(content) is list:
        if tag == "t":
            return tuple(content)
        if tag == "d":
            if not all(type(pair) is list and len(pair) == 2 for pair in content):
                raise CodecError("a dict holds pairs")
            return dict(content)
        if tag == "s":
            return set(content)
        if tag == "z":
            return frozenset(content)
        if tag == "c" and len(content) == 2 and all(type(part) is float for part in content):
            return complex(*content)
    elif type(content) is str:
        if tag == "i":
            return int(content, 16)
        if tag == "b":
            return content.encode("latin-1")
        if tag == "u":
            return bytes.fromhex(content).decode("utf-8", "surrogatepass")
    if other is not None:
        return other(tag, content)
    raise CodecError(f"unknown tag {tag!r:.20}")


def decode(text: str) -> Any:
    """The plain value that ``text`` holds. Raises CodecError for everything ``encode`` cannot have written."""
    return parse(text, build_value)
