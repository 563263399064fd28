"""From what a model wrote to the program that is run.

The rules, in order; the first that gives a program that compiles decides:

1. The text as it is: a completion after its prompt, anything else as a program of its own.
2. The same for the text without its thinking (``<think>...</think>``; what is never closed is no answer).
3. What stands before the first fence, for a text that began inside a block.
4. A fenced block: of those that define the entry point (or a class ``Solution`` that does) the last, as a revised
   answer comes later; where no function is asked for the last that reads or prints something. Blocks marked as Python
   go before those without a mark, and those that define it before those that import it, as tests do. Blocks that
   only import and define things go with it: those before it, and those after it that define a name that it uses.
5. The same among the runs of lines that read as Python, between prose, if one defines the entry point.

A program that defines the entry point anew, and every solution, follows the prompt, whose imports and helpers it may
use, or, where the prompt is no code, the imports that its format's grader gives. A text that ends in mid-program does
not compile, and so fails, unless ``trim`` says that the statements before its end count.

``assemble`` runs in the reader (``grading.reader``), which bounds its CPU time and memory; the grader's own process
calls ``needs_reading`` and ``as_is`` only. Every search here is linear in the text, and what is compiled is compiled a
bounded number of times.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sr_reward.grading import markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from sr_reward.task import Task

AS_IS, TEXT, NONE = b"=", b"+", b"-"  # first byte of an answer: the text as it is, the text that follows, no code
_SHORT = 1 << 16  # characters that the grader's own process searches for prose: a millisecond
_MARKS = ("```", "~~~", "</", "<think", "<reasoning", "<thought", "\r", "\x00", "\ufeff")
_THINKING = ("think", "thinking", "reasoning", "thought")
_BLOCKS = 64  # the last so many blocks are considered
_TRIMS = 8  # how often the end of a text may be cut back
# a line at the margin that need not be Python; what it takes for prose wrongly costs a request to the reader, no more
_PROSE = re.compile(
    r"""^(?!\s|$|[#@)\]}]|(?:def|class|async)[ ]|from[ ][\w.]+[ ]import[ ]|import[ ][\w.]+$
        |(?:if|for|while|with|elif|except)\b.*:|(?:else|try|finally)[ ]*:|(?:assert|del|raise)[ ]|pass[ ]*$
        |[A-Za-z_][\w.]*(?:\(|\[|[ ]?[-+*/%&|^<>@]{0,3}=[^=]|,[ ]?\w+(?:,[ ]?\w+)*[ ]?=[^=]))""",
    re.MULTILINE | re.VERBOSE,
)


class Question(NamedTuple):
    """What the rules need to know of a task; sent to the reader as a plain tuple.

    ``before`` is what a program that does not continue the prompt may use; ``trim`` says whether an answer that was cut
    off counts up to its last statement.
    """

    prompt: str
    entry_point: str
    prompt_is_code: bool
    before: str
    trim: bool


def question_of(task: Task, *, trim: bool = False) -> Question:
    """The part of a task that ``assemble`` reads."""
    before = _before_anew(task.prompt, task.entry_point) if task.prompt_is_code else task.imports
    return Question(task.prompt, task.entry_point, task.prompt_is_code, before, trim)


@lru_cache(maxsize=4096)
def _before_anew(prompt: str, entry_point: str) -> str:
    """The prompt as code of its own, without the function that it asks for: a signature without a body is no answer.
    Empty where it cannot be made so."""
    closed = _closed(prompt) if prompt.strip() else ""
    owner = entry_point.partition(".")[0]
    return f"{closed}\nglobals().pop({owner!r}, None)\n" if closed and owner else closed


def program_text(task: Task, completion: str, *, solution: bool = False, trim: bool = False) -> str | None:
    """``assemble`` for a task, in this process and without limits: for texts that are trusted."""
    return assemble(question_of(task, trim=trim), completion, solution=solution)


def as_is(question: Question, completion: str, *, solution: bool) -> str:
    """The program if nothing has to be taken out of the completion. Linear."""
    return _placed(completion, Recipe(question, solution=solution))


def needs_reading(question: Question, completion: str) -> bool:
    """Whether ``assemble`` could give anything but the text as it is; False only if it cannot. Linear."""
    if question.trim or len(completion) > _SHORT or any(mark in completion for mark in _MARKS):
        return True
    return _PROSE.search(completion) is not None or not completion.strip() or not _encodes(completion)


def answer_request(fields: tuple[str, str, bool, str, bool], completion: str, solution: bool) -> bytes:
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
    if not needs_reading(question, completion):
        return as_is(question, completion, solution=solution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's odd escapes are not the trainer's concern
        return _find_program(completion, Recipe(question, solution=solution)) or None


class Recipe:
    """A question, and whether the text is a whole program or continues the prompt. What answers a text is whole."""

    __slots__ = ("before", "entry_point", "prompt", "trim", "whole")

    def __init__(self, question: Question, *, solution: bool) -> None:
        self.prompt, self.entry_point, code, self.before, self.trim = question
        self.whole = solution or not code


def _find_program(text: str, recipe: Recipe) -> str:
    """The program; empty where the text holds no code."""
    text = _clean(text)
    answer = _without_thinking(text)
    for whole in (text, answer) if answer != text else (text,):
        if not whole.strip():
            return ""
        source = _placed(whole, recipe)
        if _compiled(source) is not None:
            return source
    tried = []
    head = markdown.before_fence(answer)
    if head is not None:
        if head.strip() and _is_answer(head, recipe):
            source = _placed(head, recipe)
            if _compiled(source) is not None:
                return source
        tried = [_chosen(markdown.fenced_blocks(answer, strings=strings), recipe) for strings in (True, False)]
    runs = markdown.code_runs(answer)
    if not any(found and found.answers for found in tried):
        tried.append(_chosen([run for run in runs if _answers(run.text, recipe)], recipe))
    candidates = [found for found in tried if found]
    for found in candidates:
        if found.code is not None and found.answers:
            return found.source
    if not candidates and runs:
        candidates = [_Candidate(answer, recipe)]
    trimmed = (_trimmed(found, recipe) for found in candidates if recipe.trim)
    sources = [*(source for source in trimmed if source)]
    sources += [found.source for found in candidates if found.code is not None]
    sources += [found.source for found in candidates]
    return sources[0] if sources else ""


def _clean(text: str) -> str:
    """The text as a file of UTF-8 would hold it: no byte-order mark, newlines only, no half of a surrogate pair."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode().removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.rstrip("\x00") if text.endswith("\x00") else text


def _without_thinking(text: str) -> str:
    for name in _THINKING:
        opening, closing = f"<{name}>", f"</{name}>"
        if closing not in text and opening not in text:
            continue
        parts, place = [], 0
        first = text.find(closing)
        if first >= 0 and not 0 <= text.find(opening) < first:
            place = first + len(closing)  # the opening tag stood in the prompt
        while True:
            begin = text.find(opening, place)
            if begin < 0:
                parts.append(text[place:])
                break
            parts.append(text[place:begin])
            end = text.find(closing, begin)
            if end < 0:
                break
            place = end + len(closing)
        text = "".join(parts).lstrip("\n")
    return text


def _chosen(blocks: list[markdown.Block], recipe: Recipe) -> _Candidate | None:
    """The block that answers, with the blocks that belong to it. None where there is none."""
    marked = [block for block in blocks if block.python]
    bare = [block for block in blocks if not block.tag]
    ranks = [rank for rank in (marked, bare) if rank] or [blocks]
    filled = [[block.text for block in rank if block.text.strip()] for rank in ranks]
    rows = [[_Candidate(text, recipe) for text in rank[-_BLOCKS:]] for rank in filled]
    tests: tuple[Callable[[_Candidate], bool], ...] = (
        lambda found: found.code is not None and found.answers and not found.imports,
        lambda found: found.code is not None and found.answers,
        lambda found: bool(recipe.entry_point) and found.answers,
        lambda found: found.code is not None,
        lambda found: True,
    )
    for test in tests:
        for row in rows:
            for number in range(len(row) - 1, -1, -1):
                if test(row[number]):
                    return _with_helpers(row[number], row[:number], row[number + 1 :], recipe)
    return None


class _Candidate:
    """A piece of code as a program: placed, compiled (None where it does not), whether it answers the task, and whether
    that is by an import alone."""

    def __init__(self, text: str, recipe: Recipe) -> None:
        if recipe.whole and _indented(text):
            text = _dedented(text)
        elif not recipe.whole and not _is_answer(text, recipe) and _compiled(text) is None:
            text = "".join(f"    {line}\n" for line in text.split("\n"))  # a body at the margin
        self.text, self.source = text, _placed(text, recipe)
        self.code = _compiled(self.source)
        self.answers = _is_answer(text, recipe)
        self.imports = bool(recipe.entry_point) and _imports(text, recipe.entry_point)


def _with_helpers(found: _Candidate, before: list[_Candidate], after: list[_Candidate], recipe: Recipe) -> _Candidate:
    """The block after those that only import and define what it may use."""
    used = set(_WORDS.findall(found.text))
    named = [other for other in after if not used.isdisjoint(_DEFINED.findall(other.text))]
    helpers = [other.text for other in (*before, *named) if _only_defines(other.text, recipe)]
    if helpers and found.code is not None and not _indented(found.text):
        both = _Candidate("".join(helpers) + found.text, recipe)
        if both.code is not None:
            return both
    return found


def _placed(code: str, recipe: Recipe) -> str:
    """The whole program for a piece of code: after the prompt that it continues, or after what it may use."""
    if not recipe.whole and not (recipe.before and _defines(code, recipe.entry_point)):
        return recipe.prompt + code
    if not recipe.before:
        return code
    future, code = _future_imports(code)
    return f"{future}{recipe.before}\n{code}"


def _is_answer(code: str, recipe: Recipe) -> bool:
    """Whether the code answers the task: by what it defines or, indented, as the body that the prompt waits for."""
    return _answers(code, recipe) or (not recipe.whole and _indented(code))


def _answers(code: str, recipe: Recipe) -> bool:
    """Whether the code defines what is asked for; where nothing is, whether it reads, prints or writes."""
    if recipe.entry_point:
        return _defines(code, recipe.entry_point)
    return any(word in code for word in ("print(", "input(", "stdin", "stdout", "open(", "os.write"))


def _future_imports(code: str) -> tuple[str, str]:
    """``(lines, the code without them)``: imports from ``__future__`` must come first in a program."""
    if "__future__" not in code:
        return "", code
    taken, kept = [], []
    for line in code.split("\n"):
        if line.startswith("from __future__ import ") and "(" not in line and "\\" not in line:
            taken.append(line + "\n")
        else:
            kept.append(line)
    return "".join(taken), "\n".join(kept)


def _closed(prompt: str) -> str:
    """The prompt as code of its own: a signature without a body is given one. Empty where it cannot be closed."""
    if _compiled(prompt) is not None:
        return prompt
    lines = prompt.rstrip().split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    blank = last[: len(last) - len(last.lstrip())]
    for indent in (blank + "    ", blank, "    "):
        closed = "\n".join(lines) + f"\n{indent}pass\n"
        if _compiled(closed) is not None:
            return closed
    return ""


def _defines(code: str, entry_point: str) -> bool:
    """Whether the code defines the function, at the margin or, where only its name is asked for, in ``Solution``."""
    owner, dot, _ = entry_point.partition(".")
    if not owner or owner not in code:
        return False
    at_margin, in_class = _definitions_of(owner)
    if at_margin.search(code):
        return True
    found = None if dot else _SOLUTION.search(code)
    return found is not None and in_class.search(code, found.end()) is not None


def _imports(code: str, entry_point: str) -> bool:
    """Whether all that defines the function is an import."""
    at_margin, _ = _definitions_of(entry_point.partition(".")[0])
    found = [match[0] for match in at_margin.finditer(code)]
    return bool(found) and all(text.startswith(("from", "import")) for text in found)


@lru_cache(maxsize=4096)
def _definitions_of(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    name = re.escape(name)
    at_margin = (
        rf"^(?:(?:async[ \t]+def|def|class)[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]*)?=(?!=)"
        rf"|(?:from|import)[ ].*\b(?:as|import)[ ]{name}[ \t]*$)"
    )
    in_class = rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{name}\b"
    return re.compile(at_margin, re.MULTILINE), re.compile(in_class, re.MULTILINE)


_WORDS, _DEFINED = re.compile(r"\w+"), re.compile(r"^(?:async def|def|class)[ \t]+(\w+)", re.MULTILINE)
_SOLUTION = re.compile(r"^class[ \t]+Solution\b", re.MULTILINE)


def _only_defines(code: str, recipe: Recipe) -> bool:
    """Whether a block only imports, defines and names constants, and leaves the entry point to another."""
    if recipe.entry_point and _defines(code, recipe.entry_point):
        return False
    for line in markdown.margin_lines(code):
        if line[0] in "#@)]}" or line.startswith(("def ", "class ", "async def ", "import ", "from ", '"""', "'''")):
            continue
        name, equals, value = line.partition("=")
        if not (equals and name.strip().isidentifier() and "(" not in value and value[:1] != "="):
            return False
    return _compiled(code) is not None


def _indented(code: str) -> bool:
    """Whether the first line that is not blank is indented. A form feed begins a line anew, as in Python."""
    at = len(code) - len(code.lstrip())
    begin = code.rfind("\n", 0, at) + 1
    return begin < at < len(code) and not code[begin:at].strip(" \t")


def _dedented(code: str) -> str:
    lines = code.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    return "\n".join(line[min(indents, default=0) :] for line in lines)


def _trimmed(found: _Candidate, recipe: Recipe) -> str:
    """The program without the statements from which on it does not compile, if it still answers; else empty."""
    lines = found.text.split("\n")
    for _ in range(_TRIMS):
        text = "\n".join(lines) + "\n"
        source = _placed(text, recipe)
        at = _error_line(source)
        if at is None:
            return source if _is_answer(text, recipe) else ""
        at -= source.count("\n") - text.count("\n")
        del lines[max(min(at - 1, len(lines) - 1), 0) :]
        while lines and (not lines[-1].strip() or lines[-1].rstrip().endswith((":", ",", "(", "[", "{"))):
            lines.pop()
    return ""


def _error_line(code: str) -> int | None:
    """The line (from 1) from which on the code is no Python; None if it compiles."""
    try:
        compile(code, "<program>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return 1
    return None


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _compiled(code: str) -> CodeType | None:
    try:
        found: CodeType = compile(code, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
    return found
