"""Objects that stand for one at the other end of the connection.

A class of the other end becomes a class here (metaclass ``Mirror``) with the same name, bases and special methods. Its
objects are proxies; where it derives from a plain type they hold that type's content themselves. Functions, modules,
iterators, generators and coroutines have proxies of their own kind.
"""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sr_reward.sandbox.child.bridge.peer import Peer

_get, _set = object.__getattribute__, object.__setattr__
NUMBER = "_sr_number"
_SHOWN_OF_CLASSES = ("__annotations__", "__abstractmethods__", "__wrapped__")
BATCH_AFTER, BATCH_MOST = 256, 1024


class Mirror(type):
    """The class of mirrored classes. One that the tests derive from a mirrored class gets a twin in the program, so
    that methods of the program find those that the tests override."""

    _sr_peer: Peer
    _sr_class: int | None
    _sr_twin: bool
    _sr_plain: bool  # its objects hold their content here

    def __init__(cls: Any, name: str, bases: tuple[type, ...], names: dict[str, Any], **options: Any) -> None:
        type.__init__(cls, name, bases, names)
        if "_sr_class" not in names:
            type.__setattr__(cls, "_sr_class", None)
            if not cls._sr_plain and not issubclass(cls, BaseException):
                cls._sr_peer.derive(cls, bases, names)

    def __call__(cls: Any, *args: Any, **options: Any) -> Any:
        if issubclass(cls, BaseException) or cls._sr_class is None:
            return type.__call__(cls, *args, **options)
        made = cls._sr_peer.construct(cls, args, options)
        if vars(cls).get("_sr_twin"):
            made.__init__(*args, **options)
        return made

    def __getattr__(cls: Any, name: str) -> Any:
        if name.startswith("_sr_") or (name.startswith("__") and name not in _SHOWN_OF_CLASSES):
            raise AttributeError(name)
        return cls._sr_peer.ask("get", [cls, name])

    def __setattr__(cls: Any, name: str, value: Any) -> None:
        if name.startswith(("_sr_", "__", "_abc_")) or vars(cls).get("_sr_twin"):
            type.__setattr__(cls, name, value)
        else:
            cls._sr_peer.ask("set", [cls, name, value])


class Proxy:
    """An object of a class of the other end, named by its number."""

    __slots__ = ("__weakref__", "_sr_number", "_sr_ours")
    _sr_peer: Peer
    _sr_number: int
    _sr_ours: bool  # made by a call of its class here, and not returned by anything since

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "_sr_")):
            raise AttributeError(name)
        return self._sr_peer.ask("get", [self, name])

    def __setattr__(self, name: str, value: Any) -> None:
        self._sr_peer.ask("set", [self, name, value])

    def __delattr__(self, name: str) -> None:
        self._sr_peer.ask("del", [self, name])

    def __dir__(self) -> Any:
        return self._sr_peer.ask("about", [self, "dir"])

    def __copy__(self) -> Any:
        return self._sr_peer.ask("about", [self, "copy"])

    def __deepcopy__(self, memo: Any) -> Any:
        return self._sr_peer.ask("about", [self, "deepcopy"])

    def __reduce_ex__(self, version: Any) -> Any:
        raise TypeError(f"a {type(self).__name__} of the program cannot be pickled")


def attributes(self: Any) -> Any:
    """``vars(object)`` of a proxy whose object has a ``__dict__``."""
    return self._sr_peer.ask("about", [self, "vars"])


class PlainProxy:
    """What a proxy that holds its content itself shares: names that its plain type lacks are asked for."""

    def __getattr__(self: Any, name: str) -> Any:
        if name.startswith(("__", "_sr_")):
            raise AttributeError(name)
        return type(self)._sr_peer.ask("get", [self, name])

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            type(self)._sr_peer.ask("set", [self, name, value])


