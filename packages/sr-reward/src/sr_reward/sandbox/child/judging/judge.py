"""Test code in one process, the program it tests in another.

``run_judge`` runs in a judge zygote, which never hosts a program: it executes the prompt and the test code, in which
every name taken from the program is a proxy; ``serve.serve_program``, beside the program, carries out what a proxy
asks. ``rules`` says what the program decides and what it does not.
"""

from __future__ import annotations

import builtins
import sys

from sr_reward.sandbox.child import codec
from sr_reward.sandbox.child.bridge.proxies import RemoteModule
from sr_reward.sandbox.child.judging import ENDED, UNFIT, name_of_kind
from sr_reward.sandbox.child.judging import prompt as prompts
from sr_reward.sandbox.child.judging.cases import NoVerdict, run_cases
from sr_reward.sandbox.child.judging.rules import JudgePeer, ProgramEnded, Unfit
from sr_reward.sandbox.child.program import describe, load, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROGRAM_MODULES = ("solution", "program")  # names under which tests import the program


def run_judge(out: int, tests: dict[str, Any]) -> None:
    """Execute the test code; write ``[1]`` when it ran to its end, ``[0, kind, message]`` otherwise.

    ``tests``: its ``code``, the ``entry_point``, the ``prompt``, whether it holds ``cases`` that are to be run, and the
    names that the task declares as ``functions`` and ``classes``.
    """
    peer = JudgePeer(tests["functions"], tests["classes"])
    try:
        _run_tests(peer, tests)
        found = None
    except ImportError as error:
        kind, message = describe(error)
        found = (name_of_kind(kind) if peer.is_foreign(error) else UNFIT, _test_line(error) + message)
    except BaseException as error:  # noqa: BLE001  # whatever ends the tests early is a failure
        kind, message = describe(error)
        unfit = isinstance(error, NoVerdict) or _needs_files(error)
        found = (UNFIT if unfit else name_of_kind(kind), _test_line(error) + message)
    if peer.unfit:
        found = (UNFIT, peer.unfit)
    elif peer.ended:  # whatever the tests made of it
        found = (ENDED, peer.ended)
    report = "[1]" if found is None else f"[0,{codec.encode(found[0])},{codec.encode(found[1])}]"
    write_all(out, report.encode())


def _run_tests(peer: JudgePeer, tests: dict[str, Any]) -> None:
    code, entry_point = tests["code"], tests["entry_point"]
    peer.wait_until_loaded()
    peer.lines = code.splitlines()
    _check_imports(peer, code)
    names = Names(peer, code)
    prompts.run(tests["prompt"], names)
    classes, left = prompts.settle(names, names["__name__"], entry_point)
    present = peer.ask("hello", [list(classes)])
    peer.prompt = {name: kind for name, kind in classes.items() if name in present}
    for name, methods in left.items():
        _leave_to_program(peer, classes[name], methods, asked=entry_point.partition(".")[0] == name)
    if entry_point:
        method = entry_point.rpartition(".")[2]
        names[method] = peer.ask("global", [entry_point])
        peer.name_class(method, names[method])
    for name in PROGRAM_MODULES:
        module = RemoteModule(name)
        module.__dict__.update(_sr_peer=peer, _sr_taken=names)
        sys.modules[name] = module
    if "mock" in code:
        _guard_patches(peer)
    exec(compile(code, "<tests>", "exec", dont_inherit=True), names)
    if tests["cases"]:
        run_cases(names)


class Names(dict):  # type: ignore[type-arg]
    """The global names of the test code: what it defines, then built-ins, modules of the standard library (from
    here, not from the program), and last the program's own names.

    A module's name that the tests only call is the program's function: a module cannot be called."""

    def __init__(self, peer: JudgePeer, code: str) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self.__dict__.update(peer=peer, code=code)

    def __missing__(self, name: str) -> Any:
        peer: JudgePeer = self.__dict__["peer"]
        if hasattr(builtins, name) or name.startswith("__"):
            raise KeyError(name)
        if name in sys.stdlib_module_names and not _is_only_called(self.__dict__["code"], name):
            self[name] = __import__(name)
            return self[name]
        try:
            value = peer.ask("global", [name])
        except AttributeError:
            raise KeyError(name) from None
        peer.name_class(name, value)
        return value


def _nodes(code: str) -> Any:
    """``(parent, field, node)`` of every node of the syntax tree."""
    todo: list[Any] = [compile(code, "<tests>", "exec", 0x400, dont_inherit=True)]  # the flag: only the tree
    while todo:
        parent = todo.pop()
        for field in parent._fields:
            value = getattr(parent, field, None)
            for node in list(value) if type(value) is list else [value]:
                if hasattr(node, "_fields"):
                    yield parent, field, node
                    todo.append(node)


