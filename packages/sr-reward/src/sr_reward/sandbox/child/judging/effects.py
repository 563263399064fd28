"""What tests and program share beside values: printed text, warnings, log records, the random seed, patched input, the
environment.

The program prints into a buffer that goes along with its answers, so that tests which capture output see it; so do
warnings and log records. A test that seeds ``random`` seeds the program's as well, one that replaces ``input`` or
``sys.stdin`` answers the program's questions, and one that sets a variable of the environment sets the program's.
"""

from __future__ import annotations

import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PRINTED_CHARACTERS = 1 << 20
EVENTS = 1000


class Printed:
    """A text stream that keeps what is written until it is taken; what is beyond the limit is dropped."""

    encoding, errors, newlines, closed = "utf-8", "strict", None, False
    name = "<stdout>"

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0

    def write(self, text: str) -> int:
        if type(text) is not str:
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.size < PRINTED_CHARACTERS:
            self.parts.append(text)
        self.size += len(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def take(self) -> str | None:
        if not self.parts:
            return None
        text, self.parts, self.size = "".join(self.parts), [], 0
        return text[:PRINTED_CHARACTERS]

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def fileno(self) -> int:
        return 1


class Noted:
    """Beside the program: what it prints, warns of and logs, until the judge is told."""

    def __init__(self) -> None:
        self.stdout = Printed()
        self.events: list[Any] = []
        self.logs = False

    def begin(self) -> None:
        """Listen; to warnings and log records where their modules are loaded by now."""
        sys.stdout = self.stdout
        warnings: Any = sys.modules.get("warnings")
        if warnings:
            warnings.simplefilter("always")
            warnings.showwarning = self._warned
        logging: Any = sys.modules.get("logging")
        if logging and not self.logs:
            self.logs = True
            handler = logging.Handler()
            handler.emit = self._logged
            logging.root.addHandler(handler)
            if logging.root.level == logging.WARNING:  # the tests' loggers decide what they show
                logging.root.setLevel(1)

    def _warned(self, message: Any, category: type, *_: Any) -> None:
        self._note("warning", category, str(message))

    def _logged(self, record: Any) -> None:
        self._note("log", record.name, record.levelno, record.getMessage())

    def _note(self, *event: Any) -> None:
        if len(self.events) < EVENTS:
            self.events.append(event)

    def take(self) -> Any:
        text, events = self.stdout.take(), self.events
        if text is None and not events:
            return None
        self.events = []
        return (text, tuple(events))


def show(effects: Any) -> None:
    """In the judge: print, warn and log what the program did, as the tests have set these up."""
    text, events = effects
    if type(text) is str:
        sys.stdout.write(text)
    for kind, *event in events:
        if kind == "warning":
            category, message = event
            if isinstance(category, type) and issubclass(category, Warning) and type(message) is str:
                __import__("warnings").warn_explicit(message, category, "program", 1)
        else:
            name, level, message = event
            logging: Any = sys.modules.get("logging")
            if logging and type(name) is str and type(level) is int and type(message) is str:
                logger = logging.getLogger(name)
                if logger.isEnabledFor(level):
                    logger.handle(logger.makeRecord(name, level, "program", 1, message, (), None))


class World:
    """In the judge: whether the tests have replaced what a program reads from, and what they seed."""

    def __init__(self, tell: Callable[[str, list[Any]], Any]) -> None:
        self.tell = tell
        self.input, self.stdin, self.told = builtins.input, sys.stdin, False
        self.hooked = False
        self.environ = dict(os.environ)

    def before_request(self) -> None:
        """Tell the program when ``input`` or ``sys.stdin`` is no longer what it was."""
        if not self.hooked and "random" in sys.modules:
            self.hooked = True
            random: Any = sys.modules["random"]
            random.seed = self._seeding(random.seed)
        patched = builtins.input is not self.input or sys.stdin is not self.stdin
        if patched != self.told:
            self.told = patched
            self.tell("input", [_Input() if patched else None])
        if os.environ != self.environ:
            before, self.environ = self.environ, dict(os.environ)
            changed = {name: value for name, value in self.environ.items() if before.get(name) != value}
            self.tell("environ", [changed, [name for name in before if name not in self.environ]])

    def _seeding(self, seed: Any) -> Any:
        def both(*args: Any, **options: Any) -> Any:
            result = seed(*args, **options)
            self.tell("seed", [args, tuple(options.items())])
            return result

        return both


class _Input:
    """Reads for the program from what the tests have put in place of standard input."""

    def line(self, prompt: str) -> str:
        return str(input(prompt))

    def read(self, method: str, *args: Any) -> Any:
        if method not in ("read", "readline", "readlines"):
            raise AttributeError(method)
        return getattr(sys.stdin, method)(*args)


class Stdin:
    """Beside the program: standard input that the tests' replacement answers for."""

    encoding, errors = "utf-8", "strict"

    def __init__(self, source: Any) -> None:
        self._source = source

    def read(self, *args: Any) -> Any:
        return self._source.read("read", *args)

    def readline(self, *args: Any) -> Any:
        return self._source.read("readline", *args)

    def readlines(self, *args: Any) -> Any:
        return self._source.read("readlines", *args)

    def __iter__(self) -> Any:
        return iter(self.readline, "")

    def isatty(self) -> bool:
        return False