class RemoteFunction:
    """A function, method or other plain callable of the other end."""

    _sr_peer: Peer

    def __init__(self, peer: Peer, number: int, names: tuple[str, str, str | None], flags: int) -> None:
        put = self.__dict__.__setitem__
        put("_sr_peer", peer)
        put(NUMBER, number)
        put("_sr_flags", flags)
        put("__name__", names[0])
        put("__qualname__", names[1])
        put("__doc__", names[2])
        put("__module__", "program")

    @property  # type: ignore[misc]  # isinstance asks for it
    def __class__(self) -> Any:
        return type(_defined)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._sr_peer.call(self, args, options)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else _METHOD(self, owner)

    def __getattr__(self, name: str) -> Any:
        if name in ("__code__", "__defaults__", "__kwdefaults__", "__signature__", "__annotations__"):
            return self._sr_peer.signature(self)[name]
        if name.startswith("__") and name != "__wrapped__":
            raise AttributeError(name)
        return self._sr_peer.ask("get", [self, name])

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            self.__dict__[name] = value
        else:
            self._sr_peer.ask("set", [self, name, value])

    def __repr__(self) -> str:
        return f"<function {self.__qualname__}>"

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is type(self) and self._sr_peer.same(self, other))

    def __hash__(self) -> int:
        return 0  # two proxies may stand for equal bound methods


def _defined() -> None:
    """A function, for its type."""


_METHOD: Any = type(_defined.__get__(0))


class RemoteModule(type(sys)):  # type: ignore[misc]
    """The program as a module that the tests import."""

    _sr_peer: Peer
    _sr_taken: dict[str, Any]  # the global names of the tests

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            # what ``import *`` brings in hides nothing that the tests have or mean
            taken = (self._sr_taken, vars(builtins), sys.stdlib_module_names)
            return [each for each in self._sr_peer.ask("names", []) if not any(each in names for names in taken)]
        if name.startswith("__"):
            raise AttributeError(name)
        return self._sr_peer.ask("global", [name])

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith(("__", "_sr_")):
            super().__setattr__(name, value)
        else:
            self._sr_peer.ask("setglobal", [name, value])


class RemoteIterator:
    """An iterator of the standard library at the other end. One that is asked for many items in a row sends them in
    batches."""

    def __init__(self, peer: Peer, number: int, kind: type) -> None:
        self._sr_peer, self._sr_number, self._sr_kind = peer, number, kind
        self._items: list[Any] = []
        self._singles = 0

    @property  # type: ignore[misc]  # isinstance asks for it
    def __class__(self) -> Any:
        return self._sr_kind

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        if not self._items:
            self._singles += 1
            count = 1 if self._singles < BATCH_AFTER else min(BATCH_MOST, self._singles)
            self._items = self._sr_peer.step(self, count)
            self._items.reverse()
        return self._items.pop()


def remote_generator(peer: Peer, number: int) -> Any:
    """A generator that has the one of that number at the other end do its work."""
    held = Held(number)
    sent: Any = None
    singles = 0
    items: list[Any] = []
    thrown: BaseException | None = None
    while True:
        if not items:
            try:
                if thrown is not None:
                    items, thrown = [peer.ask("throw", [held, thrown])], None
                elif sent is not None:
                    items = [peer.ask("send", [held, sent])]
                else:
                    singles += 1
                    count = 1 if singles < BATCH_AFTER else min(BATCH_MOST, singles)
                    items = peer.step(held, count)
            except Ended as end:
                return end.value
            except StopIteration as end:
                return end.value
            items.reverse()
        value = items.pop()
        try:
            sent = yield value
        except GeneratorExit:
            peer.ask("close", [held])
            raise
        except Exception as error:  # noqa: BLE001  # the generator at the other end decides
            items, thrown = [], error


async def remote_coroutine(peer: Peer, number: int) -> Any:
    """A coroutine that runs at the other end when it is awaited."""
    return peer.ask("await", [Held(number)])


async def remote_async_generator(peer: Peer, number: int) -> Any:
    """An asynchronous generator whose items come from the other end."""
    while True:
        found, value = peer.ask("anext", [Held(number)])
        if not found:
            return
        yield value


class Held:
    """The number of an object of the other end, where there is no proxy at hand."""

    def __init__(self, number: int) -> None:
        self._sr_number = number


class Ended(Exception):
    """An iterator at the other end has ended, with this value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value
