"""HumanEval and MBPP as published: every reference passes, every wrong program that plain execution rejects fails."""

import ast
import json
import os
import signal
from pathlib import Path

import pytest

from sr_reward import CodeGrader, load_tasks

DATA = next(
    (up / "shared" / "data" for up in Path(__file__).resolve().parents if (up / "shared" / "data").is_dir()), None
)
needs_data = pytest.mark.skipif(DATA is None, reason="needs shared/data with HumanEval and MBPP beside the checkout")

# References of MBPP that plain Python refuses too would stand here by task_id with the reason: there are none.
MBPP_EXCEPTIONS: dict[str, str] = {}


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=2, timeout_s=2.0) as made:
        yield made


def not_passed(grader, tasks):
    grades = grader.grade(tasks, [task.reference for task in tasks], solutions=True)
    return {t.task_id: g for t, g in zip(tasks, grades, strict=True) if g.outcome != "passed"}


@needs_data
def test_all_references_of_humaneval_pass(grader):
    tasks = load_tasks(DATA / "HumanEval.jsonl.gz")
    assert len(tasks) == 164
    assert not_passed(grader, tasks) == {}


@needs_data
def test_completions_of_humaneval_pass_as_published(grader):
    tasks = load_tasks(DATA / "HumanEval.jsonl.gz")[:40]
    bodies = [task.reference.removeprefix(task.prompt) for task in tasks]
    assert {grade.outcome for grade in grader.grade(tasks, bodies)} == {"passed"}


@needs_data
def test_all_references_of_mbpp_pass(grader):
    tasks = load_tasks(DATA / "mbpp-601-974.jsonl")
    assert len(tasks) == 374
    assert set(not_passed(grader, tasks)) == set(MBPP_EXCEPTIONS)


@needs_data
def test_wrong_programs_that_plain_execution_rejects_are_rejected(grader):
    tasks = load_tasks(DATA / "HumanEval.jsonl.gz")
    wrong = []
    for task in tasks:
        mutants = list(mutations(task.reference, task.entry_point))
        rejected = rejected_plainly([f"{source}\n{task.tests.code}" for _, source in mutants])
        wrong += [(task, name, source) for (name, source), no in zip(mutants, rejected, strict=True) if no]
    assert {task.task_id for task, _, _ in wrong} == {task.task_id for task in tasks}
    assert len(wrong) > 4 * len(tasks)
    grades = grader.grade([task for task, _, _ in wrong], [source for _, _, source in wrong], solutions=True)
    passed = [(t.task_id, name) for (t, name, _), g in zip(wrong, grades, strict=True) if g.outcome == "passed"]
    assert passed == []
    assert not [grade for grade in grades if grade.outcome in ("infra_error", "no_code")]


def mutations(source, entry_point):
    """``(name, program)``: changed operators, off-by-one, empty body, ``return None``, early exits."""
    yield "comparison", _changed(source, entry_point, _flip_comparison)
    yield "operator", _changed(source, entry_point, _swap_operator)
    yield "off by one", _changed(source, entry_point, _off_by_one)
    for name, body in (
        ("empty body", "pass"),
        ("return None", "return None"),
        ("exit(0)", "raise SystemExit(0)"),
        ("_exit(0)", "__import__('os')._exit(0)"),
        ("argument back", "return next(iter(locals().values()), None)"),
    ):
        yield name, _changed(source, entry_point, lambda function, body=body: _set_body(function, body))


def _changed(source, entry_point, change):
    tree = ast.parse(source)
    function = next(n for n in reversed(tree.body) if isinstance(n, ast.FunctionDef) and n.name == entry_point)
    change(function)
    return ast.unparse(ast.fix_missing_locations(tree))


def _set_body(function, text):
    function.body = ast.parse(f"def f():\n    {text}\n").body[0].body


def _flip_comparison(function):
    flip = {ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
    for node in ast.walk(function):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in flip:
            node.ops[0] = flip[type(node.ops[0])]()
            return


def _swap_operator(function):
    swap = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.FloorDiv, ast.FloorDiv: ast.Mod}
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and type(node.op) in swap:
            node.op = swap[type(node.op)]()
            return


def _off_by_one(function):
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
            return


def rejected_plainly(programs):
    """Which programs do not run to their end in one plain interpreter. In a forked child: they may do anything."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        os._exit = _refuse  # the early exit is to end its program, not this loop
        signal.signal(signal.SIGPROF, _refuse)
        found = []
        for program in programs:
            signal.setitimer(signal.ITIMER_PROF, 1.0)  # CPU time: a loaded machine changes no verdict
            try:
                exec(compile(program, "<plain>", "exec"), {"__name__": "plain"})
                found.append(False)
            except BaseException:  # noqa: BLE001
                found.append(True)
            signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(writer, json.dumps(found).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    text = b""
    while part := os.read(reader, 4096):
        text += part
    os.close(reader)
    os.waitpid(pid, 0)
    return json.loads(text)


def _refuse(*_):
    raise SystemExit
