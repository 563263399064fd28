"""Tries each part of the isolation by itself, in a process that ends afterwards.

Prints what came of each: ``name ok|no reason``.
"""

from __future__ import annotations

import os
import resource
import sys

_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for _name, _path in (("sr_reward", os.path.dirname(_folder)), ("sr_reward.sandbox", _folder)):
    _package = type(sys)(_name)
    _package.__path__ = [_path]
    sys.modules.setdefault(_name, _package)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _tried(name: str, part: Callable[[], str]) -> None:
    """Run ``part`` in a child, so that each is tried from the same start."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            line = f"ok {part()}"
        except (OSError, ValueError) as error:
            line = f"no {error}"
        os.write(writer, line.encode()[:300])
        os._exit(0)
    os.close(writer)
    line = os.read(reader, 400).decode(errors="replace") or "no it ended without a word"
    os.close(reader)
    os.waitpid(pid, 0)
    print(name, " ".join(line.split()), flush=True)


def main() -> None:
    """Try every part."""
    _tried("limits", _limits)
    if sys.platform != "linux":
        return
    from sr_reward.sandbox.child import kernel, landlock, seccomp

    def namespace(*flags: int) -> Callable[[], str]:
        def enter() -> str:
            kernel.unshare(kernel.CLONE_NEWUSER | sum(flags))
            return "a new one can be entered"

        return enter

    def find_landlock() -> str:
        version = landlock.abi()
        if not version:
            raise OSError("this kernel has none")
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(["/usr"], [])
        return f"version {version}"

    def find_seccomp() -> str:
        if not seccomp.supported():
            raise OSError(f"no table of system calls for {kernel.MACHINE}")
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.install(seccomp.zygote_filter(writable=False))
        seccomp.install(seccomp.program_filter(os.getpid()))
        return "filters can be put up"

    def no_new_privileges() -> str:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        return "can be set"

    _tried("user-namespace", namespace())
    _tried("mount-namespace", namespace(kernel.CLONE_NEWNS))
    _tried("pid-namespace", namespace(kernel.CLONE_NEWPID))
    _tried("net-namespace", namespace(kernel.CLONE_NEWNET))
    _tried("ipc-namespace", namespace(kernel.CLONE_NEWIPC))
    _tried("uts-namespace", namespace(kernel.CLONE_NEWUTS))
    _tried("landlock", find_landlock)
    _tried("seccomp", find_seccomp)
    _tried("no-new-privileges", no_new_privileges)


def _limits() -> str:
    for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        _, most = resource.getrlimit(what)
        resource.setrlimit(what, (most, most))
    return "cpu, address space, file size, open files"


if __name__ == "__main__":
    main()
