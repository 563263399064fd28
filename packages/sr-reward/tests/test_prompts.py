"""Prompts of every format: what a model sees, and that an answer in any style is graded as what it is."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from published_rows import (
    APPS,
    APPS_CALL,
    BIGCODEBENCH,
    CODECONTESTS,
    DEEPCODER,
    EVALPLUS,
    KODCODE,
    LIVECODEBENCH,
    MBPP,
    NATIVE,
    PRIME,
    TACO,
)

from sr_reward import CodeGrader, FormatError, TaskError, load_tasks
from sr_reward.formats import read_task
from sr_reward.prompts import TEMPLATES, Prompter, Template, load_template, render, template_for
from sr_reward.prompts.shots import Shot
from sr_reward.testbed import load_testbed

DATA = next(
    (up / "shared" / "data" for up in Path(__file__).resolve().parents if (up / "shared" / "data").is_dir()), None
)
needs_data = pytest.mark.skipif(DATA is None, reason="needs shared/data with HumanEval and MBPP beside the checkout")

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Sum of xs."""\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(xs)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n",
}
STDIO = {
    "task_id": "s",
    "prompt": "Print twice the number.",
    "tests": {"kind": "stdio", "cases": [{"stdin": "2", "stdout": "4"}]},
}
# row, right program, wrong program, body of the prompt's function where there is one
ROWS = {
    "native": (NATIVE, "def f(xs):\n    return sum(xs)\n", "def f(xs):\n    return 0\n", "    return sum(xs)\n"),
    "native stdio": (STDIO, "print(2 * int(input()))\n", "print(3)\n", None),
    "humaneval": (
        HUMANEVAL,
        "def total(xs: List[int]) -> int:\n    return sum(xs)\n",
        "def total(xs: List[int]) -> int:\n    return 1\n",
        "    return sum(xs)\n",
    ),
    "evalplus": (
        EVALPLUS,
        "def mean(xs):\n    return sum(xs) / len(xs)\n",
        "def mean(xs):\n    return 2\n",
        "    return sum(xs) / len(xs)\n",
    ),
    "mbpp": (MBPP, "def double(x):\n    return 2 * x\n", "def double(x):\n    return x\n", None),
    "apps": (APPS, "print(sum(map(int, open(0).read().split())))\n", "print(3)\n", None),
    "apps call": (
        APPS_CALL,
        "class Solution:\n    def add(self, a: int, b: Optional[int]):\n        return a + b\n",
        "class Solution:\n    def add(self, a, b):\n        return a\n",
        None,
    ),
    "taco": (TACO, "print(2 * int(input()))\n", "print(1)\n", None),
    "codecontests": (CODECONTESTS, "print(input())\n", "print(1)\n", None),
    "livecodebench": (
        LIVECODEBENCH,
        "class Solution:\n    def first(self, xs: List[int], x: int) -> int:\n        return xs[0] + x\n",
        "class Solution:\n    def first(self, xs, x):\n        return x\n",
        None,
    ),
    "deepcoder": (DEEPCODER, "print(2 * int(input()))\n", "print(1)\n", None),
    "prime": (PRIME, "print(2 * int(input()))\n", "print(1)\n", None),
    "bigcodebench": (
        BIGCODEBENCH,
        "def task_func(x):\n    return math.sqrt(x)\n",
        "def task_func(x):\n    return x\n",
        "    return math.sqrt(x)\n",
    ),
    "kodcode": (KODCODE, "def double(x):\n    return x + x\n", "def double(x):\n    return x\n", None),
}


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1) as made:
        yield made


def sampled(prompt, text):
    """What a model that would write ``text`` writes until it is stopped, as it is graded."""
    assert text.startswith(prompt.prefill)
    return prompt.answer(text.removeprefix(prompt.prefill))


