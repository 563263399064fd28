"""What a prompt defines beside the function it asks for: helpers, constants and classes, which are the task's."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STUBS = "def a(): pass\ndef b(): 'text'\ndef c(): ...\ndef d():\n 'text'\n ...\ndef e(): raise NotImplementedError\ndef f():\n 'text'\n pass\ndef g():\n 'text'\n raise NotImplementedError\ndef h():\n 'text'\n return None\n"  # noqa: E501


def run(prompt: str, names: dict[str, Any]) -> None:
    """Execute the prompt in ``names``; one that ends with a signature is given an empty body. A prompt that needs what
    the program defines leaves the names it got to."""
    for text in (prompt, prompt.rstrip("\n") + "\n    pass\n"):
        try:
            code = compile(text, "<prompt>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        try:  # noqa: SIM105  # contextlib would be a page more in every fork
            exec(code, names)
        except Exception:  # noqa: BLE001
            pass
        return


def is_open(function: Any) -> bool:
    """Whether the body of a function is left to the program: nothing, a docstring, ``pass``, ``...``."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    shapes = {(each.co_code, each.co_names) for each in _stubs()}
    return (code.co_code, code.co_names) in shapes


_found: list[Any] = []


def _stubs() -> list[Any]:
    if not _found:
        names: dict[str, Any] = {}
        exec(compile(_STUBS, "<stubs>", "exec", dont_inherit=True), names)
        _found.extend(value.__code__ for name, value in names.items() if len(name) == 1)
    return _found


def settle(names: dict[str, Any], module: str, entry_point: str) -> tuple[dict[str, type], dict[str, list[str]]]:
    """Keep in ``names`` what the task itself decides; what is left open is the program's and goes.

    Returns the classes that stay, by name, and the open methods of each. The class that the entry point names, or one
    with an open method, stays only where the prompt says when two of its objects are equal and how one is made: then
    its methods with a body, its equality among them, run in the judge, and the program's methods run on copies.
    """
    classes: dict[str, type] = {}
    open_methods: dict[str, list[str]] = {}
    for name, value in list(names.items()):
        if is_open(value) and getattr(value, "__module__", None) == module:
            del names[name]
        if not isinstance(value, type) or value.__module__ != module:
            continue
        left = [key for key, item in vars(value).items() if is_open(item)]
        asked = entry_point.partition(".")[0] == name
        if value.__qualname__ != name or ((left or asked) and not (_has_equality(value) and _is_made(value, left))):
            del names[name]
        else:
            classes[name] = value
            open_methods[name] = left
    return classes, open_methods


def _has_equality(kind: type) -> bool:
    equality: Any = getattr(kind, "__eq__", None)
    return equality is not vars(object)["__eq__"] and not is_open(equality)


def _is_made(kind: type, left: list[str]) -> bool:
    made_by: Any = getattr(kind, "__init__", None)
    return "__init__" not in left and (made_by is not vars(object)["__init__"] or issubclass(kind, tuple))
