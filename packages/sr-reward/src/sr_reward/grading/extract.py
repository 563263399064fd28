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
"""

from __future__ import annotations

import re
import warnings

from sr_reward.task import Task

_FENCE = re.compile(
    r"^([ \t]*)(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_PYTHON = {"python", "py", "python3", "python2"}
_MAX_LINES = 400  # prose around code is searched for the longest program only up to this many lines


def program_text(task: Task, completion: str, *, solution: bool = False) -> str | None:
    """The program to run for one sample, or None where there is no code in it."""
    code = extract_code(completion, task.entry_point)
    if not code.strip():
        return None
    if solution or not task.prompt_is_code:
        return code
    if code is not completion and not _defines(code, task.entry_point) and not code[0].isspace():
        # a fenced block that is neither the function nor its body: run it by itself
        return code
    if _defines(code, task.entry_point) and (code is not completion or not _compiles(task.prompt + completion)):
        return _closed(task.prompt) + "\n" + code
    return task.prompt + code


def extract_code(text: str, entry_point: str = "") -> str:
    """The code in ``text`` (``text`` itself, the same object, where nothing had to be taken out of it)."""
    if "```" in text or "~~~" in text:
        found = _FENCE.findall(text.replace("\r\n", "\n"))
        if found:
            return _choose([(tag.lower(), _moved_back(body, indent)) for indent, _, tag, body in found], entry_point)
    if entry_point and _defines(text, entry_point) and not _compiles(text):
        return _longest_program(text, entry_point) or text
    return text


def _choose(blocks: list[tuple[str, str]], entry_point: str) -> str:
    marked = [block for tag, block in blocks if tag in _PYTHON]
    bare = [block for tag, block in blocks if not tag]
    ranks = [rank for rank in (marked, bare, [block for _, block in blocks]) if rank]
    defining = [[block for block in rank if _defines(block, entry_point)] for rank in ranks]
    compiling = [[block for block in rank if block.strip() and _compiles(block)] for rank in ranks]
    return next(chosen for chosen in (*defining, *compiling, *ranks) if chosen)[-1]


def _moved_back(block: str, indent: str) -> str:
    """The lines of a block whose fence is indented, without that indent where they have it."""
    return re.sub(f"^{indent}", "", block, flags=re.MULTILINE) if indent else block


def _defines(code: str, entry_point: str) -> bool:
    """Whether the code defines the function, at the margin or, where only its name is asked for, in a ``Solution``."""
    if not entry_point:
        return False
    owner, dot, _ = entry_point.partition(".")
    name = re.escape(owner)
    if re.search(rf"^(?:async[ \t]+def|def|class)[ \t]+{name}\b|^{name}[ \t]*=[^=]", code, re.MULTILINE):
        return True
    return not dot and re.search(rf"^class[ \t]+Solution\b.*?^[ \t]+def[ \t]+{name}\b", code, re.S | re.M) is not None


def _compiles(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's odd escapes are not the trainer's concern
            compile(code, "<sample>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def _closed(prompt: str) -> str:
    """The prompt as code of its own: a signature without a body is given one."""
    return prompt if _compiles(prompt) else prompt.rstrip("\n") + "\n    pass\n"


def _longest_program(text: str, entry_point: str) -> str:
    lines = text.splitlines(keepends=True)[:_MAX_LINES]
    start = next(i for i, line in enumerate(lines) if _defines(line, entry_point))
    # lines before the definition that belong to the code: imports, helpers, decorators
    first = start
    for candidate in range(start - 1, -1, -1):
        if re.match(r"(?:import |from |def |class |@|[A-Za-z_]\w*[ \t]*=)", lines[candidate]):
            first = candidate
    for begin in dict.fromkeys((first, start)):
        for end in range(len(lines), start, -1):
            piece = "".join(lines[begin:end])
            if _compiles(piece):
                return piece
    return ""
