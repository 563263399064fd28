"""The families of the testbed as data: eleven that policies are trained on, four that they never see."""

from __future__ import annotations

from sr_reward.testbed.grammar import Choice, Family, Option, lines, pipeline


def _no(*words: str, code: str = "", fits: tuple[str, ...] = ()) -> Option:
    return Option(code=code, words=words, plain=True, fits=fits)


def _map(code: str, noun: str, verb: str, fits: tuple[str, ...] = ()) -> Option:
    return Option(code=code, words=(noun, verb), fits=fits)


_reduce = _map


# ---- conditions -------------------------------------------------------------------------------------------


def _number_conditions(
    name: str,
    *,
    above: tuple[int, ...],
    below: tuple[int, ...],
    divisors: tuple[int, ...],
    signs: bool = True,
) -> list[tuple[str, tuple[str, ...]]]:
    """Conditions on a number called ``name``: (expression, adjectives)."""
    found = [(f"{name} % 2 == 0", ("even",)), (f"{name} % 2 == 1", ("odd", "not even"))]
    if signs:
        found += [(f"{name} > 0", ("positive", "above 0")), (f"{name} < 0", ("negative", "below 0"))]
    found += [(f"{name} > {k}", (f"above {k}", f"greater than {k}")) for k in above]
    found += [(f"{name} < {k}", (f"below {k}", f"less than {k}")) for k in below]
    found += [(f"{name} % {k} == 0", (f"divisible by {k}", f"a multiple of {k}")) for k in divisors]
    return found


def _that_are(found: list[tuple[str, tuple[str, ...]]], link: str = "that are") -> tuple[Option, ...]:
    plain = [_no("")] if link == "that are" else []
    return (*plain, *(Option(code=c, words=tuple(f"{link} {w}" for w in words)) for c, words in found))


_ITEM_CONDITIONS = _that_are(_number_conditions("x", above=(2, 3, 4, 5, 6), below=(2, 3, 4, 5, 6), divisors=(3, 4, 5)))
_DIGIT_CONDITIONS = _that_are(
    _number_conditions("x", above=(2, 3, 4, 5, 6), below=(3, 4, 5, 6, 7), divisors=(3,), signs=False)
)
_VALUE_CONDITIONS = (
    *_that_are(_number_conditions("v", above=(2, 3, 4, 5), below=(3, 4, 5), divisors=(3,))),
    *(Option(code=f"len(k) > {n}", words=(f"with keys longer than {n}",)) for n in (1, 2)),
)
_PAIR_CONDITIONS = (
    _no(""),
    *(
        Option(code=f"a {operator} b", words=(f"with a {words}",))
        for operator, words in (
            ("<", "below b"),
            (">", "above b"),
            ("==", "equal to b"),
            ("!=", "not equal to b"),
        )
    ),
    *_that_are(_number_conditions("a", above=(2, 4), below=(3,), divisors=(3,)), "with a"),
    *_that_are(_number_conditions("b", above=(2, 4), below=(3,), divisors=(3,)), "with b"),
)
_CHARACTER_CONDITIONS = (
    _no(""),
    Option(code="c in 'aeiou'", words=("that are vowels", "in 'aeiou'")),
    Option(code="c not in 'aeiou'", words=("that are not vowels", "not in 'aeiou'")),
    Option(code="c.isdigit()", words=("that are digits",)),
    Option(code="not c.isdigit()", words=("that are not digits",)),
    Option(code="c.isalpha()", words=("that are letters",)),
    Option(code="c.isupper()", words=("that are upper case",)),
    Option(code="c.islower()", words=("that are lower case",)),
    Option(code="c != ' '", words=("that are not spaces",)),
    *(Option(code=f"c > '{x}'", words=(f"after '{x}'",)) for x in "bdm"),
    *(Option(code=f"c < '{x}'", words=(f"before '{x}'",)) for x in "bdm"),
    *(Option(code=f"c != '{x}'", words=(f"other than '{x}'",)) for x in "abe"),
)
_ROW_CONDITIONS = (
    _no(""),
    Option(code="r", words=("that are not empty",)),
    *(Option(code=f"len(r) > {k}", words=(f"longer than {k}",)) for k in (1, 2, 3)),
    *(Option(code=f"len(r) < {k}", words=(f"shorter than {k}",)) for k in (2, 3)),
    *(Option(code=f"sum(r) > {k}", words=(f"with sum above {k}",)) for k in (2, 4, 6)),
    *(Option(code=f"sum(r) < {k}", words=(f"with sum below {k}",)) for k in (3, 5)),
    Option(code="sum(r) % 2 == 0", words=("with even sum",)),
    *(Option(code=f"{k} in r", words=(f"that hold {k}",)) for k in (0, 1, 2)),
)

# ---- maps and reducers ------------------------------------------------------------------------------------


