"""No text of a model and no output of a program costs the grader's process more than a little, or makes it raise."""

import gc
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sr_reward import AssertTests, CallCase, CallTests, CodeGrader, StdioCase, StdioTests, Task
from sr_reward.grading.extract import as_is, assemble, needs_reading, question_of
from sr_reward.grading.grade import OUTCOMES
from sr_reward.grading.requests import read_report

MEGABYTE = 1 << 20
PROMPT = "def double(x):\n    '''Twice x.'''\n"
CALLS = Task(
    task_id="calls",
    prompt=PROMPT,
    entry_point="double",
    tests=CallTests(cases=(CallCase(args=(2,), expected=4),)),
)
ASSERTS = Task(
    task_id="asserts", prompt=PROMPT, entry_point="double", tests=AssertTests(code="assert double(2) == 4\n")
)
STDIO = Task(
    task_id="stdio",
    prompt="Print 4.",
    entry_point="",
    prompt_is_code=False,
    tests=StdioTests(cases=(StdioCase(stdin="", stdout="4\n"),)),
)
ANSWERS = [
    "    return 2 * x\n",
    "def double(x):\n    return 2 * x\n",
    "Here you are:\n```python\ndef double(x):\n    return 2 * x\n```\nDone.",
    "<think>\nMaybe\n```python\ndef double(x): return x\n```\n</think>\n```\ndef double(x):\n    return x + x\n```",
    "class Solution:\n    def double(self, x):\n        return 2 * x\n",
    "1. So:\n\n   ```py\n   def double(x):\n       return 2 * x\n   ```\n",
    "print(2 + 2)",
]


