"""The blocks of code in a text: fenced ones, and runs of lines that read as Python between prose.

Every function is linear in its text.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON_TAGS = ("python", "py", "python3", "python2", "python 3", "ipython", "pycon")
_FENCES = ("```", "~~~")
_QUOTES = 8  # how deep a quoted block may lie
_COMPOUND = ("if", "for", "while", "with", "try", "elif", "else", "except", "finally", "match", "case")
_OPENERS = ("def", "class", "async", "assert", "del", "raise", "return", "global", "pass", "yield", "lambda")


class Block:
    """A piece of code: its tag (lower case, empty where there is none) and its text, which ends with a newline.
    ``last`` says that the text ended before the block was closed."""

    __slots__ = ("last", "tag", "text")

    def __init__(self, tag: str, lines: list[str], last: bool) -> None:
        self.tag, self.text, self.last = tag, "\n".join(lines) + "\n", last

    @property
    def python(self) -> bool:
        return self.tag in PYTHON_TAGS


def fenced_blocks(text: str, *, strings: bool) -> list[Block]:
    """The fenced blocks of ``text``, in order. With ``strings`` a fence inside a triple-quoted string of the block is
    part of the string."""
    found: list[Block] = []
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        opening = _opening(lines[number])
        number += 1
        if opening is None:
            continue
        fence, tag, inline, prefix = opening
        if inline is not None:
            found.append(Block(tag, [inline], False))
            continue
        body: list[str] = []
        state, closed = "", False
        while number < len(lines):
            line = _without_prefix(lines[number], prefix)
            bare = line.strip()
            if not (strings and state):
                if _closes(bare, fence):
                    number += 1
                    closed = True
                    break
                if bare.startswith(fence) and _tag(bare[len(fence) :]) in PYTHON_TAGS:
                    closed = True  # the next block opens before this one was closed
                    break
                if bare.endswith(fence):
                    body.append(line.rstrip().rstrip(fence[0]))
                    number += 1
                    closed = True
                    break
            body.append(line)
            number += 1
            if strings:
                state = string_state(line, state)
        found.append(Block(tag, body, not closed))
    return found


def before_fence(text: str) -> str | None:
    """What stands before the first fence of ``text``, or None where there is no fence."""
    places = [place for place in (text.find(fence) for fence in _FENCES) if place >= 0]
    if not places:
        return None
    start = text.rfind("\n", 0, min(places)) + 1
    line = text[start : min(places)]
    return text[:start] + (line + "\n" if line.strip() else "")


def code_runs(text: str) -> list[Block]:
    """The runs of lines of ``text`` that read as Python, each as a block without a tag."""
    found: list[Block] = []
    run: list[str] = []
    state = ""
    for line in text.split("\n"):
        if state or not line.strip() or line[0].isspace() or reads_as_code(line):
            if run or line.strip():
                run.append(line)
                state = string_state(line, state)
            continue
        if run:
            found.append(Block("", run, False))
        run = []
    if run:
        found.append(Block("", run, True))
    return found


def reads_as_code(line: str) -> bool:
    """Whether a line at the margin reads as Python and not as prose."""
    line = line.rstrip()
    if line[0] in "#@)]}" or line.startswith(('"""', "'''")):
        return True
    word = _word(line)
    if word in _COMPOUND:
        return ":" in line or "__name__" in line
    if word == "from":
        return " import " in line
    if word == "import":
        names = line[6:].replace(" as ", ".").replace(",", ".").split(".")
        return all(name.strip().isidentifier() for name in names)
    if word in _OPENERS:
        return True
    rest = line[len(word) :]
    if word and rest.startswith("("):
        return True
    if "=" in line:
        return _is_target(line[: line.index("=")])
    return bool(word) and rest.startswith((".", "[")) and rest.endswith((")", "]"))


def string_state(line: str, state: str) -> str:
    """The triple quote that is open after ``line``, given the one that was open before it (empty: none)."""
    if not state and '"""' not in line and "'''" not in line:
        return ""
    place, length = 0, len(line)
    while place < length:
        char = line[place]
        if char == "\\":
            place += 2
            continue
        if state:
            if char == state[0] and line.startswith(state, place):
                place += 3
                state = ""
                continue
        elif char == "#":
            return ""
        elif char in "\"'":
            if line.startswith(char * 3, place):
                state = char * 3
                place += 3
                continue
            place = _end_of_string(line, place + 1, char)
            continue
        place += 1
    return state


def margin_lines(code: str) -> Iterator[str]:
    """The lines at the margin, without those inside triple-quoted strings."""
    state = ""
    for line in code.split("\n"):
        if not state and line and not line[0].isspace():
            yield line
        state = string_state(line, state)


def _end_of_string(line: str, place: int, quote: str) -> int:
    while place < len(line):
        if line[place] == "\\":
            place += 1
        elif line[place] == quote:
            return place + 1
        place += 1
    return place


def _opening(line: str) -> tuple[str, str, str | None, str] | None:
    """``(fence, tag, code on the same line, prefix)`` of a line that opens a block, else None."""
    places = [(line.find(fence), fence) for fence in _FENCES if fence in line]
    if not places:
        return None
    place, fence = min(places)
    before, rest = line[:place], line[place:].lstrip(fence[0])
    fence = fence[0] * (len(line) - place - len(rest))
    alone = not before.strip(" \t>*-+.)0123456789")
    end = rest.find(fence)
    if end >= 0:
        inline = rest[:end]
        tag, _, code = inline.partition(" ")
        return (fence, tag, code, "") if tag in PYTHON_TAGS else (fence, "", inline, "")
    tag = _tag(rest)
    if not alone and (fence[0] == "~" or not (tag in PYTHON_TAGS or not tag)):
        return None  # a fence in the middle of a sentence
    return fence, tag, None, before if alone else ""


def _tag(info: str) -> str:
    words = info.strip().strip("{}").lstrip(".").lower().split()
    return " ".join(words[:2]) if words[:2] == ["python", "3"] else (words[0].strip(",;:{}.") if words else "")


def _closes(bare: str, fence: str) -> bool:
    return len(bare) >= len(fence) and bare.startswith(fence) and not bare.strip(fence[0])


def _without_prefix(line: str, prefix: str) -> str:
    """A line of a block without what stands before the block's fences: an indent, a list's mark, or quote marks."""
    for _ in range(min(prefix.count(">"), _QUOTES)):
        bare = line.lstrip(" \t")
        if bare.startswith(">"):
            line = bare[1:].removeprefix(" ")
    if ">" in prefix or not prefix:
        return line
    blank = len(line) - len(line.lstrip(" \t"))
    return line[min(blank, len(prefix)) :]


def _word(line: str) -> str:
    end = 0
    while end < len(line) and (line[end].isalnum() or line[end] == "_"):
        end += 1
    return line[:end]


def _is_target(text: str) -> bool:
    """Whether what stands before an equals sign can be assigned to."""
    text = text.rstrip("+-*/%&|^<>@ :")
    if text.endswith(("!", "=")) or not text:
        return False
    name, _, _ = text.partition(":")
    return all(part.strip() and " " not in part.strip() for part in name.split("[")[0].split(","))
