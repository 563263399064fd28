"""Program and tests in one process, as most graders run them: for tests that cannot run apart from the program.

Nothing keeps the program from deciding its own verdict here; the grade says that it came this way.
"""

from __future__ import annotations

import sys

from sr_reward.sandbox.child.codec import encode
from sr_reward.sandbox.child.judging import UNFIT, name_of_kind
from sr_reward.sandbox.child.judging.cases import NoVerdict, run_cases
from sr_reward.sandbox.child.program import describe, load, resolve, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULES = ("solution", "program", "__test__")  # names under which tests import or patch the program


def run_together(out: int, source: str, tests: dict[str, Any]) -> None:
    """Run the program, then its tests in the program's own names; write ``[1]``, or ``[0, kind, message]``."""
    report = "[1]"
    loaded = False
    try:
        module = load(source, "solution")
        loaded = True
        sys.modules.update(dict.fromkeys(MODULES, module))
        names = module.__dict__
        entry_point = tests["entry_point"]
        if entry_point:
            names[entry_point.rpartition(".")[2]] = resolve(module, entry_point)
        exec(compile(tests["code"], "<tests>", "exec", dont_inherit=True), names)
        if tests["cases"]:
            run_cases(names)
    except BaseException as error:  # noqa: BLE001  # whatever ends the tests early is a failure
        kind, message = describe(error)
        absent = isinstance(error, ImportError) and loaded and _in_tests(error)
        kind = UNFIT if absent or isinstance(error, NoVerdict) else name_of_kind(kind)
        report = f"[0,{encode(kind)},{encode(message)}]"
    write_all(out, report.encode())


def _in_tests(error: ImportError) -> bool:
    """Whether it was the tests that could not import a module."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename != "<tests>":
        trace = trace.tb_next
    after = trace.tb_next if trace is not None else None
    while after is not None:
        if after.tb_frame.f_code.co_filename == "<program>":
            return False
        after = after.tb_next
    return trace is not None
