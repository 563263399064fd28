"""Printed text: lines and tokens, white space at the ends ignored."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_reward.grading.compare import same_text

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