@pytest.mark.parametrize("name", ROWS)
def test_answers_in_each_style_are_graded_as_what_they_are(grader, name):
    row, right, wrong, body = ROWS[name]
    task = read_task(row)
    completion, chat = render(task, "completion"), render(task, "chat")
    after = {"humaneval": "\ndef main():\n    broken(", "mbpp": "[DONE]\nYou are", "livecodebench": "\n### Question"}
    answers = []
    for program in (right, wrong):
        whole = f"{chat.prefill}{program}```\nThis is the answer: it (does) what is asked.\n"
        prose = f"Sure!\n\n```python\n{program}```\nIt works, since it does.\n"
        answers += [completion.answer(program + after.get(name, "")), sampled(chat, whole), chat.answer(prose)]
    if body:
        answers += [completion.answer(body + after.get(name, "")), completion.answer("    return None\n")]
    outcomes = [grade.outcome for grade in grader.grade([task] * len(answers), answers)]
    assert outcomes[:3] == ["passed"] * 3, (outcomes, answers)
    assert "passed" not in outcomes[3:6]
    assert outcomes[6:] == (["passed", "failed"] if body else [])


def test_a_whole_function_after_the_stops_of_a_format_is_kept():
    prompt = render(read_task(HUMANEVAL), "completion")
    assert prompt.answer("    return 1\n\ndef other():\n    pass\n") == "    return 1\n"
    assert prompt.answer("    return 1\n# done") == "    return 1"


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_mbpp_always_shows_its_asserts(style):
    prompt = render(read_task(MBPP), style, shots=0) if style == "completion" else render(read_task(MBPP), style)
    shown = prompt.text or prompt.messages[-1]["content"]
    assert "assert double(2) == 4" in shown
    assert "[BEGIN]" in shown or style == "chat"


def test_base_models_get_examples_and_instruct_models_an_opening_fence():
    task = read_task(MBPP)
    prompt = render(task, "completion")
    assert prompt.text.count("[BEGIN]") == 4
    assert prompt.text.count("[DONE]") == 3
    assert prompt.text.endswith("[BEGIN]\n")
    assert render(task, "completion", shots=1).text.count("[BEGIN]") == 2
    assert render(task, "chat").prefill.endswith("```python\n")
    with pytest.raises(TaskError, match="from 0 to 3"):
        render(task, "completion", shots=4)


def test_a_starter_is_shown_and_how_input_comes():
    lcb = render(read_task(LIVECODEBENCH), "completion").text
    assert lcb.endswith(f"### Starter Code\n{LIVECODEBENCH['starter_code'].rstrip()}\n\n### Answer\n\n")
    assert "def first(self, xs, x):" in render(read_task(LIVECODEBENCH), "chat").messages[-1]["content"]
    assert "Use Standard Input format" in render(read_task(APPS), "completion").text
    assert "Use Call-Based format" in render(read_task(APPS_CALL), "completion").text
    assert "from stdin" in render(read_task(CODECONTESTS), "chat").messages[-1]["content"]


def test_a_function_that_no_text_names_is_named(grader):
    row = {**APPS_CALL, "starter_code": ""}
    assert "def add(" in render(read_task(row), "completion").text
    assert "def add(" in render(read_task(row), "chat").messages[-1]["content"]


def test_humaneval_is_put_as_the_published_harnesses_put_it():
    prompt = HUMANEVAL["prompt"]
    assert render(read_task(HUMANEVAL)).text == prompt
    chat = render(read_task(HUMANEVAL), "chat")
    assert chat.messages[0]["content"].endswith(f"```\n{prompt.strip()}\n```\n")
    assert chat.prefill.endswith(":\n```python\n")


def test_the_testbeds_prompts_are_as_they_were():
    for task in load_testbed().heldout[:20]:
        prompt = render(task)
        assert (prompt.text, prompt.stop, prompt.prefill) == (task.prompt, (), "")
        assert prompt.answer("    return 1\n") == "    return 1\n"


def test_braces_of_a_task_are_left_alone():
    task = read_task({**STDIO, "prompt": "Print {x} and {prompt} and {tests}."})
    assert "Print {x} and {prompt} and {tests}." in render(task).text


