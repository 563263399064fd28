"""What families are put together from: conditions, maps and reducers, each with the words that ask for it."""

from __future__ import annotations

from sr_reward.testbed.grammar import Option


def plain(*words: str, code: str = "", fits: tuple[str, ...] = ()) -> Option:
    return Option(code=code, words=words, plain=True, fits=fits)


def mapped(code: str, noun: str, verb: str, fits: tuple[str, ...] = ()) -> Option:
    return Option(code=code, words=(noun, verb), fits=fits)


reduced = mapped


# ---- conditions -------------------------------------------------------------------------------------------


def number_conditions(
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


def that_are(found: list[tuple[str, tuple[str, ...]]], link: str = "that are") -> tuple[Option, ...]:
    unconditional = [plain("")] if link == "that are" else []
    return (*unconditional, *(Option(code=c, words=tuple(f"{link} {w}" for w in words)) for c, words in found))


ITEM_CONDITIONS = that_are(number_conditions("x", above=(2, 3, 4, 5, 6), below=(2, 3, 4, 5, 6), divisors=(3, 4, 5)))
DIGIT_CONDITIONS = that_are(
    number_conditions("x", above=(2, 3, 4, 5, 6), below=(3, 4, 5, 6, 7), divisors=(3,), signs=False)
)
VALUE_CONDITIONS = (
    *that_are(number_conditions("v", above=(2, 3, 4, 5), below=(3, 4, 5), divisors=(3,))),
    *(Option(code=f"len(k) > {n}", words=(f"with keys longer than {n}",)) for n in (1, 2)),
)
PAIR_CONDITIONS = (
    plain(""),
    *(
        Option(code=f"a {operator} b", words=(f"with a {words}",))
        for operator, words in (
            ("<", "below b"),
            (">", "above b"),
            ("==", "equal to b"),
            ("!=", "not equal to b"),
        )
    ),
    *that_are(number_conditions("a", above=(2, 4), below=(3,), divisors=(3,)), "with a"),
    *that_are(number_conditions("b", above=(2, 4), below=(3,), divisors=(3,)), "with b"),
)
CHARACTER_CONDITIONS = (
    plain(""),
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
ROW_CONDITIONS = (
    plain(""),
    Option(code="r", words=("that are not empty",)),
    *(Option(code=f"len(r) > {k}", words=(f"longer than {k}",)) for k in (1, 2, 3)),
    *(Option(code=f"len(r) < {k}", words=(f"shorter than {k}",)) for k in (2, 3)),
    *(Option(code=f"sum(r) > {k}", words=(f"with sum above {k}",)) for k in (2, 4, 6)),
    *(Option(code=f"sum(r) < {k}", words=(f"with sum below {k}",)) for k in (3, 5)),
    Option(code="sum(r) % 2 == 0", words=("with even sum",)),
    *(Option(code=f"{k} in r", words=(f"that hold {k}",)) for k in (0, 1, 2)),
)

# ---- maps and reducers ------------------------------------------------------------------------------------


def number_maps(name: str, *, added: tuple[int, ...], factors: tuple[int, ...]) -> tuple[Option, ...]:
    return (
        plain("{}", "", code=name),
        mapped(f"{name} * {name}", "the squares of {}", "square them"),
        mapped(f"-{name}", "the negatives of {}", "negate them"),
        *(mapped(f"{name} + {k}", f"{k} plus each of {{}}", f"add {k} to each") for k in added),
        *(mapped(f"{name} - {k}", f"{k} less than each of {{}}", f"subtract {k} from each") for k in added[:2]),
        *(mapped(f"{name} * {k}", f"{k} times each of {{}}", f"multiply each by {k}") for k in factors),
    )


PAIR_MAPS = (
    plain("{}", "", code="(a, b)", fits=("list", "reversed", "sorted")),
    mapped("(b, a)", "the swaps of {}", "swap each", ("list", "reversed", "sorted")),
    mapped("a", "the first parts of {}", "take each a"),
    mapped("b", "the second parts of {}", "take each b"),
    mapped("a + b", "the sums of {}", "add a and b"),
    mapped("a - b", "the differences of {}", "subtract b from a"),
    mapped("a * b", "the products of {}", "multiply a by b"),
    mapped("abs(a - b)", "the gaps of {}", "take each gap"),
    mapped("max(a, b)", "the larger parts of {}", "take each larger part"),
    mapped("min(a, b)", "the smaller parts of {}", "take each smaller part"),
)
LIST = plain("a list of {}", "list them", code="list")
SUM = reduced("sum", "the sum of {}", "sum them up")
COUNT = reduced("count", "the number of {}", "count them")
MAX = reduced("max", "the largest of {}, or 0", "find the largest, or 0")
MIN = reduced("min", "the smallest of {}, or 0", "find the smallest, or 0")
SORTED = reduced("sorted", "a sorted list of {}", "sort them")
REVERSED = reduced("reversed", "a reversed list of {}", "list them in reverse")
DISTINCT = reduced("distinct", "the number of distinct values of {}", "count the distinct values")
NUMBER_REDUCERS = (LIST, SUM, COUNT, MAX, MIN, SORTED, REVERSED, DISTINCT)
ORDERLESS_REDUCERS = (LIST, SUM, COUNT, MAX, MIN, SORTED)
TEXT_REDUCERS = (
    plain("a string of {}", "join them", code="join"),
    reduced("join_sorted", "a sorted string of {}", "join them sorted"),
    reduced("join_reversed", "a reversed string of {}", "join them in reverse"),
    LIST,
    COUNT,
    DISTINCT,
)

# ---- families that are not pipelines ----------------------------------------------------------------------
