"""The process that reads untrusted text for the grader: it assembles programs and compares outputs.

Run as a script by ``sandbox.worker``, isolated like the programs, with limits on CPU time and memory of its own. A
child does the work and is forked anew when a request has ended it, so that one sample costs no other its verdict.
The child runs code of this package only; what it reads may cost it its life but never runs.

A request is a group of one in the protocol of ``sandbox.child.zygote``. Its body is ``marshal`` data,
``(action, *arguments)``, made by ``grading.requests``; the answer's data is one byte and a text in UTF-8.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import marshal
import mmap
import os
import struct
import sys
from _socket import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for _name, _path in (
    ("sr_reward", _folder),
    ("sr_reward.grading", os.path.join(_folder, "grading")),
    ("sr_reward.sandbox", os.path.join(_folder, "sandbox")),
):
    _package = type(sys)(_name)  # the folders become importable without running their __init__
    _package.__path__ = [_path]
    sys.modules.setdefault(_name, _package)

from sr_reward.grading import compare, extract  # noqa: E402
from sr_reward.sandbox.child import isolation  # noqa: E402

HEADER = struct.Struct("<4sIQdd")
REPORT = struct.Struct("<IidQQ")
MAGIC = b"srj2"
SIZE = struct.Struct("<Q")
EXITED, SIGNALLED, CPU, IDLE, OUTPUT = range(5)
OUT_OF_MEMORY, RENEW, GRADER_GONE = 3, 4, 5  # exit statuses of the child
LARGE = 1 << 18  # bytes of a request
MEMORY, ALL_MEMORY = 384 << 20, 1 << 30  # bytes of address space for a request, and for a large one
RENEW_KB = 256 << 10  # a child that has grown beyond this is replaced
ERROR = b"!"  # first byte of an answer: our own code failed


class Stopped(Exception):
    """The grader has gone or speaks another language."""


def answer(body: bytes) -> bytes:
    """The answer to one request. A failure of our own code is an answer too."""
    try:
        action, *arguments = marshal.loads(body)
        return ACTIONS[action](*arguments)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # one sample's trouble is that sample's outcome
        return ERROR + f"{type(error).__name__}: {str(error)[:200]}".encode("utf-8", "replace")


ACTIONS: dict[str, Callable[..., bytes]] = {
    "assemble": extract.answer_request,
    "calls": compare.answer_calls,
    "text": compare.answer_text,
}


def _read(sock: socket, count: int) -> bytes:
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            raise Stopped
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _work(sock: socket, taken: mmap.mmap) -> None:
    """In the child: answer requests until one of them or our own size ends this process."""
    import resource

    def bound(memory: int) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory if most < 0 else min(memory, most), most))

    while True:
        head = _read(sock, HEADER.size + SIZE.size)
        magic, _, count, cpu_s, _ = HEADER.unpack_from(head)
        if magic != MAGIC or count != 1:
            raise Stopped
        body = _read(sock, *SIZE.unpack_from(head, HEADER.size))
        taken[0] = 1
        large = len(body) > LARGE
        bound(ALL_MEMORY if large else MEMORY)
        _signal.setitimer(_signal.ITIMER_PROF, cpu_s)
        found = answer(body)
        _signal.setitimer(_signal.ITIMER_PROF, 0)
        sock.sendall(REPORT.pack(EXITED, 0, 0.0, len(found), 0) + found)
        taken[0] = 0
        del body, found
        if large and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > RENEW_KB:
            os._exit(RENEW)


def _run_child(sock: socket, standing: isolation.Isolation, taken: mmap.mmap, parent: int) -> None:
    status = 1
    try:
        if standing.ties:
            standing.tie(parent)
        if standing.filter:
            standing.filter.install()
        _work(sock, taken)
    except (Stopped, OSError):
        status = GRADER_GONE
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)


def serve(sock: socket, standing: isolation.Isolation) -> None:
    """Keep one child at work; report for it where a request ended it. Raises Stopped."""
    taken = mmap.mmap(-1, 1)  # shared with the child: whether it holds a request that it has not answered
    parent = os.getpid()
    while True:
        pid = os.fork()
        if pid == 0:
            _run_child(sock, standing, taken, parent)
        _signal.signal(_signal.SIGTERM, lambda *_, pid=pid: os.kill(pid, _signal.SIGKILL))
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            by = os.WTERMSIG(status)
            ended, code = (CPU if by == _signal.SIGPROF else SIGNALLED), by
        else:
            ended, code = OUTPUT, os.WEXITSTATUS(status)
            if code == RENEW:
                continue
            if code != OUT_OF_MEMORY:
                raise Stopped
        if not taken[0]:
            raise Stopped  # part of a request may still lie in the socket
        taken[0] = 0
        sock.sendall(REPORT.pack(ended, code, 0.0, 0, 0))


def main() -> None:
    """Isolate this process as the arguments say, say hello, serve."""
    sock = socket(fileno=os.dup(0))
    settings = dict(pair.split("=", 1) for pair in sys.argv[1:])
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != own]
    try:
        standing = isolation.isolate(settings["level"], int(settings["memory"]))
    except (OSError, isolation.NotIsolated) as error:
        sock.sendall(f"no {error}\n".encode())
        return
    sock.sendall(f"ok {standing.describe()}\n".encode())
    try:
        serve(sock, standing)
    except (Stopped, OSError):
        return


if __name__ == "__main__":
    main()
