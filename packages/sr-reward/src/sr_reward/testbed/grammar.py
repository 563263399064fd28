"""What a testbed program is made of: a family, and one option in each of its slots.

A program such as "the sum of the squares of the numbers in xs that are even" fills three slots (condition,
map, reducer). Each option carries its code and its wordings, so one choice yields several bodies that mean
the same (comprehension, loop) and several docstrings that say it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Choice = tuple["Option", ...]
INDENT = "    "


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to fill a slot. ``code`` is a fragment, or a name its family looks up; ``words`` say it."""

    code: str
    words: tuple[str, ...]
    plain: bool = False
    """The slot might as well be left out: such options do not count towards the tier."""
    fits: tuple[str, ...] = ()
    """For a map: the reducers that can take its values; empty = those that take numbers and strings alike."""


def always(choice: Choice) -> bool:
    """Accept every choice: the rule of a family whose options all go together."""
    return True


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of task: ``slots`` to fill, and how a choice is written as bodies and as docstrings.

    ``signature`` names the parameters; ``bank`` names the inputs its programs are compared on, so families
    with the same bank can hold programs of the same meaning.
    """

    name: str
    signature: str
    bank: str
    slots: tuple[tuple[Option, ...], ...]
    bodies: Callable[[Choice], tuple[str, ...]]
    docstrings: Callable[[Choice], tuple[str, ...]]
    allows: Callable[[Choice], bool] = always


@dataclass(frozen=True, kw_only=True)
class Program:
    """A filled-in family: something that can be written, worded and run."""

    family: Family
    choice: Choice

    @property
    def bodies(self) -> tuple[str, ...]:
        """Indented function bodies of one meaning, each ending in a newline; the first is the reference."""
        return self.family.bodies(self.choice)

    @property
    def prompts(self) -> tuple[str, ...]:
        """``def f(...):`` and a docstring, in every wording."""
        return tuple(self.prompt(text) for text in self.family.docstrings(self.choice))

    def prompt(self, docstring: str) -> str:
        return f'def f({self.family.signature}):\n    """{docstring}"""\n'

    @property
    def tier(self) -> str:
        """``easy``: at most one slot says something; ``medium``: two; ``hard``: three or more."""
        active = sum(not option.plain for option in self.choice)
        return ("easy", "easy", "medium", "hard")[min(active, 3)]


def lines(*texts: str) -> str:
    """A function body: each text indented by one level (further levels are the caller's), newline-ended."""
    return "".join(f"{INDENT}{text}\n" for text in texts)


# ---- pipelines: reduce(map(item) for item in source if condition) -----------------------------------------

# reducer -> expressions over {m} (mapped item) and {g} ("for item in source if condition")
_EXPRESSIONS = {
    "list": ("[{m} {g}]", "list({m} {g})"),
    "sum": ("sum({m} {g})", "sum([{m} {g}])"),
    "count": ("sum(1 {g})", "len([1 {g}])"),
    "max": ("max(({m} {g}), default=0)", "max([{m} {g}], default=0)"),
    "min": ("min(({m} {g}), default=0)", "min([{m} {g}], default=0)"),
    "sorted": ("sorted({m} {g})", "sorted([{m} {g}])"),
    "reversed": ("[{m} {g}][::-1]", "list(reversed([{m} {g}]))"),
    "distinct": ("len({{{m} {g}}})", "len(set({m} {g}))"),
    "join": ("''.join({m} {g})", "''.join([{m} {g}])"),
    "join_sorted": ("''.join(sorted({m} {g}))", "''.join(sorted([{m} {g}]))"),
    "join_reversed": ("''.join([{m} {g}][::-1])", "''.join(reversed([{m} {g}]))"),
    "dict": ("{{k: {m} {g}}}", "dict((k, {m}) {g})"),
    "keys": ("sorted(k {g})", "sorted([k {g}])"),
    "join_keys": ("''.join(sorted(k {g}))", "''.join(sorted([k {g}]))"),
}
# reducer -> (name of the accumulator, its start, the step)
_LOOPS = {
    "list": ("out", "[]", "out.append({m})"),
    "sum": ("t", "0", "t += {m}"),
    "count": ("t", "0", "t += 1"),
    "join": ("out", "''", "out += {m}"),
    "dict": ("out", "{{}}", "out[k] = {m}"),
}
_IGNORE_THE_MAP = ("count", "keys", "join_keys")


def pipeline(
    *,
    name: str,
    signature: str,
    bank: str,
    loop: str,
    noun: str,
    conditions: tuple[Option, ...],
    maps: tuple[Option, ...],
    reducers: tuple[Option, ...],
) -> Family:
    """A family of comprehensions over ``loop`` (``"for x in xs"``), whose items a docstring calls ``noun``.

    Slots: condition (code is an expression, empty for none), map (code is an expression, words are a noun
    and a verb with ``{}``-free text), reducer (code is a key above, words are a noun and a verb).
    """

    def bodies(choice: Choice) -> tuple[str, ...]:
        condition, mapped, reducer = (option.code for option in choice)
        generator = f"{loop} if {condition}" if condition else loop
        texts = [lines("return " + form.format(m=mapped, g=generator)) for form in _EXPRESSIONS[reducer]]
        if reducer in _LOOPS:
            out, start, step = (text.format(m=mapped) for text in _LOOPS[reducer])
            levels = [f"for {part}:" for part in loop.removeprefix("for ").split(" for ")]
            levels += [f"if {condition}:"] if condition else []
            nested = [INDENT * depth + text for depth, text in enumerate([*levels, step])]
            texts.append(lines(f"{out} = {start}", *nested, f"return {out}"))
        return tuple(texts)

    def docstrings(choice: Choice) -> tuple[str, ...]:
        condition, mapped, reducer = choice
        texts = []
        for words in condition.words:
            items = f"{noun} {words}".strip()
            source = mapped.words[0].format(items)
            steps = " and ".join(step for step in (mapped.words[1], reducer.words[1]) if step)
            texts.append(f"Return {reducer.words[0].format(source)}.")
            texts.append(f"Take {items}: {steps}.")
        return tuple(texts)

    def allows(choice: Choice) -> bool:
        _, mapped, reducer = choice
        if reducer.code in _IGNORE_THE_MAP:
            return mapped.plain
        return not mapped.fits or reducer.code in mapped.fits

    return Family(
        name=name,
        signature=signature,
        bank=bank,
        slots=(conditions, maps, reducers),
        bodies=bodies,
        docstrings=docstrings,
        allows=allows,
    )
