"""Values of the standard library that cross as copies: immutable ones, and types and functions by name.

Each entry says how a value is taken apart into simpler ones and how it is made again. Making one checks the types of
its parts, so that text of a program's choosing makes such a value or nothing.
"""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.codec import CodecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

Parts = tuple["Any", ...]


def _check(parts: Parts, *kinds: type | tuple[type, ...]) -> Parts:
    if len(parts) != len(kinds) or not all(
        type(part) in (kind if type(kind) is tuple else (kind,)) for part, kind in zip(parts, kinds, strict=True)
    ):
        raise CodecError("a value of the standard library has other parts")
    return parts


def module_of(name: str) -> Any:
    """A module of the standard library. Raises CodecError for any other name."""
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names or top in _NEVER_LOADED:
        raise CodecError(f"no module {name!r:.60} of the standard library")
    try:
        __import__(name)
    except ImportError:
        raise CodecError(f"no module {name!r:.60} here") from None
    return sys.modules[name]


# loading them does something at once: opens a page, prints, needs a display, or they are no library
_NEVER_LOADED = {"antigravity", "this", "turtle", "turtledemo", "tkinter", "idlelib", "test", "lib2to3", "__main__"}


def _by_text(module: str, name: str, text: Callable[[Any], Any] = str) -> tuple[Any, Any]:
    def make(parts: Parts) -> Any:
        return getattr(module_of(module), name)(*_check(parts, str))

    return lambda value: (text(value),), make


def _by_parts(module: str, name: str, fields: tuple[str, ...], kinds: tuple[Any, ...]) -> tuple[Any, Any]:
    def take(value: Any) -> Parts:
        return tuple(getattr(value, field) for field in fields)

    def make(parts: Parts) -> Any:
        _check(parts, *kinds)
        return getattr(module_of(module), name)(*parts)

    return take, make


def _zone(part: Any) -> Any:
    """A time zone that came as one of ours, or none."""
    if part is not None and not isinstance(part, module_of("datetime").tzinfo):
        raise CodecError("no time zone")
    return part


def _time(parts: Parts) -> Any:
    *numbers, zone, fold = parts
    _check(tuple(numbers), *[int] * 4)
    return module_of("datetime").time(*numbers, _zone(zone), fold=fold)


def _datetime(parts: Parts) -> Any:
    *numbers, zone, fold = parts
    _check(tuple(numbers), *[int] * 7)
    return module_of("datetime").datetime(*numbers, _zone(zone), fold=fold)


_CLOCK = ("hour", "minute", "second", "microsecond")


def _take_time(value: Any) -> Parts:
    return (*(getattr(value, field) for field in _CLOCK), value.tzinfo, value.fold)


def _take_datetime(value: Any) -> Parts:
    fields = ("year", "month", "day", *_CLOCK)
    return (*(getattr(value, field) for field in fields), value.tzinfo, value.fold)


def _make_zone(parts: Parts) -> Any:
    datetime = module_of("datetime")
    offset, name = parts
    if type(offset) is not datetime.timedelta or type(name) not in (str, type(None)):
        raise CodecError("no time zone")
    return datetime.timezone(offset) if name is None else datetime.timezone(offset, name)


def _named_zone(parts: Parts) -> Any:
    try:
        return module_of("zoneinfo").ZoneInfo(*_check(parts, str))
    except (LookupError, OSError, ValueError):
        raise CodecError("no time zone of that name") from None


def _view(name: str) -> tuple[Any, Any]:
    """A view of a dict: a copy of what it shows, in the same order."""

    def make(parts: Parts) -> Any:
        (shown,) = _check(parts, list)
        if name == "keys":
            return dict.fromkeys(shown).keys()
        return dict(enumerate(shown)).values() if name == "values" else dict(shown).items()

    return lambda value: (list(value),), make


def _proxy_of_dict(parts: Parts) -> Any:
    return module_of("types").MappingProxyType(*_check(parts, dict))


def _slice(parts: Parts) -> slice:
    if len(parts) != 3:
        raise CodecError("a slice has three parts")
    return slice(*parts)


def _pattern(parts: Parts) -> Any:
    text, flags = _check(parts, (str, bytes), int)
    re = module_of("re")
    try:
        return re.compile(text, flags)
    except (re.error, RecursionError, OverflowError, ValueError):
        raise CodecError("no regular expression") from None


def _struct_time(parts: Parts) -> Any:
    return module_of("time").struct_time(_check(tuple(parts), *[int] * 9))


