"""From chat to code: fences, several blocks, thinking, prose, none."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_reward import CallCase, CallTests, StdioCase, StdioTests, Task
from sr_reward.grading.extract import as_is, assemble, needs_reading, program_text, question_of

TASK = Task(
    task_id="t",
    prompt='from typing import List\n\ndef f(xs: List[int]) -> int:\n    """Sum."""\n',
    entry_point="f",
    tests=CallTests(cases=(CallCase(args=([1, 2],), expected=3),)),
)
SCRIPT = Task(
    task_id="s",
    prompt="Double a number.",
    entry_point="",
    prompt_is_code=False,
    tests=StdioTests(cases=(StdioCase(stdin="2", stdout="4"),)),
)
BODY = "    return sum(xs)\n"
WHOLE = "def f(xs: List[int]):\n    return sum(xs)\n"
DOCUMENTED = 'def f(xs):\n    """Sum.\n\n    ```\n    f([1, 2])\n    ```\n    """\n    return sum(xs)\n'
PROGRAM = "print(2 * int(input()))\n"


@pytest.fixture(autouse=True)
def _limits_of_this_process(monkeypatch):
    """What a format's imports set is for the program's own process, and these tests run programs in theirs."""
    monkeypatch.setattr(sys, "setrecursionlimit", int)
    monkeypatch.setattr(sys, "set_int_max_str_digits", int, raising=False)


def answer(completion, **options):
    """What the extracted program computes (run here: the texts are this file's own)."""
    names = {}
    exec(program_text(TASK, completion, **options), names)
    found = names["f"] if "f" in names else names["Solution"]().f
    return found([1, 2])


EITHER = {
    "whole function": WHOLE,
    "fence": f"```python\n{WHOLE}```",
    "bare fence": f"```\n{WHOLE}```",
    "unclosed fence": f"```py\n{WHOLE}",
    "tildes": f"~~~python\n{WHOLE}~~~\n",
    "prose around": f"Here you are:\n\n```python\n{WHOLE}```\nIt adds them up.",
    "revised": f"First try:\n```python\ndef f(xs):\n    return 0\n```\nBetter:\n```python\n{WHOLE}```\n",
    "usage after it": f"```python\n{WHOLE}```\nUse it so:\n```python\nprint(f([1]))\n```\n",
    "shell before it": f"Install:\n```bash\npip install x\n```\n```python\n{WHOLE}```",
    "prose without fence": f"Sure! This is the function.\n\n{WHOLE}\nThis works because sums are sums.\n",
    "helper and prose": f"Sure!\n\nimport math\n\ndef helper(x):\n    return x\n\n{WHOLE}\nDone, it's that easy.",
    "prose in the middle": f"{WHOLE}\nExample of its use:\n\nprint(f([1]))\n",
    "indented fence": f"  ```python\n{WHOLE}  ```",
    "list": f"1. So:\n\n   ```python\n   {WHOLE.replace(chr(10) + ' ', chr(10) + '    ')}   ```\n",
    "list on one line": "1. ```python\n   def f(xs):\n       return sum(xs)\n   ```\n",
    "quoted": "> ```python\n> def f(xs):\n>     return sum(xs)\n> ```\n",
    "tests that import it": f"```python\n{WHOLE}```\nTests:\n```python\nfrom solution import f\nprint(f([1]))\n```\n",
    "tests for pytest": f"```python\n{WHOLE}```\n```python\nimport pytest\nfrom my_module import f\n\n\n"
    "def test_one():\n    assert f([1]) == 1\n```\n",
    "an import for an answer": "```python\nfrom builtins import sum as f\n```\n",
    "output after it": f"```python\n{WHOLE}```\nOutput:\n```\n7\n```\n",
    "older without a mark": f"```python\n{WHOLE}```\nAn older one:\n```\ndef f(xs):\n    return 0\n```\n",
    "windows": f"Here:\r\n```python\r\n{WHOLE}```\r\nDone.".replace("\n", "\r\n").replace("\r\r", "\r"),
    "fence in its docstring": f"```python\n{DOCUMENTED}```\n",
    "fence in its docstring, no fence around": DOCUMENTED,
    "longer fence around": f"````python\n{DOCUMENTED}````\n",
    "closing fence glued": f"```python\n{WHOLE.rstrip()}```",
    "opening fence glued": f"Here is the code:```python\n{WHOLE}```",
    "one line": "```def f(xs): return sum(xs)```",
    "tag with attributes": f"```{{.python}}\n{WHOLE}```",
    "tag of two words": f"```Python 3\n{WHOLE}```",
    "helper in a block of its own": "```python\ndef add(xs):\n    return sum(xs)\n```\nThen:\n```python\ndef f(xs):\n"
    "    return add(xs)\n```\n",
    "helper in a block after it": "```python\ndef f(xs):\n    return add(xs)\n```\nwith\n```python\ndef add(xs):\n"
    "    return sum(xs)\n```\nand, for other cases,\n```python\nimport nowhere\n\ndef test_it():\n    pass\n```\n",
    "imports in a block of their own": "```python\nimport operator, functools\n```\n```python\ndef f(xs):\n"
    "    return functools.reduce(operator.add, xs)\n```\n",
    "drafts in thinking": f"<think>\n```python\ndef f(xs):\n    return 0\n```\n</think>\n```python\n{WHOLE}```",
    "drafts in thinking, no fence": f"<think>\nDraft:\ndef f(xs):\n    return 0\n</think>\n\n{WHOLE}",
    "thinking that began in the prompt": f"def f(xs):\n    return 0\n</think>\n{WHOLE}",
    "thinking after it": f"```python\n{WHOLE}```\n<think>\n```python\ndef f(xs):\n    return 0\n```\n",
    "began inside a block": f"{WHOLE}```\nThis adds them up.\n",
    "class Solution": "class Solution:\n    def f(self, xs):\n        return sum(xs)\n",
    "class Solution in a fence": "```python\nclass Solution:\n    def f(self, xs: List):\n        return sum(xs)\n```",
    "byte-order mark": f"\ufeff{WHOLE}",
    "half of a surrogate pair": f"{WHOLE}# \ud800\n",
    "annotated lambda": "f: object = lambda xs: sum(xs)\n",
    "another name": "def total(xs):\n    return sum(xs)\nf = total\n",
    "future import": f"from __future__ import annotations\n{WHOLE}",
}
COMPLETIONS = {
    "body": BODY,
    "body in a fence, tests that import it": f"```python\n{BODY}```\n```python\nfrom solution import f\nf([1])\n```\n",
    "body in a fence": f"```python\n{BODY}```",
    "body at the margin in a fence": "```python\nreturn sum(xs)\n```",
    "body and more": f"{BODY}\ndef g():\n    return 1\n",
    "body, closing fence": f"{BODY}```\n",
    "body, closing fence, prose": f"{BODY}```\n\nThis sums the list.\n",
    "body, closing fence, another block": f"{BODY}```\nUse:\n```python\nprint(f([1]))\n```\n",
}


@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize("solution", [False, True])
def test_the_code_is_found(name, solution):
    assert answer(EITHER[name], solution=solution) == 3


@pytest.mark.parametrize("name", COMPLETIONS)
def test_what_continues_the_prompt_is_found(name):
    assert answer(COMPLETIONS[name]) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n  \n",
        "```python\n```",
        "```\n\n```",
        "I cannot do this.",
        f"<think>\n{WHOLE}",
        f"<think>\n```python\n{WHOLE}```",
    ],
)
@pytest.mark.parametrize("solution", [False, True])
def test_no_code_is_none(text, solution):
    assert program_text(TASK, text, solution=solution) is None


