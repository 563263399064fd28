"""Objects of the prompt's classes, which both ends have: they cross as their attributes."""

from __future__ import annotations

from sr_reward.sandbox.child.bridge.containers import Kind, flat, pairs_of, standard
from sr_reward.sandbox.child.codec import CodecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_get, _set = object.__getattribute__, object.__setattr__
IMMUTABLE = (tuple, frozenset, str, int, float, bytes, complex)


def unmade(cls: Any) -> Any:
    raise CodecError("an instance is made of its class")


def instances(kind: type) -> Kind:
    """Objects of a class of the prompt: the content of its plain base, then attributes by name."""
    base = next((found for found in map(standard, kind.__mro__) if found), None)
    slots = [
        name
        for each in kind.__mro__
        for name in _slots(each)
        if name not in ("__dict__", "__weakref__") and not name.startswith("_sr_")
    ]

    def items(value: Any) -> list[Any]:
        plain = base.items(value) if base else []
        state = [(name, _get(value, name)) for name in slots if _has(value, name)]
        if hasattr(value, "__dict__"):
            state += [pair for pair in _get(value, "__dict__").items() if not str(pair[0]).startswith("_sr_")]
        return [len(plain), *plain, *flat(state)]

    def fill(value: Any, items: list[Any]) -> None:
        count = items[0]
        if type(count) is not int or not 0 <= count < len(items):
            raise CodecError("no content")
        if base:
            base.fill(value, items[1 : 1 + count])
        state = dict(pairs_of(items[1 + count :]))
        if not all(type(name) is str for name in state):
            raise CodecError("attributes have names")
        names = getattr(value, "__dict__", None)
        if names is not None:
            names = _get(value, "__dict__")
            for name in [name for name in names if not name.startswith("_sr_")]:
                del names[name]
        for name, item in state.items():
            if callable(getattr(kind, name, None)):  # a method is the class's, whatever the object says
                continue
            if name in slots:
                _set(value, name, item)
            elif names is not None:
                names[name] = item

    made = Kind(items, fill, unmade, lambda value: [type(value)])
    made.always = True  # lists and trees of them are long: their parts go side by side
    return made


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    names = [slots] if type(slots) is str else list(slots)
    return [
        f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
    ]


def _has(value: Any, name: str) -> bool:
    try:
        _get(value, name)
    except AttributeError:
        return False
    return True


def plain_of(value: Any, base: type) -> Any:
    """The immutable content of an instance, taken with the plain type's own methods."""
    if base is tuple:
        return tuple(tuple.__iter__(value))
    if base is frozenset:
        return frozenset(frozenset.__iter__(value))
    if base is bytes:
        return bytes(memoryview(value))
    if base is str:
        return str.__str__(value)[:] if type(str.__str__(value)) is str else "".join(str.__iter__(value))
    if base is int:
        return int.__int__(value)
    if base is float:
        return float.__float__(value)
    return complex.__pos__(value)
