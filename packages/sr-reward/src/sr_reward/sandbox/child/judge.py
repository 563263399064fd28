"""Test code in one process, the program it tests in another.

``run_judge`` runs in a judge zygote, which never hosts a program: it executes the test code, in which every name
taken from the program is a ``Remote``; ``serve.serve_program``, beside the program, carries out what a ``Remote`` asks.

Three rules keep the verdict out of the program's reach. A ``Remote`` equals plain data never, whatever its
``__eq__`` says. Helper functions that the prompt defines run in the judge, from the prompt's own text. What the
program raises arrives as a built-in exception of that name, but never as one that could end the tests or a loop
of theirs early.
"""

from __future__ import annotations

import builtins

from sr_reward.sandbox.child import codec, line
from sr_reward.sandbox.child.program import describe, load, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


UNFIT = "TestsUnfit"  # the kind reported where the tests themselves cannot run here, whatever the program does
_raised: BaseException | None = None  # the last exception that came from the program


class ProgramEnded(BaseException):
    """The program is gone or broke the protocol; no ``except Exception`` of the tests may catch it."""


def run_judge(out: int, code: str, entry_point: str, prompt: str) -> None:
    """Execute the test code; write ``[1]`` when it ran to its end, ``[0, kind, message]`` otherwise."""
    report = "[1]"
    try:
        _raise_error(_receive(line.Shared()), while_loading=True)
        names = Names(entry_point)
        _define_helpers(prompt, names)
        names[entry_point.rpartition(".")[2]] = _ask("global", entry_point)
        exec(compile(code, "<tests>", "exec", dont_inherit=True), names)
    except ProgramEnded as error:
        report = f'[0,"ProgramEnded",{codec.encode(str(error))}]'
    except ImportError as error:
        kind, message = describe(error)
        kind = kind if error is _raised else UNFIT
        report = f"[0,{codec.encode(kind)},{codec.encode(_test_line(error) + message)}]"
    except BaseException as error:  # noqa: BLE001  # whatever ends the tests early is a failure
        kind, message = describe(error)
        where = _test_line(error)
        report = f"[0,{codec.encode(kind)},{codec.encode(where + message)}]"
    write_all(out, report.encode())


class Names(dict):  # type: ignore[type-arg]
    """The global names of the test code: what it defines, then built-ins, modules of the standard library (from
    here, not from the program), and last the program's own names."""

    def __init__(self, entry_point: str) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name) or name.startswith("__"):
            raise KeyError(name)
        if name in line.STDLIB:
            self[name] = __import__(name)
            return self[name]
        try:
            return _ask("global", name)
        except AttributeError:
            raise KeyError(name) from None


def _define_helpers(prompt: str, names: Names) -> None:
    """Run the prompt, so that its helper functions and imports are the task's, not the program's.

    Its classes are the program's: an object made of them here could not be passed to it.
    """
    for text in (prompt, prompt.rstrip("\n") + "\n    pass\n"):
        try:
            code = compile(text, "<prompt>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        try:  # noqa: SIM105  # contextlib would be a page more in every fork
            exec(code, names)
        except Exception:  # noqa: BLE001  # a prompt that needs the program's part: its names come from there
            pass
        break
    for name, value in list(names.items()):
        if isinstance(value, type) and value.__module__ == names["__name__"]:
            del names[name]


def _test_line(error: BaseException) -> str:
    """``line N: `` of the test code at which the error left it."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            found = f"tests, line {trace.tb_lineno}: "
        trace = trace.tb_next
    return found


class Remote:
    """An object of the program, named by its number."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _ask("call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ask("attr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return _ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask("setitem", self, key, value)

    def __iter__(self) -> Any:
        return _ask("iter", self)

    def __next__(self) -> Any:
        return _ask("next", self)

    def __len__(self) -> int:
        return int(_of(int, _ask("len", self)))

    def __bool__(self) -> bool:
        return bool(_of(bool, _ask("bool", self)))

    def __str__(self) -> str:
        return str(_of(str, _ask("str", self)))

    def __repr__(self) -> str:
        return str(_of(str, _ask("repr", self)))

    def __eq__(self, other: object) -> bool:
        # only among the program's own objects may the program say what is equal
        return type(other) is Remote and _of(bool, _ask("equal", self, other))

    def __hash__(self) -> int:
        return hash(self._number)


def _of(kind: Any, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"the program gave {type(value).__name__} where {kind.__name__} belongs")
    return value


def _other_text(value: Any) -> str:
    if type(value) is Remote:
        return f'{{"r":{value._number}}}'
    if type(value) is range:
        return f'{{"range":[{value.start},{value.stop},{value.step}]}}'
    try:
        return codec.encode(line.plain_base(value), _other_text)
    except TypeError:
        raise codec.CodecError(f"the tests pass a {type(value).__name__}, which is not plain data") from None


def _text(value: Any) -> str:
    return codec.encode(value, _other_text)


def _build(pairs: list[tuple[str, Any]], shared: line.Shared) -> Any:
    def other(tag: str, content: Any) -> Any:
        if tag == "r" and type(content) is int:
            return Remote(content)
        if tag == "o":
            return shared.bring_back(content)
        raise codec.CodecError("unknown tag")

    return codec.build_value(pairs, other)


def _receive(shared: line.Shared) -> list[Any]:
    try:
        reply = line.receive(lambda pairs: _build(pairs, shared))
    except line.LineEnded as error:
        raise ProgramEnded(str(error)) from None
    if type(reply) is not list or not reply or type(reply[0]) is not int:
        raise ProgramEnded("it sent no reply")
    return reply


def _ask(action: str, target: Any, *rest: Any) -> Any:
    """Have the program's side do something; returns its result, raises what it raised."""
    shared = line.Shared()
    if action == "call":
        args, kwargs = rest
        shown: set[int] = set()
        texts = [shared.encode(arg, _other_text, shown, adding=True) for arg in args]
        named = [
            f"[{codec.encode(key)},{shared.encode(arg, _other_text, shown, adding=True)}]"
            for key, arg in kwargs.items()
        ]
        request = f'["call",{_text(target)},[{",".join(texts)}],{{"d":[{",".join(named)}]}}]'
    else:
        request = _text([action, target, *rest])
    try:
        line.send(request)
    except line.LineEnded as error:
        raise ProgramEnded(str(error)) from None
    reply = _receive(shared)
    if reply[0] == 2 and action == "next":
        raise StopIteration
    _raise_error(reply)
    if len(reply) not in (2, 3):
        raise ProgramEnded("it sent no reply")
    return reply[-1]


_NEVER_RAISED = (StopIteration, StopAsyncIteration)  # they would end a loop of the tests as if it were done


def _raise_error(reply: list[Any], *, while_loading: bool = False) -> None:
    """Raise the exception that a reply reports, if it reports one."""
    if reply[0] == 1:
        return
    if reply[0] != 0 or len(reply) != 5 or type(reply[3]) is not list or type(reply[4]) is not tuple:
        raise ProgramEnded("it sent no reply")
    _, kind, message, names, args = reply
    if while_loading:
        raise RuntimeError(f"{kind}: {message}") if kind != "MemoryError" else MemoryError
    for name in names:
        found = getattr(builtins, name, None) if type(name) is str else None
        if isinstance(found, type) and issubclass(found, Exception) and found not in _NEVER_RAISED:
            try:
                error = found(*args)
            except TypeError:  # some built-in exceptions insist on their own arguments
                error = RuntimeError(message)
            global _raised
            _raised = error
            raise error
    raise ProgramEnded(f"it raised {kind}")


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
