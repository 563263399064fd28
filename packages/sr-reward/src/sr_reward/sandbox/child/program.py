"""Runs one program under test in a forked child and writes what it returned as data.

Nothing here is trusted once the program runs: it shares this process and may overwrite every name. That gives it
nothing, because no expected value is here and the reader takes the data for what it is: a claim about outputs.
"""

from __future__ import annotations

import marshal
import os
import sys

from sr_reward.sandbox.child.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

DETAIL = 300  # characters of an exception's message that are reported


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, in as many writes as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def describe(error: BaseException) -> tuple[str, str]:
    """The name of an exception's class and the start of its message."""
    try:
        return type(error).__name__, str(error)[:DETAIL]
    except BaseException:  # noqa: BLE001  # the class is the program's own and may raise anything
        return type(error).__name__, ""


def load(source: str, name: str) -> ModuleType:
    """Run the program's text as a module called ``name`` and return it."""
    module = type(sys)(name)
    sys.modules[name] = module
    code = compile(source, "<program>", "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module


def resolve(module: ModuleType, entry_point: str) -> Any:
    """The function a task asks for. ``Class.method`` gives the method of a new object each time it is resolved;
    a plain name that is missing is looked for in a class ``Solution``, as judges of the field do."""
    owner, _, method = entry_point.rpartition(".")
    if not owner and not hasattr(module, method) and hasattr(module, "Solution"):
        owner = "Solution"
    if not owner:
        return getattr(module, method)
    return getattr(getattr(module, owner)(), method)


def answer_of(outputs: list[Any]) -> bytes:
    """What ``run_calls`` writes for a program that returns these values."""
    return ("[" + ",".join(["[1," + encode(output) + "]" for output in outputs]) + "]").encode()


def run_calls(out: int, source: str, entry_point: str, inputs: bytes) -> None:
    """Call the entry point on every input; write ``[[1, output], ..., [0, error, message]]``.

    It stops at the first error: no answer after it could make the program pass.
    """
    parts = []
    try:
        module = load(source, "program")
        for args, kwargs in marshal.loads(inputs):
            output = resolve(module, entry_point)(*args, **kwargs)
            parts.append("[1," + encode(output) + "]")
    except MemoryError:
        parts = ['[0,"MemoryError",""]']
    except BaseException as error:  # noqa: BLE001  # whatever the program raises is its answer
        kind, message = describe(error)
        parts.append(f"[0,{encode(kind)},{encode(message)}]")
    write_all(out, ("[" + ",".join(parts) + "]").encode())


def run_stdio(out: int, source: str) -> None:
    """Run the program as a script; write ``[1]`` at its end or ``[0, error, message]``.

    What it prints goes to descriptor 1, which the zygote reads.
    """
    report = "[1]"
    try:
        try:
            load(source, "__main__")
        except SystemExit as error:
            if error.code not in (None, 0):
                report = f'[0,"SystemExit",{encode(str(error.code)[:DETAIL])}]'
        _finish()
    except MemoryError:
        report = '[0,"MemoryError",""]'
    except BaseException as error:  # noqa: BLE001
        kind, message = describe(error)
        report = f"[0,{encode(kind)},{encode(message)}]"
        try:
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001
            report = f"[0,{encode(kind)},{encode(message)}]"
    write_all(out, report.encode())


def _finish() -> None:
    """What the interpreter does at the end of a script, in its order: join threads, call exit handlers, write out what
    files still hold, those too that only the script's own names keep open."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    sys.stdout.flush()
    if sys.__stdout__ and not sys.__stdout__.closed:
        sys.__stdout__.flush()
    main = sys.modules.pop("__main__", None)
    if type(main) is type(sys):  # the script may have put anything there
        main.__dict__.clear()


def take_stdin(text: bytes) -> None:
    """Make ``text`` the standard input, descriptor 0.

    It is a seekable file, so that ``os.read``, ``open(0)`` and ``sys.stdin`` all see the same bytes and nothing can
    block. Called before the last layer of isolation: programs may not make such files.
    """
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("stdin")
    else:
        import tempfile

        file = os.dup(tempfile.TemporaryFile().fileno())  # noqa: SIM115  # the descriptor outlives the file object
    write_all(file, text)
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)
