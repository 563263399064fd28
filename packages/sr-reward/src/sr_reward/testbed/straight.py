"""The families that are not pipelines over a sequence: arithmetic, predicates, and loops with a running value."""

from __future__ import annotations

from sr_reward.testbed.grammar import Choice, Family, Option, lines
from sr_reward.testbed.parts import ITEM_CONDITIONS, number_conditions, plain


def _arithmetic_bodies(choice: Choice) -> tuple[str, ...]:
    codes = [option.code for option in choice if option.code]
    nested = "n"
    for code in codes:
        nested = code.format(nested if nested == "n" or code.startswith(("abs", "m")) else f"({nested})")
    steps = [f"n = {code.format('n')}" for code in codes]
    last = f"return {codes[-1].format('n')}"
    return tuple(dict.fromkeys((lines(f"return {nested}"), lines(*steps, "return n"), lines(*steps[:-1], last))))


def _arithmetic_docstrings(choice: Choice) -> tuple[str, ...]:
    steps = [option.words[0] for option in choice if option.code]
    return (f"Take n, {', then '.join(steps)}.", f"Start from n: {', '.join(steps)}. Return it.")


def _steps(*kinds: str) -> tuple[Option, ...]:
    table = {
        "add": [("{} + %d", "add %d", k) for k in range(1, 8)],
        "subtract": [("{} - %d", "subtract %d", k) for k in range(1, 6)],
        "multiply": [("{} * %d", "multiply by %d", k) for k in range(2, 6)],
        "modulo": [("{} %% %d", "take it modulo %d", k) for k in range(3, 8)],
        "divide": [("{} // %d", "divide by %d", k) for k in range(2, 5)],
        "floor": [("max({}, %d)", "raise it to at least %d", k) for k in (0, 2, 5)],
        "cap": [("min({}, %d)", "cut it to at most %d", k) for k in (4, 6, 9)],
    }
    named = {"abs": ("abs({})", "drop the sign"), "negate": ("0 - {}", "negate it")}
    found = [Option(code=c % k, words=(w % k,)) for kind in kinds for c, w, k in table.get(kind, ())]
    return (*found, *(Option(code=c, words=(w,)) for c, w in (named[k] for k in kinds if k in named)))


NUMBERS = Family(
    name="numbers",
    signature="n",
    bank="int",
    slots=(
        _steps("add", "subtract", "multiply", "abs"),
        (plain(""), *_steps("add", "multiply", "modulo", "divide", "negate")),
        (plain(""), *_steps("floor", "cap", "abs")),
    ),
    bodies=_arithmetic_bodies,
    docstrings=_arithmetic_docstrings,
)

_ADJECTIVES = tuple(
    Option(code=code, words=words)
    for code, words in number_conditions("n", above=(2, 3, 4, 5, 6, 7), below=(2, 3, 4, 5, 6, 7), divisors=(3, 4, 5, 7))
)


def _predicate_bodies(choice: Choice) -> tuple[str, ...]:
    first, link, second = (option.code for option in choice)
    if not second:
        return (lines(f"return {first}"), lines(f"if {first}:", "    return True", "return False"))
    early = f"if {first}:" if link == "or" else f"if not {first}:"
    rest = f"not {second}" if link == "and not" else second
    exit_early = lines(early, f"    return {link == 'or'}", f"return {rest}")
    nested = lines(f"ok = {first}", f"return ok {link} {second}")
    return (lines(f"return {first} {link} {second}"), exit_early, nested)


def _predicate_docstrings(choice: Choice) -> tuple[str, ...]:
    first, link, second = choice
    texts = []
    for i in range(max(len(first.words), len(second.words))):
        one, two = first.words[i % len(first.words)], second.words[i % len(second.words)]
        said = f"{one} {link.words[0]} {two}" if two else one
        texts += [f"Return True if n is {said}.", f"Tell whether n is {said}."]
    return tuple(texts)


def _predicate_allows(choice: Choice) -> bool:
    first, link, second = choice
    return first.code != second.code and (bool(second.code) or link.plain)


PREDICATES = Family(
    name="predicates",
    signature="n",
    bank="int",
    slots=(
        _ADJECTIVES,
        (
            plain("and", code="and"),
            Option(code="or", words=("or",)),
            Option(code="and not", words=("but not",)),
        ),
        (plain(""), *_ADJECTIVES),
    ),
    bodies=_predicate_bodies,
    docstrings=_predicate_docstrings,
    allows=_predicate_allows,
)


def _scan_bodies(choice: Choice) -> tuple[str, ...]:
    start, condition, update = (option.code for option in choice)
    head, step = (f"t = {start}", "for x in xs:"), f"t = {update}"
    if not condition:
        return (lines(*head, f"    {step}", "return t"),)
    guarded = lines(*head, f"    if {condition}:", f"        {step}", "return t")
    inline = lines(f"t = {start}", f"for x in [x for x in xs if {condition}]:", f"    {step}", "return t")
    return (guarded, inline)


def _scan_docstrings(choice: Choice) -> tuple[str, ...]:
    start, condition, update = choice
    texts = []
    for words in condition.words:
        each = f"each x in xs {words}".strip().replace("that are", "that is")
        texts.append(f"Start t at {start.code}; for {each}, {update.words[0]}. Return t.")
        texts.append(f"With t from {start.code}, {update.words[0]} for {each}. Return t.")
    return tuple(texts)


SCANS = Family(
    name="scans",
    signature="xs",
    bank="ints",
    slots=(
        (plain("", code="0"), *(Option(code=str(k), words=("",)) for k in (1, 2, 3, 5))),
        ITEM_CONDITIONS,
        (
            plain("add x", code="t + x"),
            Option(code="t - x", words=("subtract x",)),
            Option(code="x - t", words=("subtract t from x",)),
            Option(code="t * 2 + x", words=("double t and add x",)),
            Option(code="abs(t - x)", words=("take the gap of t and x",)),
            Option(code="max(t + x, 0)", words=("add x but stay above 0",)),
            *(Option(code=f"(t + x) % {k}", words=(f"add x modulo {k}",)) for k in (3, 5, 7)),
            *(Option(code=f"t + x * {k}", words=(f"add {k} times x",)) for k in (2, 3)),
            *(Option(code=f"t + {k}", words=(f"add {k}",)) for k in (2, 3)),
        ),
    ),
    bodies=_scan_bodies,
    docstrings=_scan_docstrings,
)

# ---- the lists of families --------------------------------------------------------------------------------
