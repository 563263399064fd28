"""Beside the program: carries out what the judge in another process asks of it.

It may get a global, call, read or set an attribute or an item, iterate. Arguments and results are plain values or
numbers of the program's objects.
"""

from __future__ import annotations

from sr_reward.sandbox.child import codec, line
from sr_reward.sandbox.child.program import describe, load, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def serve_program(out: int, source: str, entry_point: str) -> None:
    """Load the program, then answer the judge until it hangs up."""
    try:
        module = load(source, "program")
    except BaseException as error:  # noqa: BLE001
        line.send(_error_reply(error))
        return
    line.send("[1]")
    objects = line.Objects()

    while True:
        shared = line.Shared()

        def build(pairs: list[tuple[str, Any]], shared: line.Shared = shared) -> Any:
            return codec.build_value(pairs, lambda tag, content: _read_tag(tag, content, objects, shared))

        try:
            request = line.receive(build)
        except line.LineEnded:
            return
        try:
            reply = _carry_out(request, module, entry_point, objects, shared)
        except BaseException as error:  # noqa: BLE001
            reply = _error_reply(error)
        try:
            line.send(reply)
        except codec.CodecError as error:
            line.send(_error_reply(error))


def _read_tag(tag: str, content: Any, objects: line.Objects, shared: line.Shared) -> Any:
    if tag == "r":
        return objects.get(content)
    if tag == "o":
        return shared.learn(content)
    if tag == "range" and type(content) is list:
        return range(*content)
    raise codec.CodecError("unknown tag")


def _carry_out(request: list[Any], module: Any, entry_point: str, objects: line.Objects, shared: line.Shared) -> str:
    def other(value: Any) -> str:
        try:
            return codec.encode(line.plain_base(value), other)
        except TypeError:
            return f'{{"r":{objects.number(value)}}}'

    def text(value: Any) -> str:
        return codec.encode(value, other)

    action, target, *rest = request
    if action == "call":
        args, kwargs = rest
        inputs = [*args, *kwargs.values()]
        before = shared.encode(inputs, other, set())
        result = target(*args, **kwargs)
        shown: set[int] = set()
        after = shared.encode(inputs, other, shown)
        if after == before:
            return f"[1,{shared.encode(result, other, shown)}]"
        return f"[1,{after},{shared.encode(result, other, shown)}]"
    if action == "next":
        try:
            return f"[1,{text(next(target))}]"
        except StopIteration:
            return "[2]"
    if action == "global":
        return f"[1,{text(resolve(module, entry_point) if target == entry_point else getattr(module, target))}]"
    simple: dict[str, Callable[..., Any]] = {
        "attr": getattr,
        "setattr": setattr,
        "item": lambda owner, key: owner[key],
        "setitem": lambda owner, key, value: owner.__setitem__(key, value),
        "iter": lambda owner: _Fresh(iter(owner)),
        "len": len,
        "bool": bool,
        "str": str,
        "repr": repr,
        "equal": lambda one, other: bool(one == other),
    }
    return f"[1,{text(simple[action](target, *rest))}]"


class _Fresh:
    """An iterator, held so that it is passed by number even if it is of a plain type's sub-class."""

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __next__(self) -> Any:
        return next(self.iterator)


def _error_reply(error: BaseException) -> str:
    kind, message = describe(error)
    names = [base.__name__ for base in type(error).__mro__]
    try:
        args = codec.encode(tuple(error.args))
        if len(args) > 4096:
            raise codec.CodecError
    except BaseException:  # noqa: BLE001  # an exception with odd arguments keeps its message alone
        args = codec.encode((message,))
    try:
        return f"[0,{codec.encode(kind)},{codec.encode(message)},{codec.encode(names)},{args}]"
    except BaseException:  # noqa: BLE001
        return '[0,"Exception","",["Exception"],{"t":[]}]'
