"""Fields of a row, checked."""

from __future__ import annotations

from typing import Any

from sr_reward.errors import FormatError

Row = dict[str, Any]


def name_of(given: object) -> str:
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        raise FormatError(f"task_id must be a text or a number, got {given!r}")
    return str(given)


def text_of(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise FormatError(f"{key} must be a text, got {type(value).__name__}")
    return value


def list_of(row: Row, key: str, default: list[Any] | None = None) -> list[Any]:
    value = row[key] if default is None else row.get(key, default)
    if not isinstance(value, list):
        raise FormatError(f"{key} must be a list, got {type(value).__name__}")
    return value
