"""What an attack is."""

from __future__ import annotations

from dataclasses import dataclass

# How the positive control is run:
OPEN = "open"  # our own runner without any isolation
SAME_INTERPRETER = "same interpreter"  # program and comparison in one interpreter, the result in a list
EXIT_CODE = "exit code"  # program and asserts in one script, passed if it exits with 0
MARKER = "marker"  # the program's process reports the verdict as its last line
PICKLE = "pickle"  # the program's process sends back a pickle
EXTRACTS = "extracts"  # the grader takes the text apart and compiles it itself
NAIVE_JSON = "naive json"  # the grader parses and compares what comes back without bounds or care


BUSY_S = 0.2  # CPU seconds of the grader's own process that are too many for one sample


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack.

    ``program`` defines ``f``; it is called with the values of the world named in ``args``. The attack succeeds if
    the grade is ``passed`` (``expected``: the value of the world of that name, or the value itself), or, where
    ``effect`` names a check of the world, if that check finds the effect, or if the grader itself breaks
    (``infra_error``). The effect ``grader_busy`` is that the grader's own process takes longer than ``BUSY_S``.
    ``asserts`` replaces the comparison by test code; ``before`` are programs run first in the
    same worker; ``prints`` makes it a stdio task with that expected output.
    """

    group: str
    name: str
    program: str
    control: str = OPEN
    args: tuple[str, ...] = ()
    expected: object = True
    effect: str = ""
    asserts: str = ""
    prompt: str = ""
    before: tuple[str, ...] = ()
    prints: str = ""
