"""What one end tells the other about a class of its own: its name, its bases, and what its objects can do.

Objects of the class stay where they are; at the other end stands a class of the same name whose special methods are
the ones that this class has, so that what Python refuses for the object itself it refuses for its proxy as well.
"""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.bridge.containers import standard
from sr_reward.sandbox.child.bridge.values import VALUES, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# special methods whose result is data: it comes from the other end and is judged where it arrives
DATA = frozenset(
    f"__{name}__"
    for name in (
        *("len", "length_hint", "iter", "next", "reversed", "getitem", "setitem", "delitem", "missing", "call", "bool"),
        *("str", "repr", "format", "bytes", "int", "float", "complex", "index", "round", "trunc", "floor", "ceil"),
        *("abs", "neg", "pos", "invert", "hash", "enter", "exit", "await", "aiter", "anext", "aenter", "aexit"),
        *("copy", "deepcopy", "fspath", "get", "set", "delete", "set_name", "init"),
    )
)
SAME = frozenset(("__eq__", "__ne__"))
ORDER = frozenset(("__lt__", "__le__", "__gt__", "__ge__"))
BINARY = frozenset(
    f"__{side}{name}__"
    for name in (
        *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
        *("lshift", "rshift", "and", "xor", "or"),
    )
    for side in ("", "r", "i")
    if (side, name) != ("i", "divmod")
)
CONTAINS = "__contains__"
SPECIAL = DATA | SAME | ORDER | BINARY | {CONTAINS, "__class_getitem__"}
DOC_CHARACTERS = 2000

# classes that the other end may derive from, beside exceptions and the containers and values that are copied
_BASES = (int, float, complex, str, bytes, tuple, frozenset, object)
_ABSTRACT = ("abc", "collections.abc", "numbers", "enum")


def is_standard(kind: type) -> bool:
    """Whether a class comes from the standard library."""
    module = getattr(kind, "__module__", None)
    return type(module) is str and module.partition(".")[0] in sys.stdlib_module_names and module != "__main__"


def may_be_base(kind: type) -> bool:
    """Whether the other end may derive from a class of this name: plain values, containers, exceptions, ABCs."""
    if not is_standard(kind):
        return False
    if issubclass(kind, BaseException):
        return may_be_raised(kind)
    return kind in _BASES or kind.__module__ in _ABSTRACT or standard(kind) is not None or key_of(kind) in VALUES


def may_be_raised(kind: type) -> bool:
    """Whether an exception of the standard library may come from the other end: none that ends the tests or a loop of
    theirs as if they were done, and none by which a test framework skips or passes a test."""
    if not issubclass(kind, Exception) or issubclass(kind, (StopIteration, StopAsyncIteration)):
        return False
    return kind.__module__.partition(".")[0] not in ("unittest", "doctest")


def features(kind: type) -> list[Any]:
    """``[special methods, those set to None, plain methods, properties that hide an attribute of a base]`` that a
    class adds to its bases."""
    own: dict[str, Any] = dict(vars(kind))
    if is_standard(kind):  # all its own classes in one
        own = {}
        for base in reversed(kind.__mro__[:-1]):
            own.update({name: value for name, value in vars(base).items() if name in SPECIAL})
    special = sorted(name for name in own if name in SPECIAL and own[name] is not None and name != "__init__")
    if type(own.get("__init__")) is _FUNCTION:
        special.append("__init__")
    if any(base.__module__ == "typing" for base in kind.__bases__):
        special.append("__class_getitem__")
    none = sorted(name for name in own if name in SPECIAL and own[name] is None)
    plain = sorted(name for name, value in own.items() if type(value) is _FUNCTION and not name.startswith("__"))
    hidden = sorted(
        name
        for name in own
        if not name.startswith("__") and name not in plain and any(hasattr(base, name) for base in kind.__mro__[1:])
    )
    return [special, none, plain, hidden]


def bases_of(kind: type) -> list[type]:
    """The bases that the other end is to derive from."""
    if not is_standard(kind):
        return [base for base in kind.__bases__ if base is not object and base.__module__ != "typing"]
    found: list[type] = []
    for base in kind.__mro__[1:-1]:
        if may_be_base(base) and not any(issubclass(other, base) for other in found):
            found.append(base)
    return found


def extras(kind: type) -> list[Any]:
    """``[sort, what is needed to make it again]``: an enumeration's members, a named tuple's fields, a data class's."""
    enum = sys.modules.get("enum")
    if enum and issubclass(kind, enum.Enum):
        members = [(name, member.value) for name, member in vars(kind)["_member_map_"].items()]
        base = next(base for base in kind.__mro__ if is_standard(base) and issubclass(base, enum.Enum))
        mixed = getattr(kind, "_member_type_", object)
        return ["enum", base, None if mixed is object or issubclass(base, mixed) else mixed, members]
    fields = getattr(kind, "_fields", None)
    if issubclass(kind, tuple) and type(fields) is tuple and all(type(field) is str for field in fields):
        return ["tuple", list(fields), list(getattr(kind, "_field_defaults", {}).items())]
    extra: list[Any] = ["class"]
    if "__dataclass_fields__" in vars(kind):
        extra.append(list(vars(kind)["__dataclass_fields__"]))
        match = vars(kind).get("__match_args__")
        extra.append(list(match) if type(match) is tuple else [])
    elif type(vars(kind).get("__match_args__")) is tuple:
        extra += [None, list(vars(kind)["__match_args__"])]
    return extra


_FUNCTION = type(features)