def _is_only_called(code: str, name: str) -> bool:
    uses = [
        type(parent).__name__ == "Call" and field == "func"
        for parent, field, node in _nodes(code)
        if type(node).__name__ == "Name" and node.id == name
    ]
    return bool(uses) and all(uses)


_CROSSING = ("numpy", "pytest", "hypothesis")  # packages whose values are data, or stay with the tests


def _check_imports(peer: JudgePeer, code: str) -> None:
    """Objects of other packages than the standard library's do not cross: tests that use some run elsewhere."""
    if "import" not in code:
        return
    for _, _, node in _nodes(code):
        kind = type(node).__name__
        if kind == "ImportFrom" and not node.level:
            found = [node.module]
        elif kind == "Import":
            found = [alias.name for alias in node.names]
        else:
            continue
        for name in found:
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in (*PROGRAM_MODULES, *_CROSSING):
                continue
            if any(finder.find_spec(top, None) for finder in sys.meta_path):
                peer.unfit = f"they use {top}, whose objects do not leave their process"
                raise Unfit(peer.unfit)


def _leave_to_program(peer: JudgePeer, kind: Any, methods: list[str], *, asked: bool) -> None:
    """Have the program carry out the methods of a prompt's class that the prompt leaves open."""

    def open_method(name: str) -> Any:
        def method(self: Any, *args: Any, **options: Any) -> Any:
            return peer.ask("op", [kind, name, self, args, tuple(options.items())])

        method.__name__ = name
        return method

    for name in methods:
        setattr(kind, name, open_method(name))
    if asked and not hasattr(kind, "__getattr__"):
        kind.__getattr__ = lambda self, name: _ask_attribute(peer, self, name)


def _ask_attribute(peer: JudgePeer, owner: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return peer.ask("get", [owner, name])


_SHARED_PATCHES = {("builtins", "input"), ("sys", "stdin"), ("sys", "stdout"), ("random", "seed")}


def _guard_patches(peer: JudgePeer) -> None:
    """A patch of a module here is none in the program's process: such tests cannot run apart from the program."""
    from unittest import mock

    patch: Any = mock._patch
    enter = patch.__enter__

    def guarded(self: Any) -> Any:
        target = self.getter()
        ours = type(target) is type(sys) and (target.__name__, self.attribute) not in _SHARED_PATCHES
        if ours:
            peer.unfit = f"they patch {target.__name__}.{self.attribute} for the program"
            raise Unfit(peer.unfit)
        return enter(self)

    patch.__enter__ = guarded


def _needs_files(error: BaseException) -> bool:
    """Whether the tests failed to make a temporary file, which some isolation levels do not allow."""
    trace = error.__traceback__
    while trace is not None and isinstance(error, OSError):
        if trace.tb_frame.f_code.co_filename.endswith("tempfile.py"):
            return True
        trace = trace.tb_next
    return False


def _test_line(error: BaseException) -> str:
    """``line N: `` of the test code at which the error left it."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            found = f"tests, line {trace.tb_lineno}: "
        trace = trace.tb_next
    return found


# ---------------------------------------------------------------- checkers


def run_check(out: int, checker: str, cases: list[Any], given: bytes | str) -> None:
    """Let a task's checker decide: ``check(*inputs, output, expected)`` must be true for every case.

    ``given`` is the program's answer as it wrote it: the rows of ``run_calls``, or the printed text of one run.
    """
    report = "[1]"
    try:
        check = load(checker, "checker").__dict__["check"]
    except BaseException as error:  # noqa: BLE001
        kind, message = describe(error)
        write_all(out, f"[0,{codec.encode(UNFIT)},{codec.encode(f'{kind}: {message}')}]".encode())
        return
    try:
        inputs: list[Any]
        outputs: list[Any]
        if isinstance(given, bytes):
            outputs = [output for _, output in codec.decode(given.decode("ascii"))]
            inputs = [(args, kwargs) for args, kwargs, _ in cases]
        else:
            outputs, inputs = [given], [args for args, _, _ in cases]
        for number, (asked, output, case) in enumerate(zip(inputs, outputs, cases, strict=True)):
            if check(*asked, output, case[2]) is not True:
                report = f'[0,"case {number}","the checker refused the output"]'
                break
    except BaseException as error:  # noqa: BLE001
        kind, message = describe(error)
        report = f"[0,{codec.encode(kind)},{codec.encode(message)}]"
    write_all(out, report.encode())


__all__ = ["PROGRAM_MODULES", "ProgramEnded", "run_check", "run_judge"]
