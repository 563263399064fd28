"""What the grader asks of the reader, and the short reports that it reads itself.

Nothing here costs more than linear time in a completion or an output, and nothing raises for any of them.
"""

from __future__ import annotations

import json  # noqa: F401  # where the errors of scanstring are defined
import marshal
import os
from _json import scanstring
from collections.abc import Generator
from typing import Any

from sr_reward.grading import extract
from sr_reward.grading.extract import AS_IS, NONE, TEXT, Question
from sr_reward.sandbox.pool import Job, Outcome
from sr_reward.sandbox.worker import READ

READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reader.py")
ASSEMBLE_S, COMPARE_S = 2.0, 5.0  # CPU seconds
REPORT_BYTES = 8 << 10  # no report of ours is longer

Asking = Generator[Job, Outcome, Any]


def program_of(question: Question, completion: str, *, solution: bool) -> Asking:
    """The program of a sample, or None where there is no code in it.

    Where the rules cannot be applied within the reader's limits the text counts as it is: the program's own process
    then meets what is wrong with it.
    """
    if not extract.needs_reading(question, completion):
        return extract.as_is(question, completion, solution=solution)
    kind, text = yield from _read(("assemble", tuple(question), completion, solution), ASSEMBLE_S)
    if kind == NONE:
        return None
    return text if kind == TEXT else extract.as_is(question, completion, solution=solution)


def compare_calls(rule: bytes, data: bytes) -> Asking:
    """``(kind, text)`` of ``grading.compare.answer_calls``; the kind is empty where the limits did not suffice."""
    return (yield from _read(("calls", rule, data), COMPARE_S))


def compare_text(accepted: tuple[str, ...], rule: str, tolerance: float, data: bytes) -> Asking:
    """The same for ``grading.compare.answer_text``."""
    return (yield from _read(("text", accepted, rule, tolerance, data), COMPARE_S))


class ReaderFailed(Exception):
    """The reader itself failed, not the sample."""


def _read(request: tuple[Any, ...], cpu_s: float) -> Asking:
    answer = (yield Job(kind=READ, body=marshal.dumps(request), timeout_s=cpu_s)).program
    if answer is None:
        raise ReaderFailed("the reader failed twice on this sample")
    if answer.ended != "exited":
        return b"", answer.ended
    kind, text = answer.data[:1], answer.data[1:].decode("utf-8", "surrogatepass")
    if kind == b"!":
        raise ReaderFailed(f"the reader failed on this sample: {text}")
    return kind, text


def read_report(data: bytes) -> tuple[str, str] | None:
    """What a process reports of itself: ``("", "")`` for ``[1]``, the error of ``[0, kind, message]``, None for
    anything else. Reads strings only, so no nesting can exhaust the stack."""
    if data == b"[1]":
        return "", ""
    if len(data) > REPORT_BYTES or not data.startswith(b'[0,"'):
        return None
    try:
        text = data.decode("ascii")
        kind, end = scanstring(text, 4, True)
        if not text.startswith(',"', end):
            return None
        message, end = scanstring(text, end + 2, True)
    except ValueError:
        return None
    return (kind[:80], message[:300]) if text[end:] == "]" else None


__all__ = ["AS_IS", "READER", "ReaderFailed", "compare_calls", "compare_text", "program_of", "read_report"]
