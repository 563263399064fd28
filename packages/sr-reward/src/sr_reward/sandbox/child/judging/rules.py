"""The judge's end of the connection, and the rules that keep the verdict out of the program's reach.

1. An object of the program never equals, precedes or follows data of the tests. Such comparisons are made here, between
   data, or not at all; the program decides only between two objects of its own.
2. Data of the tests goes into an operator of the program (``+``, ``in``) only for classes that the tests name
   themselves, and only an object that the tests made may answer it with data.
3. Values that derive from plain types are compared as their plain content; classes of the prompt by the prompt's own
   text, on copies of their attributes.
4. Of what the tests hand out, the program may call functions, step iterators, and use objects of the tests' classes by
   their public names. It cannot reach what lies behind them.
5. An exception of the program's never ends the tests or a loop of theirs, and never skips a test.
"""

from __future__ import annotations

import os
import sys

from sr_reward.sandbox.child.bridge import describe, signatures, values
from sr_reward.sandbox.child.bridge.describe import BINARY, CONTAINS
from sr_reward.sandbox.child.bridge.peer import Broken, Peer
from sr_reward.sandbox.child.bridge.proxies import Ended, Mirror, Proxy
from sr_reward.sandbox.child.bridge.writing import FUNCTIONS
from sr_reward.sandbox.child.codec import CodecError
from sr_reward.sandbox.child.judging.effects import World, show
from sr_reward.sandbox.child.judging.serve import judge_knows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_set = object.__setattr__
TEMPORARY = "/tmp/"


class ProgramEnded(BaseException):
    """The program is gone or broke the protocol; no ``except Exception`` of the tests may catch it."""


class Unfit(BaseException):
    """The tests need what two processes do not share, whatever the program does."""


_KEEPS_TRUST = ("__enter__", "__iter__", *(name for name in BINARY if name.startswith("__i") and name != "__invert__"))
_FORBIDDEN = ("frame", "traceback", "code", "module", "coroutine")


