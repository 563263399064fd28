"""Values as text, for the other end.

In a text ``{"o": n}`` is shared object n, ``{"k": ...}`` a container that is not shared, ``{"r": n}`` an object
that stays at its end, ``{"C": n}`` a class, ``{"P": name}`` a class of the prompt, ``{"v": ...}`` a value of the
standard library, ``{"f": name}`` something of the standard library by name, ``{"e": ...}`` an exception, ``{"m": ...}``
a member of an enumeration, ``{"I": ...}`` an instance that holds an immutable value, ``{"p": ...}`` a partial call.
"""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.bridge import describe, values
from sr_reward.sandbox.child.bridge.containers import ATOMS, standard
from sr_reward.sandbox.child.bridge.instances import IMMUTABLE, plain_of
from sr_reward.sandbox.child.bridge.proxies import Mirror
from sr_reward.sandbox.child.bridge.table import Table
from sr_reward.sandbox.child.codec import CodecError, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ITERATOR_MODULES = ("builtins", "itertools", "collections", "_collections")
RUNNING = {"generator": "generator", "coroutine": "coroutine", "async_generator": "async_generator"}


class Writer(Table):
    """Writes values; an object that may not or cannot leave raises CodecError."""

    def text(self, value: Any) -> str:
        """The text of any value. Raises CodecError for what may not leave."""
        kind = type(value)
        if kind in ATOMS:
            return encode(value)
        number = self.shared.numbers.get(id(value))
        if number is not None:
            return f'{{"o":{number}}}'
        if kind is list:
            return f"[{self.texts(value)}]"
        if kind is tuple:
            return f'{{"t":[{self.texts(value)}]}}'
        if kind is dict:
            pairs = [f"[{self.text(key)},{self.text(item)}]" for key, item in value.items()]
            return f'{{"d":[{",".join(pairs)}]}}'
        if kind is set or kind is frozenset:
            return f'{{"{"s" if kind is set else "z"}":[{self.texts(value)}]}}'
        return self._other_text(value, kind)

    def texts(self, items: Any) -> str:
        return ",".join([self.text(item) for item in items])

    def _other_text(self, value: Any, kind: type) -> str:
        number = self.number_of(value)
        if number is not None:
            return f'{{"C":{number}}}' if isinstance(value, Mirror) else f'{{"r":{number}}}'
        content = self.shared.kind_of(kind)
        if content:
            return f'{{"k":[{self.kind_text(value, kind)},[{self.texts(content.items(value))}]]}}'
        key = "numpy.generic" if values.is_numpy_scalar(kind) else values.key_of(kind)
        if key in values.VALUES:
            parts = values.VALUES[key][0](value)
            return f'{{"v":[{encode(key)}{"," if parts else ""}{self.texts(parts)}]}}'
        if isinstance(value, type):
            return self.class_text(value)
        name = values.name_of(value) if kind in _NAMED_KINDS else None
        if name:
            return f'{{"f":{encode(name)}}}'
        if isinstance(value, BaseException):
            return self.error_text(value)
        return self._object_text(value, kind)

    def _object_text(self, value: Any, kind: type) -> str:
        enum = sys.modules.get("enum")
        if enum and isinstance(value, enum.Enum):
            return f'{{"m":[{self.class_text(kind)},{self.text(value.name)},{self.text(value.value)}]}}'
        if kind.__name__ == "partial" and kind.__module__ == "functools":
            return f'{{"p":[{self.text(value.func)},{self.text(value.args)},{self.text(value.keywords)}]}}'
        if (isinstance(value, IMMUTABLE) and not describe.is_standard(kind)) or _is_fields(kind):
            base = next(base for base in IMMUTABLE if isinstance(value, base))
            copied = kind in self.prompt.values() or _is_fields(kind)
            parts = (self.class_text(kind), self.text(plain_of(value, base)))
            return f'{{"I":[{"null" if copied else self.export(value)},{",".join(parts)}]}}'
        self.may_leave(value)
        number = self.export(value)
        if number in self.told:
            return f'{{"r":{number}}}'
        self.told.add(number)
        return f'{{"r":[{number},{self._sort_text(value, kind)}]}}'

    def _sort_text(self, value: Any, kind: type) -> str:
        """What sort of proxy the other end is to make of an object."""
        if kind in FUNCTIONS:
            doc = getattr(value, "__doc__", None)
            parts = [
                getattr(value, "__name__", ""),
                getattr(value, "__qualname__", ""),
                doc[: describe.DOC_CHARACTERS] if type(doc) is str else None,
            ]
            flags = getattr(getattr(value, "__code__", None), "co_flags", 0)
            return f'"function",{self.texts(parts)},{flags}'
        for sort, name in RUNNING.items():
            if kind.__name__ == name and kind.__module__ == "builtins":
                return f'"{sort}"'
        if hasattr(kind, "__next__") and kind.__module__ in _ITERATOR_MODULES:
            return f'"iterator",{self.text(values.name_of(kind))}'
        return f'"object",{self.class_text(kind, named=False)}'

    def kind_text(self, value: Any, kind: type) -> str:
        """Of a container: its type, and what else is needed to make one."""
        if standard(kind):
            return f"{encode(values.key_of(kind))},[{self.texts(standard(kind).extra(value))}]"  # type: ignore[union-attr]
        return f'"instance",[{self.class_text(kind)}]'

    def class_text(self, kind: type, *, named: bool = True) -> str:
        """The text of a class: by a name that both ends have (unless ``named`` is False), by its number, described."""
        for name, known in self.prompt.items():
            if known is kind:
                return f'{{"P":{encode(name)}}}'
        for number, known in self.classes.items():
            if known is kind:
                return f'{{"C":{number}}}'
        if isinstance(kind, Mirror):
            theirs = vars(kind).get("_sr_class")
            if theirs is not None:
                return f'{{"C":{theirs}}}'
        known_as = values.name_of(kind) if describe.is_standard(kind) else None
        if known_as and named and self.may_be_named(kind):
            return f'{{"f":{encode(known_as)}}}'
        number = self.export(kind)
        if number in self.told:
            return f'{{"C":{number}}}'
        self.told.add(number)
        doc = kind.__doc__
        told = [
            self.text(kind.__name__),
            self.text(doc[: describe.DOC_CHARACTERS] if type(doc) is str else None),
            f"[{','.join(self.class_text(base) for base in describe.bases_of(kind))}]",
            "true" if getattr(kind, "__dictoffset__", 0) else "false",
            self.text(describe.features(kind)),
            self.text(describe.extras(kind)),
        ]
        return f'{{"C":[{number},[{",".join(told)}]]}}'

    def error_text(self, error: BaseException) -> str:
        kind = type(error)
        number = self.export(error)
        if number in self.told:
            return f'{{"r":{number}}}'
        self.told.add(number)
        try:
            args = self.text(error.args)
        except (CodecError, RecursionError):
            args = self.text((message_of(error),))
        state = {key: item for key, item in vars(error).items() if not key.startswith("_")}
        notes = getattr(error, "__notes__", None)
        if notes:
            state["__notes__"] = notes
        mro = [base for base in kind.__mro__ if base is not object]
        standing = next((base for base in mro if describe.is_standard(base)), Exception)
        owned = self.class_text(kind if issubclass(kind, Exception) else standing)
        cause = self.text(error.__cause__)
        return f'{{"e":[{number},{owned},{args},{self._state_text(state)},{cause}]}}'

    def _state_text(self, state: dict[str, Any]) -> str:
        try:
            return self.text(state)
        except (CodecError, RecursionError):
            return '{"d":[]}'

    def may_leave(self, value: Any) -> None:
        """Raise CodecError for an object that the other end may not have."""

    def may_be_named(self, kind: type) -> bool:
        """Whether the other end takes this class of the standard library by its name."""
        return True


def _is_fields(kind: type) -> bool:
    return issubclass(kind, tuple) and kind is not tuple and type(getattr(kind, "_fields", None)) is tuple


def message_of(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:  # noqa: BLE001  # the class is somebody's own and may raise anything
        return ""


def _function() -> None:
    """A function, for its type."""


FUNCTIONS: tuple[type, ...] = (
    type(_function),
    type(len),
    type(Table(0).export),
    type(str.upper),
    type([].__add__),
    type(vars(dict)["fromkeys"]),
)
_NAMED_KINDS = (type(_function), type(len), type(sys), type(str.upper))