_ADDRESSES = ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network", "IPv4Interface", "IPv6Interface")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_int_or_none = (int, type(None))


def is_numpy_scalar(kind: type) -> bool:
    """Whether a type is one of numpy's numbers."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.generic) and kind is not numpy.void


def _numpy_scalar(parts: Parts) -> Any:
    numpy: Any = sys.modules.get("numpy")
    kind, data = _check(parts, str, bytes)
    if numpy is None or numpy.dtype(kind).hasobject:
        raise CodecError("no number of numpy's")
    return numpy.frombuffer(data, dtype=kind)[0]


# "module.name" of a type -> (take apart, make again); the module is the top-level one
VALUES: dict[str, tuple[Callable[[Any], Parts], Callable[[Parts], Any]]] = {
    "builtins.ellipsis": (lambda value: (), lambda parts: ...),
    "builtins.NotImplementedType": (lambda value: (), lambda parts: NotImplemented),
    "builtins.range": _by_parts("builtins", "range", ("start", "stop", "step"), (int, int, int)),
    "builtins.slice": (lambda value: (value.start, value.stop, value.step), _slice),
    "builtins.memoryview": (lambda value: (bytes(value),), lambda parts: memoryview(*_check(parts, bytes))),
    "builtins.mappingproxy": (lambda value: (dict(value),), _proxy_of_dict),
    **{f"{module}_{name}": _view(name) for module in ("builtins.dict", "collections.odict", "builtins.odict")
       for name in ("keys", "values", "items")},
    "decimal.Decimal": _by_text("decimal", "Decimal"),
    "fractions.Fraction": _by_parts("fractions", "Fraction", ("numerator", "denominator"), (int, int)),
    "datetime.date": _by_parts("datetime", "date", ("year", "month", "day"), (int, int, int)),
    "datetime.timedelta": _by_parts("datetime", "timedelta", ("days", "seconds", "microseconds"), (int, int, int)),
    "datetime.timezone": (lambda value: (*value.__getinitargs__(), None)[:2], _make_zone),
    "datetime.time": (_take_time, _time),
    "datetime.datetime": (_take_datetime, _datetime),
    "zoneinfo.ZoneInfo": (lambda value: (value.key,), _named_zone),
    "numpy.generic": (lambda value: (value.dtype.str, value.tobytes()), _numpy_scalar),
    "time.struct_time": (lambda value: tuple(value), _struct_time),
    "uuid.UUID": (lambda value: (str(value),), _by_text("uuid", "UUID")[1]),
    "re.Pattern": (lambda value: (value.pattern, value.flags), _pattern),
    **{f"pathlib.{name}": _by_text("pathlib", name) for name in _PATHS},
    **{f"ipaddress.{name}": _by_text("ipaddress", name) for name in _ADDRESSES},
}  # fmt: skip


def key_of(kind: type) -> str:
    """``module.name`` under which a type may stand in a table here."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def make_value(key: Any, parts: list[Any]) -> Any:
    """The value of a ``v`` tag. Raises CodecError for parts that do not fit."""
    if type(key) is not str or key not in VALUES:
        raise CodecError("no value of the standard library")
    try:
        return VALUES[key][1](tuple(parts))
    except (TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
        raise CodecError(f"no {key} ({error})") from None


def name_of(value: Any) -> str | None:
    """``module:qualified name`` under which the standard library has this very type, function or module."""
    if type(value) is type(sys):
        own = value.__name__
        known = own.partition(".")[0] in sys.stdlib_module_names and sys.modules.get(own) is value
        return f"{own}:" if known else None
    module: Any = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if module is None and type(value) is type(len):  # a built-in method of a type, such as str.upper, has none
        module = "builtins"
    if type(value) is type(str.upper):
        module = getattr(value, "__objclass__").__module__  # noqa: B009
    if type(module) is not str or type(name) is not str or module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    try:
        return f"{module}:{name}" if find_named(f"{module}:{name}") is value else None
    except CodecError:
        pass
    if module == "builtins" and isinstance(value, type):  # function, generator, NoneType, ...
        types = module_of("types")
        return next((f"types:{name}" for name, found in vars(types).items() if found is value), None)
    return None


def find_named(text: Any) -> Any:
    """What ``module:qualified name`` names. Raises CodecError."""
    if type(text) is not str:
        raise CodecError("no name")
    module, _, name = text.partition(":")
    found = module_of(module)
    for part in name.split(".") if name else ():
        if part.startswith("__") or not hasattr(found, part):
            raise CodecError(f"nothing is named {text!r:.80}")
        found = getattr(found, part)
    return found