def test_examples_are_right(grader):
    """Every example's answer does what the example says: asserts hold, functions have the shown results."""
    from sr_reward.prompts.shots import _examples

    shots = _examples()
    for shot in shots["texts"]:
        exec(f"{shot.answer}\n{shot.tests}", {})
    for shot in shots["functions"]:
        names: dict = {}
        exec(f"{shot.prompt}{shot.answer}\n", names)
        call = next(line.strip()[4:] for line in shot.prompt.split("\n") if ">>>" in line)
        expected = shot.prompt.split(call)[1].split("\n")[1].strip()
        assert repr(eval(call, names)) == expected
    for shot in shots["scripts"]:
        given, printed = shot.prompt.split("Example\nInput\n")[1].split("\nOutput\n")
        row = {**STDIO, "tests": {"kind": "stdio", "cases": [{"stdin": given, "stdout": printed}]}}
        (grade,) = grader.grade([read_task(row)], [shot.answer])
        assert grade.outcome == "passed", shot
    for shot in shots["calls"]:
        assert shot.answer.startswith(shot.starter)
        compile(f"from typing import List\n{shot.answer}", "<shot>", "exec")


@needs_data
def test_a_chat_answer_to_humaneval_may_rely_on_the_prompts_imports(grader):
    tasks = [task for task in load_tasks(DATA / "HumanEval.jsonl.gz") if "from typing import" in task.prompt][:10]
    answers = []
    for task in tasks:
        whole = task.reference[task.reference.index(f"def {task.entry_point}") :]
        answers.append(sampled(render(task, "chat"), f"{render(task, 'chat').prefill}{whole}\n```\nDone."))
    assert {grade.outcome for grade in grader.grade(tasks, answers)} == {"passed"}


@needs_data
def test_no_example_is_a_task_of_humaneval_or_mbpp():
    from sr_reward.prompts.shots import _examples

    known = [*load_tasks(DATA / "HumanEval.jsonl.gz"), *load_tasks(DATA / "mbpp-601-974.jsonl")]
    names = {task.entry_point for task in known}
    prompts = {task.prompt.strip() for task in known}
    for shot in (shot for shots in _examples().values() for shot in shots):
        assert shot.prompt.strip() not in prompts
        assert not any(f"def {name}(" in shot.answer + shot.prompt for name in names)


OWN = (
    'text = "Q: {prompt}\\nA: "\nexample = "Q: {prompt}\\nA: {answer}\\n"\nstop = ["\\nQ:"]\nshots = 1\nprefill = ""\n'
)


def test_a_template_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    prompter = Prompter(template=load_template(path), shots=0)
    task = read_task(STDIO)
    assert prompter(task, chat=False).text == "Q: Print twice the number.\nA: "
    assert prompter(task, chat=False).stop == ("\nQ:",)
    assert prompter(task, chat=True).prefill == ""
    shown = render(task, template=load_template(path), shots=(Shot(prompt="p", answer="a"),)).text
    assert shown == "Q: p\nA: a\nQ: Print twice the number.\nA: "
    (tmp_path / "own.json").write_text(json.dumps({"text": "{prompt}!"}))
    assert render(task, template=load_template(tmp_path / "own.json")).text == "Print twice the number.!"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x = [", "TOML"),
        ('texts = "{prompt}"', "no field 'texts'"),
        ('text = "no place"', "{prompt}"),
        ("shots = -1", "shots"),
        ('stop = "x"', "list of texts"),
        ("text = 3", "must be a text"),
        ("shots = true", "shots"),
        ('example = "{prompt}"', "must hold {answer}"),
        ('text = "{prompt}{answer}"', "text must not hold {answer}"),
        ('user = "{prompt} {test}"', "did you mean {tests}?"),
    ],
)
def test_what_is_no_template_is_named(tmp_path, content, says):
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"own\.toml") as caught:
        load_template(path)
    assert says in str(caught.value)
    with pytest.raises(FormatError, match="cannot be read"):
        load_template(tmp_path / "none.toml")


def test_every_template_says_its_source_and_every_format_has_one():
    assert all(template.source for template in TEMPLATES.values())
    for row, *_ in ROWS.values():
        template_for(read_task(row))
    assert {field.name for field in fields(Template)} >= {"text", "user", "prefill", "stop"}
    with pytest.raises(TaskError, match="completion, chat"):
        render(read_task(STDIO), "essay")
