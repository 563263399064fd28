"""Beside the program: carries out what the judge in another process asks of it.

Nothing here is trusted once the program runs. What it says is data to the judge, which checks it.
"""

from __future__ import annotations

import os
import sys

from sr_reward.sandbox.child.bridge import describe, frames, signatures, values
from sr_reward.sandbox.child.bridge.peer import Broken, Peer
from sr_reward.sandbox.child.bridge.proxies import Ended, RemoteFunction
from sr_reward.sandbox.child.judging.effects import Noted, Stdin
from sr_reward.sandbox.child.program import describe as say
from sr_reward.sandbox.child.program import load, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def serve_program(out: int, source: str, entry_point: str) -> None:
    """Load the program, then answer the judge until it hangs up."""
    peer = ProgramPeer(entry_point)
    peer.noted.begin()
    try:
        peer.module = load(source, "program")
        peer.noted.begin()  # of what the program has imported
    except BaseException as error:  # noqa: BLE001
        peer.message("x", list(say(error)))
        return
    try:
        peer.message("=", [True])
        while True:
            kind, content = peer.receive()
            if kind != "?":
                return
            peer.answer(content)
    except (Broken, frames.LineEnded):
        return


class ProgramPeer(Peer):
    """The program's end."""

    module: ModuleType

    def __init__(self, entry_point: str) -> None:
        super().__init__(1)
        self.entry_point = entry_point
        self.noted = Noted()
        self.loop: Any = None
        self.late: dict[int, BaseException] = {}

    def effects(self) -> Any:
        return self.noted.take()

    def may_be_named(self, kind: type) -> bool:
        return judge_knows(kind)

    def perform(self, request: list[Any]) -> Any:
        action, *rest = request
        return getattr(self, f"do_{action}")(*rest)

    def do_hello(self, wanted: list[str]) -> list[str]:
        """Say which of the prompt's classes the program has; it may have replaced them."""
        found = {name: self.module.__dict__.get(name) for name in wanted}
        self.prompt = {name: kind for name, kind in found.items() if isinstance(kind, type)}
        self.shared.kinds.clear()
        return list(self.prompt)

    def do_global(self, name: str) -> Any:
        return resolve(self.module, self.entry_point) if name == self.entry_point else getattr(self.module, name)

    def do_setglobal(self, name: str, value: Any) -> None:
        setattr(self.module, name, value)

    def do_names(self) -> list[str]:
        return [name for name in vars(self.module) if not name.startswith("_")]

    def do_call(self, target: Any, args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Any:
        return target(*args, **dict(options))

    def do_get(self, target: Any, name: str) -> Any:
        return getattr(target, name)

    def do_set(self, target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    def do_del(self, target: Any, name: str) -> None:
        delattr(target, name)

    def do_op(self, cls: type, name: str, target: Any, args: tuple[Any, ...], options: Any) -> Any:
        found = getattr(cls, name)
        if name == "__next__":
            try:
                return found(target)
            except StopIteration as end:
                raise Ended(end.value) from None
        if not name.startswith("__") and name in getattr(target, "__dict__", ()):
            return getattr(target, name)(*args, **dict(options))  # one object's own, in place of its class's
        return found(target, *args, **dict(options))

    def do_next(self, target: Any, count: int) -> list[Any]:
        if id(target) in self.late:
            raise self.late.pop(id(target))
        found: list[Any] = []
        try:
            while len(found) < count:
                found.append(next(target))
        except StopIteration as end:
            if not found:
                raise Ended(end.value) from None
        except Exception as error:  # it comes after the items before it
            if not found:
                raise
            self.late[id(target)] = error
        return found

    def do_send(self, target: Any, value: Any) -> Any:
        return self._resumed(lambda: target.send(value))

    def do_throw(self, target: Any, error: BaseException) -> Any:
        return self._resumed(lambda: target.throw(error))

    def do_close(self, target: Any) -> None:
        target.close()

    def _resumed(self, step: Any) -> Any:
        try:
            return step()
        except StopIteration as end:
            raise Ended(end.value) from None

    def do_await(self, target: Any) -> Any:
        return self._loop().run_until_complete(target)

    def do_anext(self, target: Any) -> tuple[bool, Any]:
        try:
            return True, self._loop().run_until_complete(target.__anext__())
        except StopAsyncIteration:
            return False, None

    def _loop(self) -> Any:
        if self.loop is None:
            self.loop = values.module_of("asyncio").new_event_loop()
        return self.loop

    def do_about(self, target: Any, what: str, *rest: Any) -> Any:
        if what == "signature":
            return signatures.take(target)
        if what == "equal":
            return bool(target == rest[0])
        if what == "vars":
            return dict(vars(target))
        if what == "dir":
            return dir(target)
        if what == "copy":
            return values.module_of("copy").copy(target)
        return values.module_of("copy").deepcopy(target)

    def do_new(self, cls: Any, args: tuple[Any, ...], options: Any) -> Any:
        """A new object of a class; of a twin of the tests' class without its ``__init__``, which runs there."""
        if cls.__dict__.get("_sr_twin"):
            return cls.__new__(cls) if cls.__new__ is object.__new__ else cls.__new__(cls, *args, **dict(options))
        return cls(*args, **dict(options))

    def do_derive(self, name: str, bases: tuple[type, ...], number: int, methods: Any, plain: Any) -> int:
        """A class of ours for one that the tests derive from the program's: it calls their methods."""
        names: dict[str, Any] = {key: _calling(function) for key, function in methods}
        names.update(plain)
        names["_sr_twin"] = True
        made = type(bases[0])(name, tuple(bases), names)
        given = self.export(made)
        self.told.add(given)
        return given

    def do_environ(self, changed: dict[str, str], gone: list[str]) -> None:
        os.environ.update(changed)
        for name in gone:
            os.environ.pop(name, None)

    def do_seed(self, args: tuple[Any, ...], options: Any) -> None:
        values.module_of("random").seed(*args, **dict(options))

    def do_input(self, source: Any) -> None:
        import builtins

        if source is None:
            builtins.input, sys.stdin = _real_input, _real_stdin
        else:
            builtins.input = lambda prompt="": source.line(str(prompt))
            sys.stdin = Stdin(source)


def _calling(function: RemoteFunction) -> Any:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return function(self, *args, **options)

    return method


def judge_knows(kind: type) -> bool:
    """Whether a class of the standard library may arrive in the judge as itself: plain types, containers, values,
    exceptions, abstract classes."""
    if issubclass(kind, BaseException):
        return describe.may_be_raised(kind)
    return kind.__module__ == "builtins" or describe.may_be_base(kind)


_real_input = input
_real_stdin = sys.stdin
