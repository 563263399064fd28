"""What one end knows of the objects of both: numbers given out, proxies received, classes, what is shared."""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.bridge import proxies
from sr_reward.sandbox.child.bridge.containers import Kind, Shared, standard
from sr_reward.sandbox.child.bridge.instances import IMMUTABLE, instances, unmade
from sr_reward.sandbox.child.bridge.proxies import Mirror, Proxy, RemoteFunction, RemoteIterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_get = object.__getattribute__


class Table:
    """``first`` is 0 in the judge and 1 beside the program: whose numbers are even."""

    def __init__(self, first: int) -> None:
        from _thread import RLock

        self.first = first
        self.lock = RLock()
        self.exported: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.next = first
        self.proxies: dict[int, Any] = {}
        self.foreign: dict[int, tuple[int, Any]] = {}  # by id: proxies that cannot hold their number
        self.classes: dict[int, type] = {}
        self.told: set[int] = set()
        self.prompt: dict[str, type] = {}
        self.shared = Shared(first, self.kind_of, self.keeps)
        self.signatures: dict[int, dict[str, Any]] = {}
        self.known: set[int] = set()  # numbers of shared objects that the other end has heard of
        self.reading = 0

    def kind_of(self, kind: type) -> Kind | None:
        """How a type is copied: containers, what derives from them, and mutable classes of the prompt."""
        found = standard(kind)
        if found:
            return found
        if kind in self.prompt.values():
            enum = sys.modules.get("enum")
            if issubclass(kind, (*IMMUTABLE, BaseException)) or (enum and issubclass(kind, enum.Enum)):
                return None
            return instances(kind)
        if issubclass(kind, (BaseException, Proxy)):
            return None
        for base in kind.__mro__[1:]:
            if base in self.prompt.values():
                return instances(kind)
            found = standard(base)
            if found:
                made = Kind(found.items, found.fill, unmade, lambda value: [type(value)])
                made.always = True  # its methods are asked for by its number
                return made
        return None

    def keeps(self, value: Any) -> bool:
        """Whether an object must stay known as long as the other end holds its copy: its methods are asked for."""
        return type(value) not in self.prompt.values() and standard(type(value)) is None and not self.is_mirror(value)

    @staticmethod
    def is_mirror(value: Any) -> bool:
        return isinstance(type(value), Mirror)

    def is_foreign(self, what: Any) -> bool:
        """Whether a number, or the object that a value stands for, belongs to the other end."""
        if type(what) is int:
            return what % 2 != self.first
        return self.is_mirror(what) or type(what) in (RemoteFunction, RemoteIterator) or id(what) in self.foreign

    def is_ours(self, kind: type) -> bool:
        """Whether a class is one of the prompt's that both ends have."""
        return any(base in self.prompt.values() for base in kind.__mro__)

    def number_of(self, value: Any) -> int | None:
        """The number of an object of the other end, None for one of ours."""
        if isinstance(value, Mirror):
            return vars(value).get("_sr_class")
        if self.is_mirror(value) or type(value) in (RemoteFunction, RemoteIterator, proxies.Held):
            try:
                return _get(value, proxies.NUMBER)  # type: ignore[no-any-return]
            except AttributeError:
                return None
        return self.foreign[id(value)][0] if id(value) in self.foreign else None

    def export(self, value: Any) -> int:
        """The number of an object of ours, which is kept from now on."""
        number = self.numbers.get(id(value))
        if number is None:
            number, self.next = self.next, self.next + 2
            self.numbers[id(value)] = number
            self.exported[number] = value
        return number