def _number_maps(name: str, *, added: tuple[int, ...], factors: tuple[int, ...]) -> tuple[Option, ...]:
    return (
        _no("{}", "", code=name),
        _map(f"{name} * {name}", "the squares of {}", "square them"),
        _map(f"-{name}", "the negatives of {}", "negate them"),
        *(_map(f"{name} + {k}", f"{k} plus each of {{}}", f"add {k} to each") for k in added),
        *(_map(f"{name} - {k}", f"{k} less than each of {{}}", f"subtract {k} from each") for k in added[:2]),
        *(_map(f"{name} * {k}", f"{k} times each of {{}}", f"multiply each by {k}") for k in factors),
    )


_PAIR_MAPS = (
    _no("{}", "", code="(a, b)", fits=("list", "reversed", "sorted")),
    _map("(b, a)", "the swaps of {}", "swap each", ("list", "reversed", "sorted")),
    _map("a", "the first parts of {}", "take each a"),
    _map("b", "the second parts of {}", "take each b"),
    _map("a + b", "the sums of {}", "add a and b"),
    _map("a - b", "the differences of {}", "subtract b from a"),
    _map("a * b", "the products of {}", "multiply a by b"),
    _map("abs(a - b)", "the gaps of {}", "take each gap"),
    _map("max(a, b)", "the larger parts of {}", "take each larger part"),
    _map("min(a, b)", "the smaller parts of {}", "take each smaller part"),
)
_LIST = _no("a list of {}", "list them", code="list")
_SUM = _reduce("sum", "the sum of {}", "sum them up")
_COUNT = _reduce("count", "the number of {}", "count them")
_MAX = _reduce("max", "the largest of {}, or 0", "find the largest, or 0")
_MIN = _reduce("min", "the smallest of {}, or 0", "find the smallest, or 0")
_SORTED = _reduce("sorted", "a sorted list of {}", "sort them")
_REVERSED = _reduce("reversed", "a reversed list of {}", "list them in reverse")
_DISTINCT = _reduce("distinct", "the number of distinct values of {}", "count the distinct values")
_NUMBER_REDUCERS = (_LIST, _SUM, _COUNT, _MAX, _MIN, _SORTED, _REVERSED, _DISTINCT)
_ORDERLESS_REDUCERS = (_LIST, _SUM, _COUNT, _MAX, _MIN, _SORTED)
_TEXT_REDUCERS = (
    _no("a string of {}", "join them", code="join"),
    _reduce("join_sorted", "a sorted string of {}", "join them sorted"),
    _reduce("join_reversed", "a reversed string of {}", "join them in reverse"),
    _LIST,
    _COUNT,
    _DISTINCT,
)

# ---- families that are not pipelines ----------------------------------------------------------------------


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
        (_no(""), *_steps("add", "multiply", "modulo", "divide", "negate")),
        (_no(""), *_steps("floor", "cap", "abs")),
    ),
    bodies=_arithmetic_bodies,
    docstrings=_arithmetic_docstrings,
)