def repeated(text):
    return (text * (MEGABYTE // len(text) + 1))[:MEGABYTE]


def nested_finally(depth):
    lines = ["def double(x):"]
    for level in range(1, depth):
        pad = "    " * level
        lines += [f"{pad}try:", f"{pad}    return x", f"{pad}finally:"]
    return "\n".join([*lines, "    " * depth + "pass", ""])


HOSTILE = {
    "backticks": repeated("`"),
    "fences": repeated("```\n"),
    "openings of growing length": "\n".join("`" * n for n in range(3, 1400)),
    "tildes": repeated("~~~ "),
    "classes named Solution": repeated("class Solution\n"),
    "definitions": repeated("def double(\n"),
    "unclosed brackets": "def double(x):\n    return (\n" + repeated("x+\n")[: MEGABYTE // 4],
    "open brackets": "def double(x): return " + repeated("["),
    "lines of an assignment": repeated("double = =\n"),
    "prose, then a class": "Sure.\n\nclass Solution:\n    def double(self, x):\n        return 2 * x\n",
    "long reasoning without a fence": "I think about it.\n" * 5000 + "def double(x):\n    return 2 * x\n",
    "nested try": nested_finally(13),
    "new lines": repeated("\n") + "x",
    "indented lines": repeated("        \n") + "x",
    "null bytes": "def double(x):\n    return 2 * x\n" + "\0" * 1000,
    "lone surrogates": "\ud800\n```python\ndef double(x):\n    return 2 * x  # \udfff\n```",
    "astral": repeated("\U0001f600")[: MEGABYTE // 4],
    "line separators": repeated("\u2028"),
    "think tags": repeated("<think>"),
    "imports": repeated("import os\n")[: MEGABYTE // 8],
    "strings": repeated('"""\n'),
}


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1, timeout_s=1.0) as made:
        made.grade([CALLS], ["```python\ndef double(x):\n    return 2 * x\n```"])  # the reader starts here
        yield made


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_costs_the_grader_little(grader, name):
    text = HOSTILE[name]
    gc.collect()
    began = time.thread_time()
    (grade,) = grader.grade([CALLS], [text])
    seconds = time.thread_time() - began
    assert grade.outcome in set(OUTCOMES) - {"infra_error"}, grade
    if seconds > 0.05:  # load inflates it: the best of three counts
        seconds = min(seconds, *(_seconds_of(grader, text) for _ in range(2)))
    assert seconds < 0.05


def _seconds_of(grader, text):
    began = time.thread_time()
    grader.grade([CALLS], [text])
    return time.thread_time() - began


@pytest.mark.parametrize("name", ["backticks", "unclosed brackets", "astral", "imports", "line separators"])
def test_a_text_takes_little_memory(grader, name):
    tracemalloc.start()
    try:
        grader.grade([CALLS], [HOSTILE[name]], solutions=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * MEGABYTE


OUTPUTS = {
    "colliding keys": """','.join(str(i * (2**61 - 1)) for i in range(50000)).join(['[[1,{"s":[{"z":[', ']}]}]]'])""",
    "deep nesting": "'[' * 2000000",
    "deep sets": """'[[1,' + '{"s":[' * 200000""",
    "many lists": "'[[1,[' + '[],' * 1300000 + '[]]]]'",
    "a long number": "'[[1,' + '9' * 4000000 + ']]'",
    "a long error": """'[0,"' + 'x' * 4000000 + '",""]'""",
    "not ASCII": "chr(233) * 1000",
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("expected", [{1}, [[1]], {1: {2}}], ids=["set", "list", "dict"])
def test_an_output_costs_the_grader_little(grader, name, expected):
    if name not in ("colliding keys", "deep nesting") and expected != {1}:
        pytest.skip("tried with one expected value")
    task = Task(task_id="t", prompt="", entry_point="f", tests=CallTests(cases=(CallCase(args=(), expected=expected),)))
    program = (
        "import os\ndef f():\n"
        f"    data = ({OUTPUTS[name]}).encode('latin-1')\n"
        "    while data:\n        data = data[os.write(3, data):]\n"
        "    os._exit(0)\n"
    )
    grader.grade([task], ["def f(): pass"], solutions=True)
    began = time.thread_time()
    (grade,) = grader.grade([task], [program], solutions=True)
    assert grade.outcome in ("failed", "crashed", "timeout"), grade
    assert time.thread_time() - began < 0.1


@pytest.mark.parametrize("printed", ["'\\n' * 4000000 + 'x'", "'4 ' * 1000000", "chr(233) * 1000000"])
def test_a_printed_text_costs_the_grader_little(grader, printed):
    tracemalloc.start()
    try:
        (grade,) = grader.grade([STDIO], [f"print({printed})"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grade.outcome == "failed"
    assert peak < 20 * MEGABYTE


@st.composite
def texts(draw):
    """Arbitrary text, and real answers with pieces cut out, repeated, swapped and put in."""
    if draw(st.booleans()):
        return draw(st.text(max_size=300))
    text = draw(st.sampled_from(ANSWERS))
    for _ in range(draw(st.integers(0, 4))):
        at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        piece = draw(
            st.sampled_from(["", text[at:end] * 2, "```", "\n", "def double", "(", "'''", "\0", "\ud800", "é"])
        )
        text = text[:at] + piece + text[end:]
    return text


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([CALLS, ASSERTS, STDIO]), texts(), st.booleans()), min_size=4, max_size=12))
def test_every_text_gets_an_outcome_of_its_own(grader, rows):
    tasks, completions, whole = zip(*rows, strict=True)
    grades = dict(grader.stream(tasks, completions, solutions=whole))
    assert sorted(grades) == list(range(len(rows)))
    assert all(grade.outcome in set(OUTCOMES) - {"infra_error"} for grade in grades.values()), grades


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([CALLS, ASSERTS, STDIO]), texts(), st.booleans())
def test_a_text_that_needs_no_reading_is_taken_as_it_is(task, text, solution):
    question = question_of(task)
    program = assemble(question, text, solution=solution)  # never raises
    if not needs_reading(question, text):
        assert program == (as_is(question, text, solution=solution) if text.strip() else None)


@given(st.binary(max_size=60) | st.from_regex(rb'\[0,"(\\u00e9|[a-z"\\\[])*","[a-z"\\]*"\]?', fullmatch=True))
def test_no_report_raises(data):
    found = read_report(data)
    assert found is None or all(isinstance(part, str) for part in found)


def test_a_report_is_read_and_nothing_else():
    assert read_report(b"[1]") == ("", "")
    assert read_report(b'[0,"ValueError","a \\"b\\" \\u00e9"]') == ("ValueError", 'a "b" \u00e9')
    for data in (b"", b"[2]", b"[1] ", b'[0,"a"]', b'[0,"a","b",1]', b'[0,["a"],"b"]', b"[" * 9000):
        assert read_report(data) is None


def test_a_request_that_ends_the_reader_costs_no_other_sample_its_verdict(grader):
    good = "```python\ndef double(x):\n    return 2 * x\n```"
    bad = "Text.\n\n" + nested_finally(14) + "\nMore text."
    grades = grader.grade([CALLS] * 4, [good, bad, good + "\n", good + "\nDone."])
    assert [grade.outcome == "passed" for grade in grades] == [True, False, True, True]
    assert all(grade.outcome != "infra_error" for grade in grades)


@pytest.mark.parametrize("task", [CALLS, ASSERTS, STDIO], ids=lambda task: task.task_id)
def test_a_program_just_above_idle_ends_at_the_wall_limit(task):
    """A thirtieth of a core, which is neither idle nor soon out of CPU time."""
    busy = (
        "import time\nstart = time.time()\nwhile time.time() < start + 30:\n"
        "    began = time.thread_time()\n    while time.thread_time() < began + 0.003: pass\n    time.sleep(0.1)\n"
    )
    with CodeGrader(workers=1, timeout_s=0.3) as made:
        made.grade([task], ["x = 1"], solutions=True)
        began = time.monotonic()
        (grade,) = made.grade([task], [busy + "\ndef double(x):\n    return 2 * x\n"], solutions=True)
        seconds = time.monotonic() - began
    assert grade.outcome == "timeout"
    assert seconds < 5 * 0.3 + 2 + 3  # a second for each stall of a loaded machine
