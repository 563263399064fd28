"""One end of the connection between a judge and a program: asks the other end, and carries out what it asks.

A message is ``[objects, kept, effects, kind, ...]``. ``objects`` makes and fills what both ends share
(``containers``); ``kept`` are the numbers of those that the sender still holds. Requests have the kind ``?`` and an
action; replies are ``=`` (a value), ``!`` (an exception) or ``.`` (an iterator's end). While one end waits for its
reply it carries out requests of the other, so each may call functions of the other.
"""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.bridge import frames, signatures
from sr_reward.sandbox.child.bridge.proxies import Ended
from sr_reward.sandbox.child.bridge.reading import Reader
from sr_reward.sandbox.child.bridge.writing import Writer, message_of
from sr_reward.sandbox.child.codec import CodecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEEP = 40_000  # Python's own limit while values are written and read: they may be nested as deep as lists can be


class Broken(Exception):
    """The other end has gone or does not keep to the protocol."""


class Peer(Writer, Reader):
    """One end: a subclass says what it does for the other (``perform``) and what it makes of what arrives."""

    def message(self, kind: str, roots: list[Any], *, everything: bool = False) -> None:
        """Send ``[.., kind, *roots]``. ``roots`` must be the only reference that is held to what is in it, unless
        ``everything`` in it is to be shared."""
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(DEEP)
        numbers: list[int] = []
        try:
            numbers += self.shared.find(roots, everything=everything)
            numbers += self.shared.changes()
            entries = [(number, self.shared.entries[number]) for number in numbers]
            made = [
                f'{{"new":[{number},{self.kind_text(entry.value, type(entry.value))}]}}'
                for number, entry in entries
                if not self.is_foreign(number) and number not in self.known
            ]
            filled = [
                f'{{"fill":[{number},[{self.texts(entry.kind.items(entry.value))}]]}}' for number, entry in entries
            ]
            body = self.texts(roots)
            roots.clear()
            del entries
            self.known.update(number for number in numbers if not self.is_foreign(number))
            kept = list(self.shared.entries) if self.reading else self.shared.kept()
            self.known.intersection_update(kept)
            heap, marks = ",".join(made + filled), ",".join(map(str, kept))
            text = f'[[{heap}],[{marks}],{self.text(self.effects())},"{kind}"{"," if body else ""}{body}]'
        except BaseException:
            for number in set(numbers).difference(self.known):
                if not self.is_foreign(number) and number in self.shared.entries:
                    self.shared.forget(number)
            raise
        finally:
            sys.setrecursionlimit(before)
        frames.send(text)

    def effects(self) -> Any:
        """What happened here beside values since the last message: printed text, warnings, log records."""
        return None

    def take_effects(self, effects: Any) -> None:
        """What happened at the other end."""

    def receive(self) -> tuple[str, list[Any]]:
        """The next message: its kind and content. Raises Broken."""
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(DEEP)
        self.reading += 1
        try:
            message = frames.receive(self.build)
            _, kept, effects, kind, *content = message
            self.shared.retain(kept)
        except frames.LineEnded as error:
            raise Broken(str(error)) from None
        except Exception as error:  # noqa: BLE001  # whatever the other end has written to make our reading fail
            raise Broken(f"it sent no message ({type(error).__name__})") from None
        finally:
            self.reading -= 1
            sys.setrecursionlimit(before)
        if type(kind) is not str:
            raise Broken("it sent no message")
        if effects is not None:
            self.take_effects(effects)
        return kind, content

    def ask(self, action: str, parts: list[Any]) -> Any:
        """Have the other end do something. Returns its result, raises what it raised, ``Ended`` at an iterator's
        end."""
        with self.lock:
            self.send_request(action, parts)
            while True:
                kind, content = self.receive()
                if kind == "?":
                    self.answer(content)
                elif kind == "=" and len(content) == 1:
                    return content[0]
                elif kind == "." and len(content) == 1:
                    raise Ended(content[0])
                elif kind == "!" and len(content) == 1 and isinstance(content[0], BaseException):
                    raise self.incoming(content[0])
                elif kind == "x":
                    raise RuntimeError(f"the tests raised {content[0]}")
                else:
                    raise Broken("it sent no reply")

    def send_request(self, action: str, parts: list[Any]) -> None:
        try:
            self.message("?", [action, *parts], everything=True)
        except frames.LineEnded as error:
            raise Broken(str(error)) from None

    def incoming(self, error: BaseException) -> BaseException:
        """The exception to raise for one that the other end reports."""
        return error

    def answer(self, request: list[Any]) -> None:
        """Carry out a request of the other end and reply."""
        box: list[Any] = []
        kind = "="
        try:
            if not request or type(request[0]) is not str:
                raise CodecError("no request")
            box.append(self.perform(request))
            request.clear()
        except Ended as end:
            kind, box = ".", [end.value]
        except Broken:
            raise
        except BaseException as error:  # noqa: BLE001  # the other end is told
            forget_frames(error)
            kind, box = "!", [error]
            if not isinstance(error, Exception) or isinstance(error, (StopIteration, StopAsyncIteration)):
                kind, box = "x", [type(error).__name__, message_of(error)]  # it would end more than a call
        try:
            self.message(kind, box)
        except frames.LineEnded as error:
            raise Broken(str(error)) from None
        except (CodecError, RecursionError, MemoryError) as error:
            self.message("!", [type(error)(str(error))])

    def perform(self, request: list[Any]) -> Any:
        """Do what a request asks; raises whatever that raises."""
        raise NotImplementedError

    # ------------------------------------------------------------ what proxies ask

    def call(self, target: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return self.ask("call", [target, args, tuple(options.items())])

    def method(self, cls: type, name: str, target: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return self.ask("op", [cls, name, target, args, tuple(options.items())])

    def operate(self, cls: type, name: str, target: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A special method whose result is data."""
        try:
            return self.ask("op", [cls, name, target, args, tuple(options.items())])
        except Ended as end:
            raise StopIteration(end.value) from None

    def weigh(self, cls: type, name: str, target: Any, args: tuple[Any, ...]) -> Any:
        """A special method that compares or combines."""
        return self.ask("op", [cls, name, target, args, ()])

    def construct(self, cls: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return self.ask("call", [cls, args, tuple(options.items())])

    def derive(self, cls: Any, bases: tuple[type, ...], names: dict[str, Any]) -> None:
        """A class was derived here from one of the other end."""
        raise TypeError(f"{cls.__name__} derives from a class of the tests, which live in another process")

    def may_suppress(self, error: Any) -> bool:
        return True

    def step(self, iterator: Any, count: int) -> list[Any]:
        """The next items of an iterator, at least one. Raises StopIteration."""
        try:
            found = self.ask("next", [iterator, count])
        except Ended as end:
            raise StopIteration(end.value) from None
        if type(found) is not list or not found:
            raise Broken("it sent no items")
        return found

    def same(self, one: Any, other: Any) -> bool:
        return self.ask("about", [one, "equal", other]) is True

    def signature(self, function: Any) -> dict[str, Any]:
        """What ``inspect`` wants to know of a function at the other end."""
        number = function._sr_number
        if number not in self.signatures:
            self.signatures[number] = signatures.rebuild(self.ask("about", [function, "signature"]), function)
        return self.signatures[number]


def forget_frames(error: BaseException | None) -> None:
    """Let go of what an exception keeps of the calls that it went through."""
    for _ in range(10):
        if error is None:
            return
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