class JudgePeer(Peer):
    """The judge's end. ``functions`` and ``classes`` are names that the task says are functions or classes."""

    def __init__(self, functions: Collection[str], classes: Collection[str]) -> None:
        super().__init__(0)
        self.functions, self.declared = functions, classes
        self.named: set[type] = set()  # classes of the program that the tests name
        self.sent_names: set[str] = set()
        self.ended = ""
        self.unfit = ""
        self.trusting = False  # whether what arrives now is what the tests have just made
        self.world = World(self.ask)
        self.lines: list[str] = []
        self.files = _files_of_others()

    # ------------------------------------------------------------ asking

    def ask(self, action: str, parts: list[Any]) -> Any:
        if self.ended:
            raise ProgramEnded(self.ended)
        if action not in ("input", "seed", "environ", "op", "next"):
            self.world.before_request()
        if action in ("call", "op", "new"):
            self._check_paths(parts)
        before = self.trusting
        self.trusting = action == "new" or (action == "op" and parts[1] in _KEEPS_TRUST)
        try:
            return super().ask(action, parts)
        except Broken as error:
            self.ended = str(error) or "it ended"
            raise ProgramEnded(self.ended) from None
        finally:
            self.trusting = before

    def receive(self) -> tuple[str, list[Any]]:
        kind, content = super().receive()
        if kind == "x":
            name = content[0] if content and type(content[0]) is str else "an error"
            raise Broken(f"it raised {name}")
        return kind, content

    def wait_until_loaded(self) -> None:
        """Raises what kept the program from being loaded."""
        try:
            kind, content = super().receive()
        except Broken as error:
            self.ended = str(error)
            raise ProgramEnded(self.ended) from None
        if kind == "x":
            name, message = content
            raise RuntimeError(f"{name}: {message}") if name != "MemoryError" else MemoryError

    def take_effects(self, effects: Any) -> None:
        show(effects)

    def seen_again(self, proxy: Any) -> None:
        if not self.trusting and isinstance(proxy, Proxy):
            _set(proxy, "_sr_ours", False)

    def may_suppress(self, error: Any) -> bool:
        """Whether a context manager of the program may swallow an exception: its own, or one that a ``raise`` of the
        tests made on purpose; never a failed assertion."""
        if error is None or isinstance(error, AssertionError):
            return False
        if self.is_foreign(error):
            return True
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code.co_filename != "<tests>":
            return False
        return "raise" in self.lines[trace.tb_lineno - 1 : trace.tb_lineno][0]

    # ------------------------------------------------------------ comparing and combining

    def name_class(self, name: str, value: Any) -> None:
        """The tests have used a global name of the program: if it is a class, they mean to test it."""
        if not isinstance(value, Mirror) or name in self.functions:
            return
        if name in self.declared or (name[:1].isupper() and name.isalnum()):
            self.named.add(value)

    def is_named(self, value: Any) -> bool:
        return any(base in self.named for base in type(value).__mro__)

    def weigh(self, cls: type, name: str, target: Any, args: tuple[Any, ...]) -> Any:
        own = all(isinstance(type(arg), Mirror) for arg in args)
        if own:
            result = self.ask("op", [cls, name, target, args, ()])
            return result if name in BINARY or result is NotImplemented else _of(bool, result)
        if name == CONTAINS:
            return self._contains(cls, target, args)
        if name in BINARY and self.is_named(target):
            ours = getattr(target, "_sr_ours", False)
            result = self.ask("op", [cls, name, target, args, ()])
            if ours or result is NotImplemented or isinstance(result, Proxy):
                return result
        plain = getattr(super(cls, target), name, None)
        return NotImplemented if plain is None else plain(*args)

    def _contains(self, cls: type, target: Any, args: tuple[Any, ...]) -> bool:
        if getattr(target, "_sr_ours", False) and self.is_named(target):
            return bool(_of(bool, self.ask("op", [cls, CONTAINS, target, args, ()])))
        if hasattr(type(target), "__iter__"):
            return any(item is args[0] or item == args[0] for item in target)
        raise TypeError(f"argument of type '{cls.__name__}' is not iterable")

    def construct(self, cls: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        made = self.ask("new", [cls, args, tuple(options.items())])
        if isinstance(made, Mirror) or not isinstance(type(made), Mirror):
            return made
        if cls in self.named or any(base in self.named for base in cls.__mro__):
            _set(made, "_sr_ours", True)
        return made

    def derive(self, cls: Any, bases: tuple[type, ...], names: dict[str, Any]) -> None:
        methods = [
            (key, value)
            for key, value in names.items()
            if type(value) is type(_of) and key not in ("__init__", "__new__", "__init_subclass__")
        ]
        plain = [
            (key, value)
            for key, value in names.items()
            if not key.startswith("__") and type(value) in (int, str, float, bool, bytes, tuple)
        ]
        real = tuple(base for base in bases if isinstance(base, Mirror) or describe.is_standard(base))
        number = self.ask("derive", [cls.__name__, real, 0, tuple(methods), tuple(plain)])
        if type(number) is not int or not self.is_foreign(number):
            raise ProgramEnded("it sent no class")
        type.__setattr__(cls, "_sr_class", number)
        type.__setattr__(cls, "_sr_twin", True)
        self.classes[number] = cls
        self.named.add(cls)

    # ------------------------------------------------------------ what may come in

    def _read_named(self, name: Any) -> Any:
        found = values.find_named(name)
        if name not in self.sent_names and not (isinstance(found, type) and judge_knows(found)):
            raise CodecError("the tests take no functions by name")
        return found

    # ------------------------------------------------------------ what may go out

    def _other_text(self, value: Any, kind: type) -> str:
        text = super()._other_text(value, kind)
        if text.startswith('{"f":'):
            self.sent_names.add(values.name_of(value) or "")
        return text

    def class_text(self, kind: type, *, named: bool = True) -> str:
        text = super().class_text(kind, named=named)
        if text.startswith('{"f":'):
            self.sent_names.add(values.name_of(kind) or "")
        return text

    def may_leave(self, value: Any) -> None:
        kind = type(value)
        case = sys.modules.get("unittest.case")
        if kind.__name__ in _FORBIDDEN and describe.is_standard(kind) and kind.__name__ != "coroutine":
            raise CodecError(f"the tests pass a {kind.__name__}, which does not leave their process")
        if case and isinstance(value, case.TestCase):
            raise CodecError("the tests pass a TestCase, which does not leave their process")

    def _check_paths(self, parts: list[Any]) -> None:
        """Files of the tests are not the program's: each process has a folder for temporary files of its own."""
        for part in parts:
            for each in part if type(part) is tuple else ():
                if type(each) is str or type(each).__module__.startswith("pathlib"):
                    path = os.path.normpath(str(each))
                    if path.startswith(TEMPORARY) and self._is_of_the_tests(path):
                        self.unfit = "they exchange files with the program"
                        raise Unfit(self.unfit)

    def _is_of_the_tests(self, path: str) -> bool:
        """Whether a path is of a file that the tests have made, or may be of one in a folder of theirs."""
        top, _, below = path.removeprefix(TEMPORARY).partition("/")
        return top not in self.files and (os.path.isdir if below else os.path.lexists)(TEMPORARY + top)

    # ------------------------------------------------------------ what the program may ask

    def perform(self, request: list[Any]) -> Any:
        action, *rest = request
        if action not in _ALLOWED:
            raise TypeError("the tests do not do that")
        return getattr(self, f"do_{action}")(*rest)

    def _check_ours(self, target: Any) -> None:
        if id(target) not in self.numbers and id(type(target)) not in self.numbers:
            raise TypeError("an object of the tests that was never passed")

    def do_call(self, target: Any, args: tuple[Any, ...], options: Any) -> Any:
        self._check_ours(target)
        return target(*args, **dict(options))

    def _check_name(self, target: Any, name: Any) -> None:
        self._check_ours(target)
        if type(name) is not str or name.startswith("__"):
            raise AttributeError(f"{name!r:.60} of an object of the tests is not for the program")
        standard = describe.is_standard(target if isinstance(target, type) else type(target))
        if (standard and name.startswith("_")) or type(target) in _NO_NAMES:
            raise AttributeError(name)
        if type(target) in FUNCTIONS and name not in getattr(target, "__dict__", ()):
            raise AttributeError(name)
        if type(target).__name__ in ("generator", "async_generator", "coroutine"):
            raise AttributeError(name)

    def do_get(self, target: Any, name: str) -> Any:
        self._check_name(target, name)
        return getattr(target, name)

    def do_set(self, target: Any, name: str, value: Any) -> None:
        self._check_name(target, name)
        if (
            callable(getattr(type(target), name, None))
            or isinstance(target, type)
            or describe.is_standard(type(target))
        ):
            raise AttributeError(f"the program may not replace {name} of an object of the tests")
        setattr(target, name, value)

    def do_del(self, target: Any, name: str) -> None:
        self._check_name(target, name)
        delattr(target, name)

    def do_op(self, cls: Any, name: Any, target: Any, args: tuple[Any, ...], options: Any) -> Any:
        if not isinstance(cls, type) or id(cls) not in self.numbers or not isinstance(target, cls):
            raise TypeError("an object of the tests that was never passed")
        if type(name) is not str or (name.startswith("__") and name not in describe.SPECIAL):
            raise AttributeError(name)
        if name == "__next__":
            try:
                return getattr(cls, name)(target)
            except StopIteration as end:
                raise Ended(end.value) from None
        return getattr(cls, name)(target, *args, **dict(options))

    def do_new(self, cls: Any, args: tuple[Any, ...], options: Any) -> Any:
        return self.do_call(cls, args, options)

    def do_next(self, target: Any, count: int) -> list[Any]:
        self._check_ours(target)
        try:
            return [next(target)]
        except StopIteration as end:
            raise Ended(end.value) from None

    def do_send(self, target: Any, value: Any) -> Any:
        self._check_ours(target)
        try:
            return target.send(value)
        except StopIteration as end:
            raise Ended(end.value) from None

    def do_close(self, target: Any) -> None:
        self._check_ours(target)
        target.close()

    def do_await(self, target: Any) -> Any:
        self._check_ours(target)
        try:
            while True:
                if target.send(None) is not None:
                    raise RuntimeError("a coroutine of the tests waits for an event loop, which the program cannot run")
        except StopIteration as end:
            return end.value

    def do_about(self, target: Any, what: Any, *rest: Any) -> Any:
        self._check_ours(target)
        if what == "signature":
            return signatures.take(target)
        if what == "vars":
            return {name: value for name, value in vars(target).items() if not name.startswith("__")}
        if what == "equal":
            return target is rest[0]
        copy = values.module_of("copy")
        if what == "copy":
            return copy.copy(target)
        if what == "deepcopy":
            return copy.deepcopy(target)
        return [name for name in dir(target) if not name.startswith("__")]


_ALLOWED = ("call", "get", "set", "del", "op", "new", "next", "send", "close", "await", "about")
_NO_NAMES = (type(sys), type(None))


def _files_of_others() -> set[str]:
    try:
        return set(os.listdir(TEMPORARY))
    except OSError:  # at some levels it cannot be read, and nothing be made there
        return set()


def _of(kind: Any, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"the program gave {type(value).__name__} where {kind.__name__} belongs")
    return value
