"""Fields of a row, checked."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from sr_reward.errors import FormatError

Row = dict[str, Any]


class Unusable(FormatError):
    """A well-formed published row that cannot be graded; the message is the reason, equal for rows of one kind."""


def name_of(row: Row, *keys: str) -> str:
    """The first of the keys that holds a name; empty where none does. Raises FormatError for what is no name."""
    for key in keys:
        given = row.get(key)
        if given is None or given == "":
            continue
        if not isinstance(given, (str, int)) or isinstance(given, bool):
            raise FormatError(f"{key} must be a text or a number, got {given!r:.80}")
        return str(given)
    return ""


def text_of(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise FormatError(f"{key} must be a text, got {type(value).__name__}")
    return value


def first_text(row: Row, *keys: str) -> str:
    """The first of the keys that holds a text that is not empty; empty where none does."""
    return next((row[key] for key in keys if isinstance(row.get(key), str) and row[key]), "")


def list_of(row: Row, key: str, default: list[Any] | None = None) -> list[Any]:
    value = row[key] if default is None else row.get(key, default)
    if not isinstance(value, list):
        raise FormatError(f"{key} must be a list, got {type(value).__name__}")
    return value


def read_json(text: str) -> Any:
    """``json.loads``, with whole numbers of any length: Python stops at 4,300 digits, TACO does not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=whole)


def whole(digits: str) -> int:
    """``int`` without its limit."""
    return int(Decimal(digits))


def decoded(value: Any, key: str) -> Any:
    """A value that may be written as JSON text. Raises FormatError for a text that is not JSON."""
    if not isinstance(value, str):
        return value
    try:
        return read_json(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{key} must be JSON, got {error}") from None