_ADJECTIVES = tuple(
    Option(code=code, words=words)
    for code, words in _number_conditions(
        "n", above=(2, 3, 4, 5, 6, 7), below=(2, 3, 4, 5, 6, 7), divisors=(3, 4, 5, 7)
    )
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
            _no("and", code="and"),
            Option(code="or", words=("or",)),
            Option(code="and not", words=("but not",)),
        ),
        (_no(""), *_ADJECTIVES),
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
        (_no("", code="0"), *(Option(code=str(k), words=("",)) for k in (1, 2, 3, 5))),
        _ITEM_CONDITIONS,
        (
            _no("add x", code="t + x"),
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

TRAINED: tuple[Family, ...] = (
    NUMBERS,
    PREDICATES,
    SCANS,
    pipeline(
        name="lists",
        signature="xs",
        bank="ints",
        loop="for x in xs",
        noun="the numbers in xs",
        conditions=_ITEM_CONDITIONS,
        maps=_number_maps("x", added=(1, 2, 3, 4), factors=(2, 3)),
        reducers=_NUMBER_REDUCERS,
    ),
    pipeline(
        name="strings",
        signature="s",
        bank="text",
        loop="for c in s",
        noun="the characters in s",
        conditions=_CHARACTER_CONDITIONS,
        maps=(
            _no("{}", "", code="c"),
            _map("c.upper()", "upper case of {}", "raise their case"),
            _map("c.lower()", "lower case of {}", "lower their case"),
            _map("c * 2", "doubles of {}", "double each"),
            _map("c + '-'", "dashed {}", "add a dash to each"),
        ),
        reducers=_TEXT_REDUCERS,
    ),
    pipeline(
        name="dicts",
        signature="d",
        bank="table",
        loop="for k, v in d.items()",
        noun="the values in d",
        conditions=_VALUE_CONDITIONS,
        maps=_number_maps("v", added=(1, 2, 3), factors=(2, 3)),
        reducers=(
            _no("a dict of keys to {}", "map keys to them", code="dict"),
            _SUM,
            _COUNT,
            _MAX,
            _MIN,
            _SORTED,
            _reduce("keys", "the sorted keys of {}", "sort their keys"),
            _reduce("join_keys", "a string of the sorted keys of {}", "join their sorted keys"),
        ),
    ),
    pipeline(
        name="tuples",
        signature="ps",
        bank="pairs",
        loop="for a, b in ps",
        noun="the pairs in ps",
        conditions=_PAIR_CONDITIONS,
        maps=_PAIR_MAPS,
        reducers=_ORDERLESS_REDUCERS,
    ),
    pipeline(
        name="neighbours",
        signature="xs",
        bank="ints",
        loop="for a, b in zip(xs, xs[1:])",
        noun="the neighbours in xs",
        conditions=_PAIR_CONDITIONS,
        maps=_PAIR_MAPS,
        reducers=_ORDERLESS_REDUCERS,
    ),
    pipeline(
        name="nested",
        signature="rows",
        bank="rows",
        loop="for r in rows",
        noun="the rows",
        conditions=_ROW_CONDITIONS,
        maps=(
            _no("{}", "", code="r", fits=("list", "reversed", "sorted")),
            _map("r[::-1]", "reverses of {}", "reverse each", ("list", "reversed", "sorted")),
            _map("sorted(r)", "sorted {}", "sort each", ("list", "reversed", "sorted")),
            _map("sum(r)", "the sums of {}", "sum each"),
            _map("len(r)", "the lengths of {}", "measure each"),
            _map("max(r, default=0)", "the largest in each of {}", "find the largest in each"),
            _map("min(r, default=0)", "the smallest in each of {}", "find the smallest in each"),
        ),
        reducers=(_LIST, _SUM, _COUNT, _MAX, _MIN, _SORTED, _REVERSED),
    ),
    pipeline(
        name="flattened",
        signature="rows",
        bank="rows",
        loop="for r in rows for x in r",
        noun="the numbers in all rows",
        conditions=_ITEM_CONDITIONS,
        maps=_number_maps("x", added=(1, 2, 3), factors=(2, 3)),
        reducers=_NUMBER_REDUCERS,
    ),
    pipeline(
        name="digits",
        signature="n",
        bank="int",
        loop="for x in map(int, str(abs(n)))",
        noun="the digits of n",
        conditions=_DIGIT_CONDITIONS,
        maps=_number_maps("x", added=(1, 2, 3), factors=(2, 3)),
        reducers=_NUMBER_REDUCERS,
    ),
)

OUT_OF_DISTRIBUTION: tuple[Family, ...] = (
    pipeline(
        name="words",
        signature="s",
        bank="text",
        loop="for w in s.split()",
        noun="the words in s",
        conditions=(
            _no(""),
            *(Option(code=f"len(w) > {k}", words=(f"longer than {k}",)) for k in (1, 2, 3)),
            Option(code="w[0] in 'aeiou'", words=("that start with a vowel",)),
            Option(code="w.isalpha()", words=("that are letters",)),
        ),
        maps=(
            _no("{}", "", code="w"),
            _map("w.upper()", "upper case of {}", "raise their case"),
            _map("w[::-1]", "reverses of {}", "reverse each"),
            _map("w[0]", "the first letters of {}", "take the first letter of each"),
        ),
        reducers=_TEXT_REDUCERS,
    ),
    pipeline(
        name="two_lists",
        signature="xs, ys",
        bank="two",
        loop="for a, b in zip(xs, ys)",
        noun="the pairs of xs and ys",
        conditions=_PAIR_CONDITIONS,
        maps=_PAIR_MAPS,
        reducers=_ORDERLESS_REDUCERS,
    ),
    pipeline(
        name="positions",
        signature="xs",
        bank="ints",
        loop="for i, x in enumerate(xs)",
        noun="the numbers at place i in xs",
        conditions=(
            *_ITEM_CONDITIONS[:5],
            Option(code="i % 2 == 0", words=("with i even",)),
            Option(code="x > i", words=("above i",)),
        ),
        maps=(
            _no("{}", "", code="x"),
            _map("x + i", "i plus each of {}", "add i"),
            _map("x * i", "i times each of {}", "multiply by i"),
        ),
        reducers=_ORDERLESS_REDUCERS,
    ),
    pipeline(
        name="ranges",
        signature="n",
        bank="int",
        loop="for i in range(abs(n) % 30)",
        noun="the numbers i below abs(n) % 30",
        conditions=_that_are(_number_conditions("i", above=(2, 5), below=(4, 7), divisors=(3, 4), signs=False)),
        maps=_number_maps("i", added=(1, 2), factors=(2,)),
        reducers=_ORDERLESS_REDUCERS,
    ),
)
