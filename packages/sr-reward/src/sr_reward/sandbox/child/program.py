"""Runs one program under test in a forked child and writes what it returned as data.

Nothing here is trusted once the program runs: it shares this process and may overwrite every name. That gives it
nothing, because no expected value is here and the reader takes the data for what it is: a claim about outputs.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
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
    module.__file__ = f"{name}.py"
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


def run_calls(out: int, source: str, entry_point: str, inputs: bytes, call_s: float = 0.0) -> None:
    """Call the entry point on every input; write ``[[1, output], ..., [0, error, message]]``.

    It stops at the first error: no answer after it could make the program pass. A call (or loading) that takes more
    than ``call_s`` seconds of CPU time, where that is not 0, ends the process by SIGPROF; a program that undoes this
    gains no more than the time of all calls.
    """
    parts = []
    try:
        _signal.setitimer(_signal.ITIMER_PROF, call_s)
        module = load(source, "program")
        for args, kwargs in marshal.loads(inputs):
            _signal.setitimer(_signal.ITIMER_PROF, call_s)
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
        if "/dev/" in source or "/proc/" in source:
            _name_streams()
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


_STREAMS = {
    f"{folder}{name}": number
    for number, known in enumerate(("stdin", "stdout", "stderr"))
    for folder, name in (("/dev/", known), ("/dev/fd/", number), ("/proc/self/fd/", number))
}


def _name_streams() -> None:
    """Let the usual paths of the standard streams, which do not exist here, be opened."""
    import builtins
    import io

    opened, opened_low = io.open, os.open

    def open_low(path: Any, *args: Any, **kwargs: Any) -> int:
        found = _stream(path)
        return opened_low(path, *args, **kwargs) if found is path else found

    named = _Opener(lambda file, *args, **kwargs: opened(_stream(file), *args, **kwargs))
    vars(builtins)["open"] = vars(io)["open"] = named
    vars(os)["open"] = _Opener(open_low)


def _stream(file: Any) -> Any:
    """A new descriptor of the stream that the path names; any other file as it is."""
    path = os.fspath(file) if hasattr(file, "__fspath__") else file
    return os.dup(_STREAMS[path]) if type(path) is str and path in _STREAMS else file


class _Opener:
    """A function that, like a built-in one, does not become a method where it is an attribute of a class."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


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
