"""Printed text by the rule of each format's own grader, side by side on the same outputs."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_reward.grading.texts import same_text

words = st.lists(
    st.lists(st.text(alphabet="ab1.", min_size=1, max_size=3), min_size=1, max_size=4), min_size=1, max_size=4
)


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1\n2\n", "1\n2", True),
        ("1 \n2\n\n\n", "1\n2\n", True),
        ("1\t 2", "1 2", True),
        ("1\r\n2", "1\n2", True),
        ("1 2", "1\n2", False),
        ("1\n\n2", "1\n2", False),
        ("12", "1 2", False),
        ("A", "a", False),
        ("", "\n", True),
        ("0.5000001", "0.5", False),
    ],
)
def test_lines_and_tokens(printed, expected, same):
    assert same_text(printed, expected) == same


@settings(max_examples=100, deadline=None)
@given(words, st.sampled_from([" ", "  ", "\t"]), st.sampled_from(["", " ", "\n", " \n\n"]))
def test_white_space_within_lines_and_at_the_end_does_not_count(lines, space, end):
    assert same_text("\n".join(space.join(line) for line in lines) + end, "\n".join(" ".join(line) for line in lines))


@settings(max_examples=100, deadline=None)
@given(words, words)
def test_different_tokens_are_different_texts(one, other):
    texts = ["\n".join(" ".join(line) for line in lines) for lines in (one, other)]
    assert same_text(*texts) == (one == other)


def test_numbers_within_a_tolerance():
    assert same_text("0.5000001 x", "0.5 x", tolerance=1e-6)
    assert not same_text("0.51 x", "0.5 x", tolerance=1e-6)
    assert not same_text("0.5 y", "0.5 x", tolerance=1e-6)


def test_within_a_tolerance_whole_numbers_are_still_compared_exactly():
    assert not same_text("1000000006", "1000000007", tolerance=1e-5)
    assert same_text("2.9999999", "3", tolerance=1e-5)
    assert same_text("+7", "7", tolerance=1e-5)


# What the published graders say of one printed text. ``apps`` leaves out what its grader also accepts: tokens and lines
# in any order, numbers rounded to three places, whole numbers that differ by 1e-5 of their size.
SIDE_BY_SIDE = [
    # printed, expected, lines, apps, codecontests, livecodebench
    ("YES", "YES\n", True, True, True, True),
    ("Yes", "YES", False, False, True, False),
    ("1\n2\n3", "1 2 3", False, False, True, False),
    ("1\n2", "1\n\n2\n", False, True, True, False),
    ("\n3", "3", False, True, True, True),
    ("3", "\n3\n", False, True, True, True),
    (" 3", "3", True, True, True, True),
    ("1  2", "1 2", True, True, True, True),
    ("a  b", "a b", True, True, True, False),
    ("0.50", "0.5", False, True, True, True),
    ("0.500001", "0.5", False, True, True, False),
    ("0.50002", "0.5", False, False, False, False),
    ("100000.5", "100000.0", False, True, False, False),
    ("1000001", "1000000", False, False, False, False),
    ("1000001.0", "1000000", False, True, False, False),
    ("1e2", "100", False, True, True, True),
    ("1_00", "100", False, False, False, True),
    ("0x10", "16", False, False, False, False),
    ("007", "7", False, True, True, True),
    ("-0", "0", False, True, True, True),
    ("9007199254740993", "9007199254740992", False, False, False, False),
    ("2 1", "1 2", False, False, False, False),
    ("1 2 2", "1 2", False, False, False, False),
    ("nan", "nan", True, True, True, True),
    ("inf", "1e999", False, True, False, False),
    ("", "0", False, False, False, False),
    ("Impossible", "impossible", False, False, True, False),
    ("\u0130", "i\u0307", False, False, False, False),
]


@pytest.mark.parametrize(("printed", "expected", "lines", "apps", "codecontests", "livecodebench"), SIDE_BY_SIDE)
def test_the_rules_side_by_side(printed, expected, lines, apps, codecontests, livecodebench):
    rules = ("lines", "apps", "codecontests", "livecodebench")
    found = [same_text(printed, expected, rule=rule) for rule in rules]
    assert found == [lines, apps, codecontests, livecodebench]


@pytest.mark.parametrize("rule", ["lines", "apps", "codecontests", "livecodebench"])
def test_large_texts_take_linear_time_and_no_lists(rule):
    size = 1 << 15
    tracemalloc.start()
    began = time.process_time()
    for printed in ("\n" * size, "1 " * (size // 2), "1" * size, "a\n" * (size // 2), "1e5 " * (size // 4)):
        same_text(printed, printed + "x", rule=rule)
        same_text(printed, "1\n2\n", rule=rule)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert time.process_time() - began < 10


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["lines", "apps", "codecontests", "livecodebench"]))
def test_no_text_raises_and_each_equals_itself(printed, expected, rule):
    same_text(printed, expected, rule=rule)
    assert same_text(printed, printed, rule=rule)
