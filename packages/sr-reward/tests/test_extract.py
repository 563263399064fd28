"""From chat to code: fences, several blocks, prose, none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_reward import CallCase, CallTests, Task
from sr_reward.grading.extract import extract_code, program_text

TASK = Task(
    task_id="t",
    prompt='from typing import List\n\ndef f(xs: List[int]) -> int:\n    """Sum."""\n',
    entry_point="f",
    tests=CallTests(cases=(CallCase(args=([1, 2],), expected=3),)),
)
BODY = "    return sum(xs)\n"
WHOLE = "def f(xs: List[int]):\n    return sum(xs)\n"


def answer(completion, **options):
    """What the extracted program computes (run here: the texts are this file's own)."""
    names = {}
    exec(program_text(TASK, completion, **options), names)
    return names["f"]([1, 2])


@pytest.mark.parametrize(
    "completion",
    [
        BODY,
        WHOLE,
        f"```python\n{WHOLE}```",
        f"```\n{WHOLE}```",
        f"```py\n{WHOLE}",
        f"~~~python\n{WHOLE}~~~\n",
        f"Here you are:\n\n```python\n{WHOLE}```\nIt adds them up.",
        f"First try:\n```python\ndef f(xs):\n    return 0\n```\nBetter:\n```python\n{WHOLE}```\n",
        f"```python\n{WHOLE}```\nUse it so:\n```python\nprint(f([1]))\n```\n",
        f"Install:\n```bash\npip install x\n```\n```python\n{WHOLE}```",
        f"```python\n{BODY}```",
        f"Sure! This is the function.\n\n{WHOLE}\nThis works because sums are sums.\n",
        f"Sure!\n\nimport math\n\ndef helper(x):\n    return x\n\n{WHOLE}\nDone, it's that easy.",
        f"{BODY}\ndef g():\n    return 1\n",
        f"  ```python\n{WHOLE}  ```",
        f"1. So:\n\n   ```python\n   {WHOLE.replace(chr(10) + ' ', chr(10) + '    ')}   ```\n",
        f"```python\n{WHOLE}```\nOutput:\n```\n7\n```\n",
        f"```python\n{WHOLE}```\nAn older one:\n```\ndef f(xs):\n    return 0\n```\n",
        f"Here:\r\n```python\r\n{WHOLE}```\r\nDone.".replace("\n", "\r\n").replace("\r\r", "\r"),
    ],
)
def test_the_code_is_found(completion):
    assert answer(completion) == 3


@pytest.mark.parametrize("completion", ["", "\n  \n", "```python\n```", "```\n\n```"])
def test_no_code_is_none(completion):
    assert program_text(TASK, completion) is None


def test_a_solution_stands_alone():
    assert program_text(TASK, WHOLE, solution=True) == WHOLE


def test_a_plain_completion_is_taken_letter_by_letter():
    assert program_text(TASK, BODY) == TASK.prompt + BODY


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="`~ \npythondef f(x):=", max_size=80))
def test_extraction_never_fails_and_only_takes_away(text):
    code = extract_code(text, "f")
    assert code in text
    assert extract_code(text, "f") == code


def test_a_class_solution_defines_the_method_that_is_asked_for():
    task = Task(
        task_id="t",
        prompt="Twice.",
        entry_point="twice",
        prompt_is_code=False,
        tests=CallTests(cases=(CallCase(args=(1,), expected=2),)),
    )
    block = "class Solution:\n    def twice(self, x):\n        return 2 * x\n"
    chat = f"```python\n{block}```\nUse it:\n```python\nprint(Solution().twice(1))\n```\nIt prints\n```\n2\n```\n"
    assert program_text(task, chat) == block


def test_of_a_script_the_marked_block_is_taken_not_what_it_prints():
    assert extract_code("```python\nprint(3 + 4)\n```\nOutput:\n```\n7\n```\n") == "print(3 + 4)\n"
