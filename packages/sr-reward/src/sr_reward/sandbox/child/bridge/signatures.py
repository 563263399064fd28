"""What ``inspect`` asks of a function, taken at one end and made again at the other."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def take(function: Any) -> list[Any]:
    """``[flags of its code, [[name, kind, whether it has a default], ...]]``; no default's value leaves."""
    import inspect

    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [flags, None]
    empty = inspect.Parameter.empty
    return [flags, [[each.name, int(each.kind), each.default is not empty] for each in parameters]]


def rebuild(told: Any, function: Any) -> dict[str, Any]:
    """``__signature__``, ``__code__`` and so on of a proxy. Raises TypeError for what ``take`` cannot have said."""
    import inspect
    from types import SimpleNamespace

    flags, rows = told
    kinds = [
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    ]
    parameters = [
        inspect.Parameter(name, kinds[kind], default=... if default else inspect.Parameter.empty)
        for name, kind, default in rows or ()
    ]
    plain = [each.name for each in parameters if each.kind in kinds[:2]]
    named = [each.name for each in parameters if each.kind is kinds[3]]
    defaults = tuple(... for each in parameters if each.kind in kinds[:2] and each.default is not each.empty)
    code = SimpleNamespace(
        co_flags=int(flags),
        co_name=function.__name__,
        co_argcount=len(plain),
        co_kwonlyargcount=len(named),
        co_varnames=tuple(plain + named),
        co_filename="<program>",
        co_firstlineno=1,
    )
    return {
        "__signature__": inspect.Signature(parameters) if rows is not None else None,
        "__code__": code,
        "__defaults__": defaults or None,
        "__kwdefaults__": None,
        "__annotations__": {},
    }
