"""The walls around a program."""

from __future__ import annotations

import resource


class WallError(Exception):
    """A wall that was asked for does not stand here."""


class Standing:
    """The walls that stand around this zygote."""

    def __init__(self, level: str) -> None:
        self.level = level

    def describe(self) -> str:
        return self.level

    def enter_child(self, cpu_s: float, memory: int) -> None:
        seconds = int(cpu_s) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    def wipe(self) -> None:
        return


def raise_walls(level: str) -> Standing:
    if level != "limits":
        raise WallError(f"level {level} does not stand here")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
    return Standing(level)
