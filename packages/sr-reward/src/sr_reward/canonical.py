"""Values as text that is the same in every process: the order of a set's elements changes from one to the next."""

from __future__ import annotations

import dataclasses
from typing import Any

_LONG = 2000  # bits of a whole number that ``repr`` may refuse to write in decimal digits


def canonical(value: Any) -> str:
    """``repr(value)``, with the elements of sets in the order of their texts. For plain values and dataclasses of
    them; what ``repr`` writes as a literal is one here, too."""
    if isinstance(value, (set, frozenset)):
        inner = ", ".join(sorted(map(canonical, value)))
        if not value:
            return repr(value)
        return f"{{{inner}}}" if isinstance(value, set) else f"frozenset({{{inner}}})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{canonical(key)}: {canonical(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(canonical, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(canonical, value)) + (",)" if len(value) == 1 else ")")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f"{f.name}={canonical(getattr(value, f.name))}" for f in dataclasses.fields(value) if f.repr]
        return f"{type(value).__qualname__}({', '.join(fields)})"
    if type(value) is int and value.bit_length() > _LONG:
        return hex(value)
    return repr(value)
