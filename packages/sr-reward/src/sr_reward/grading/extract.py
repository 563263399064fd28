"""From what a model wrote to the program that is run.

The rules, in order:

1. A fenced block: of the blocks that define the entry point (or a class ``Solution`` that does) the last one, as a
   revised answer comes later; if none does, the last block that compiles, else the last one. Blocks marked as Python
   go before those without a mark, these before all others. An unclosed fence runs to the end, and a block that is
   indented as a whole, under an item of a list, is moved back to the margin.
2. No fence, and the text defines the entry point itself between prose: the largest run of lines that compiles
   and holds the definition.
3. Otherwise the text as it is.

A completion that defines the entry point anew is placed after the prompt, whose imports and helpers it may use; any
other completion continues the prompt. A solution is a whole program and stands alone.

``assemble`` runs in the reader (``grading.reader``), which bounds its CPU time and memory; the grader's own process
calls ``as_is`` only, whose cost is linear. Every search here is linear in the text, and what is compiled is compiled
a bounded number of times.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sr_reward.task import Task

_PYTHON = {"python", "py", "python3", "python2"}
_MAX_COMPILES = 20  # prose around code is searched for the longest program with at most this many
_SHORT = 1 << 16  # characters that the grader's own process searches for a definition: a millisecond
_MARKS = ("```", "~~~")
AS_IS, TEXT, NONE = b"=", b"+", b"-"  # first byte of an answer: the text as it is, the text that follows, no code


class Question(NamedTuple):
    """What the rules need to know of a task; sent to the reader as a plain tuple."""

    prompt: str
    entry_point: str
    prompt_is_code: bool


def question_of(task: Task) -> Question:
    """The part of a task that ``assemble`` reads."""
    return Question(task.prompt, task.entry_point, task.prompt_is_code)


def program_text(task: Task, completion: str, *, solution: bool = False) -> str | None:
    """``assemble`` for a task, in this process and without limits: for texts that are trusted."""
    return assemble(question_of(task), completion, solution=solution)


def as_is(question: Question, completion: str, *, solution: bool) -> str:
    """The program if nothing has to be taken out of the completion. Linear."""
    if solution or not question.prompt_is_code:
        return completion
    return question.prompt + completion


def needs_reading(question: Question, completion: str) -> bool:
    """Whether ``assemble`` could give anything but the text as it is; False only if it cannot. Linear."""
    if any(mark in completion for mark in _MARKS):
        return True
    return len(completion) > _SHORT or _defines(completion, question.entry_point)


def answer_request(fields: tuple[str, str, bool], completion: str, solution: bool) -> bytes:
    """In the reader: the answer to a request to assemble a program, as ``AS_IS``, ``NONE`` or ``TEXT`` with it."""
    question = Question(*fields)
    program = assemble(question, completion, solution=solution)
    if program is None:
        return NONE
    if program == as_is(question, completion, solution=solution):
        return AS_IS
    return TEXT + program.encode("utf-8", "surrogatepass")


def assemble(question: Question, completion: str, *, solution: bool) -> str | None:
    """The program to run for one sample, or None where there is no code in it."""
    entry_point = question.entry_point
    code = extract_code(completion, entry_point)
    if not code.strip():
        return None
    if solution or not question.prompt_is_code:
        return code
    if code is not completion and not _defines(code, entry_point) and not code[0].isspace():
        # a fenced block that is neither the function nor its body: run it by itself
        return code
    if _defines(code, entry_point) and (code is not completion or not _compiles(question.prompt + completion)):
        return _closed(question.prompt) + "\n" + code
    return question.prompt + code


def extract_code(text: str, entry_point: str = "") -> str:
    """The code in ``text`` (``text`` itself, the same object, where nothing had to be taken out of it)."""
    if any(mark in text for mark in _MARKS):
        found = _fenced(text.replace("\r\n", "\n"))
        if found:
            return _choose(found, entry_point)
    if entry_point and _defines(text, entry_point) and not _compiles(text):
        return _longest_program(text, entry_point) or text
    return text


def _fenced(text: str) -> list[tuple[str, str]]:
    """``(tag, body)`` of every fenced block, in one pass over the lines."""
    blocks: list[tuple[str, str]] = []
    mark, length, indent, tag = "", 0, "", ""
    body: list[str] = []
    for line in text.split("\n"):
        bare = line.lstrip(" \t")
        if not mark:
            if bare.startswith(_MARKS):
                mark, indent = bare[0], line[: len(line) - len(bare)]
                rest = bare.lstrip(mark)
                length = len(bare) - len(rest)
                tag = _TAG.match(rest.lstrip(" \t"))[0].lower()  # type: ignore[index]  # it matches everywhere
                body = []
        elif bare.startswith(mark * length) and not bare.strip("`~ \t"):
            blocks.append((tag, _moved_back(body, indent, closed=True)))
            mark = ""
        else:
            body.append(line)
    if mark and body:  # no line after the mark: no block
        blocks.append((tag, _moved_back(body, indent, closed=False)))
    return blocks


_TAG = re.compile(r"[\w+-]*")


def _moved_back(lines: list[str], indent: str, *, closed: bool) -> str:
    """The lines of a block whose fence is indented, without that indent where they have it."""
    if indent:
        lines = [line.removeprefix(indent) for line in lines]
    return "\n".join(lines) + ("\n" if closed and lines else "")


def _choose(blocks: list[tuple[str, str]], entry_point: str) -> str:
    marked = [block for tag, block in blocks if tag in _PYTHON]
    bare = [block for tag, block in blocks if not tag]
    ranks = [rank for rank in (marked, bare, [block for _, block in blocks]) if rank]
    for rank in ranks:
        for block in reversed(rank):
            if _defines(block, entry_point):
                return block
    tries = 0
    for rank in ranks:
        for block in reversed(rank):
            if block.strip() and (tries := tries + 1) <= _MAX_COMPILES and _compiles(block):
                return block
    return ranks[0][-1]


def _defines(code: str, entry_point: str) -> bool:
    """Whether the code defines the function, at the margin or, where only its name is asked for, in a ``Solution``."""
    return _definition(code, entry_point) is not None


def _definition(code: str, entry_point: str) -> int | None:
    """Where the definition of the function begins (of the ``Solution`` that it is in), or None."""
    if not entry_point:
        return None
    owner, dot, _ = entry_point.partition(".")
    name = re.escape(owner)
    found = re.search(rf"^(?:async[ \t]+def|def|class)[ \t]+{name}\b|^{name}[ \t]*=[^=]", code, re.MULTILINE)
    if found:
        return found.start()
    found = None if dot else _SOLUTION.search(code)
    if found and re.compile(rf"^[ \t]+def[ \t]+{name}\b", re.MULTILINE).search(code, found.end()):
        return found.start()
    return None


_SOLUTION = re.compile(r"^class[ \t]+Solution\b", re.MULTILINE)


def _compiles(code: str) -> bool:
    return _error_line(code) is None


def _error_line(code: str) -> int | None:
    """The line (from 1) at which the code stops being Python, 0 where that is not known; None if it compiles."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's odd escapes are not the trainer's concern
            compile(code, "<sample>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return 0
    return None


def _closed(prompt: str) -> str:
    """The prompt as code of its own: a signature without a body is given one."""
    return prompt if _compiles(prompt) else prompt.rstrip("\n") + "\n    pass\n"


def _longest_program(text: str, entry_point: str) -> str:
    """The largest run of lines that holds the definition and compiles; empty where none is found."""
    lines = text.split("\n")
    start = text.count("\n", 0, _definition(text, entry_point))
    # lines before the definition that belong to the code: imports, helpers, decorators
    first = next((i for i, line in enumerate(lines[:start]) if _OF_CODE.match(line)), start)
    for begin in dict.fromkeys((first, start)):
        end = len(lines)
        for _ in range(_MAX_COMPILES):
            piece = "\n".join(lines[begin:end]) + "\n"
            at = _error_line(piece)
            if at is None:
                return piece
            # what holds the line of the error fails too
            end = min(end - 1, begin + at - 1) if at else end - 1
            if end <= start:
                break
    return ""


_OF_CODE = re.compile(r"(?:import |from |def |class |@|[A-Za-z_]\w*[ \t]*=)")