def test_a_plain_completion_is_taken_letter_by_letter():
    assert program_text(TASK, BODY) == TASK.prompt + BODY


@pytest.mark.parametrize("solution", [False, True])
def test_the_prompts_own_function_without_a_body_is_no_answer(solution):
    names = {}
    exec(program_text(TASK, "```python\ndef g(xs):\n    return 1\n```", solution=solution), names)
    assert solution is False or "f" not in names  # as a completion it continues the prompt


def test_what_only_an_earlier_block_runs_is_left_out():
    chat = "```python\nprint(f([1]))\nraise ValueError\n```\nwith\n```python\ndef f(xs):\n    return sum(xs)\n```\n"
    assert answer(chat) == 3


SCRIPTS = {
    "marked, output marked": f"```python\n{PROGRAM}```\nOutput:\n```output\n4\n```\n",
    "no marks": f"```\n{PROGRAM}```\nSample output:\n```\n4\n```\n",
    "marked, output without a mark": f"```python\n{PROGRAM}```\nOutput:\n```\n4\n```\n",
    "sample input before it": f"Input:\n```\n2\n```\n```\n{PROGRAM}```\n",
    "glued": f"The code:```python\n{PROGRAM}```",
    "prose without fence": f"The program reads a number:\n\n{PROGRAM}\nIt prints twice that.\n",
    "two parts": "```python\ndef twice(x):\n    return 2 * x\n```\n```python\nprint(twice(int(input())))\n```\n",
    "prose, then a whole program twice": f"```python\nprint(0)\n```\nCorrected:\n```python\n{PROGRAM}```\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_of_a_script_the_block_that_runs_is_taken(name):
    program = program_text(SCRIPT, SCRIPTS[name])
    printed = []
    exec(program, {"input": lambda: "2", "print": printed.append})
    assert printed == [4]


CUT = [
    f"```python\n{WHOLE}\ndef main():\n    x = [1, 2",
    f"{WHOLE}\ndef main():\n    print('unterminated",
    f"```python\n{WHOLE}\nif __name__ ==",
]


@pytest.mark.parametrize("text", CUT)
def test_an_answer_that_was_cut_off_counts_only_where_one_asks_for_it(text):
    with pytest.raises(SyntaxError):
        answer(text)
    assert answer(text, trim=True) == 3


def test_trimming_never_leaves_a_program_without_the_function():
    with pytest.raises(SyntaxError):
        answer("```python\ndef g():\n    return 1\n\ndef f(xs):\n    return sum(", trim=True)


def test_a_format_gives_its_imports_and_keeps_future_ones_first():
    task = Task(
        task_id="l", prompt="Count.", entry_point="f", prompt_is_code=False, format="livecodebench", tests=TASK.tests
    )
    answers = "class Solution:\n    def f(self, xs: List[int]):\n        return pow(sum(Counter(xs)), 1, 10)\n"
    program = program_text(task, f"from __future__ import annotations\n{answers}")
    names = {}
    exec(program, names)
    assert names["Solution"]().f([1, 2]) == 3


PIECES = st.sampled_from(
    ["```", "```python\n", "~~~", "\n", "def f(xs):\n", "    return sum(xs)\n", "class Solution:\n", "<think>",
     "</think>", "import os\n", "> ", '"""', "'''", "Sure, ", "\\", "(", "#", "1. ", "\r", "\ud800", "\x00", "\ufeff",
     "x = 1\n", " "]
)  # fmt: skip
TEXTS = st.text(max_size=60) | st.lists(PIECES, max_size=25).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.booleans(), st.booleans())
def test_no_text_raises_and_what_needs_no_reading_is_as_it_is(text, solution, trim):
    for task in (TASK, SCRIPT):
        question = question_of(task, trim=trim)
        program = assemble(question, text, solution=solution)
        assert program is None or program.strip()
        if not needs_reading(question, text):
            assert program == as_is(question, text, solution=solution)


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS)
def test_a_marked_block_that_answers_is_found_in_any_prose(before, after):
    marks = ("`", "~", "<", '"""', "'''", "def ", "class", "\r", "\x00")
    if any(mark in before + after for mark in marks):
        return
    assert answer(f"{before}\n```python\n{WHOLE}```\n{after}") == 3


@pytest.mark.parametrize(
    "text",
    ["``", "```\n", "class Solution\n", "(", "\n", "words of prose\n", '"', "a\n", "a=\n", "<think>", "</think>",
     "> ", "def f(x):\n", "```python\ndef f(x):\n", "~~~", "x, ", ">```\n", "import ", "x:"],
)  # fmt: skip
def test_the_work_done_outside_the_reader_is_linear_and_small(text):
    import time

    large = text * (1_000_000 // len(text))
    for task in (TASK, SCRIPT):
        question = question_of(task)
        began = time.process_time()
        needs_reading(question, large)
        as_is(question, large, solution=True)
        assert time.process_time() - began < 0.2
