"""A row of every format, as it is published."""

import base64
import json
import pickle
import zlib

NATIVE = {
    "task_id": "t1",
    "prompt": "def f(xs):\n",
    "entry_point": "f",
    "tests": {"kind": "calls", "cases": [{"args": [[1, 2]], "kwargs": {}, "expected": 3}]},
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n    '''Double.'''\n",
    "entry_point": "f",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP = {
    "task_id": 601,
    "text": "Write a function to double.",
    "code": "def helper(x):\r\n  return x\r\ndef double(x):\r\n  return 2 * helper(x)",
    "test_setup_code": "",
    "test_list": ["assert double(2) == 4"],
    "challenge_test_list": [],
}
SANITIZED = {**{k: v for k, v in MBPP.items() if k != "text"}, "prompt": "Double.", "test_imports": ["import math"]}
APPS = {
    "problem_id": 7,
    "question": "Add two numbers.",
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}),
}
APPS_CALL = {
    "problem_id": 8,
    "question": "Add.",
    "starter_code": "class Solution:\n    def add(self, a, b):\n",
    "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}),
}
CODECONTESTS = {
    "name": "p_A",
    "description": "Echo.",
    "public_tests": {"input": ["1\n"], "output": ["1\n"]},
    "private_tests": {"input": [], "output": []},
    "generated_tests": {"input": ["2\n"], "output": ["2\n"]},
    "solutions": {"language": [2, 3], "solution": ["int main() {}", "print(input())"]},
}
HIDDEN = json.dumps([{"input": "[3]\n1", "output": "4", "testtype": "functional"}])
LIVECODEBENCH = {
    "question_id": "q1",
    "question_content": "Add x to the first item.",
    "starter_code": "class Solution:\n    def first(self, xs, x):\n",
    "public_test_cases": json.dumps([{"input": "[1]\n2", "output": "3", "testtype": "functional"}]),
    "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(HIDDEN))).decode(),
    "metadata": json.dumps({"func_name": "first"}),
}
TACO = {
    "question": "Double a number.",
    "solutions": json.dumps(["print(2 * int(input()))"]),
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["3\n"], "outputs": ["6\n"]}),
    "raw_tags": "[]",
    "name": None,
    "skill_types": "[]",
}
DECODED = {
    **LIVECODEBENCH,
    "public_test_cases": [{"input": "[1]\n2", "output": "3", "testtype": "functional"}],
    "private_test_cases": [{"input": "[3]\n1", "output": "4", "testtype": "functional"}],
    "metadata": {"func_name": "first"},
}
DEEPCODER = {
    "problem": "Double a number.",
    "solutions": ["print(2 * int(input()))"],
    "tests": json.dumps([{"type": "stdin_stdout", "input": "3\n", "output": "6\n", "fn_name": None}]),
}
DEEPCODER_LISTS = {**DEEPCODER, "tests": json.dumps({"inputs": [["a", 2]], "outputs": [["aa"]], "fn_name": "times"})}
PRIME = {
    "data_source": "codecontests",
    "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "Double a number."}],
    "reward_model": {"style": "rule", "ground_truth": json.dumps({"inputs": ["3\n"], "outputs": ["6\n"]})},
    "extra_info": {"index": 12},
}
PRIMEINTELLECT = {
    "problem_id": "p1",
    "prompt": "Double a number.",
    "verification_info": json.dumps({"test_cases": [{"type": "stdin_stdout", "input": "3", "output": "6"}]}),
}
EVALPLUS = {
    "task_id": "HumanEval/0",
    "prompt": 'def mean(xs):\n    """Mean."""\n',
    "entry_point": "mean",
    "canonical_solution": "    return sum(xs) / len(xs)\n",
    "base_input": [[[1, 2]]],
    "plus_input": [[[0.1, 0.2, 0.3]]],
    "atol": 0,
    "contract": "",
}
MBPPPLUS = {
    "task_id": "Mbpp/700",
    "prompt": '"""Count the pairs.\nassert pairs([(1, 2)]) == 1\n"""\n',
    "entry_point": "pairs",
    "canonical_solution": "def pairs(xs):\n    return len({x for x in xs})\n",
    "base_input": [[[[1, 2]]]],
    "plus_input": [[[[1, 2], [1, 2]]]],
    "assertion": "assert pairs([(1, 2)]) == 1",
    "atol": 0,
}
BIGCODEBENCH = {
    "task_id": "BigCodeBench/0",
    "complete_prompt": 'import math\ndef task_func(x):\n    """Square root."""\n',
    "instruct_prompt": "Write task_func.",
    "canonical_solution": "    return math.sqrt(x)\n",
    "code_prompt": "import math\ndef task_func(x):\n",
    "test": "import unittest\nclass TestCases(unittest.TestCase):\n"
    "    def test_a(self):\n        self.assertEqual(task_func(4), 2.0)\n",
    "entry_point": "task_func",
}
KODCODE = {
    "question_id": "k1",
    "question": "Double a number.",
    "solution": "def double(x):\n    return 2 * x\n",
    "test": "from solution import double\n\ndef test_a():\n    assert double(2) == 4\n",
    "test_info": [{"function_name": "double", "function_declaration": "def double(x):"}],
}
