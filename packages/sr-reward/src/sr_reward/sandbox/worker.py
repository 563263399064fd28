"""One zygote as the grader sees it: a process, a socket, and the jobs that were sent but not yet answered."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_reward.errors import IsolationError

_ZYGOTE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child", "zygote.py")
_HEADER = struct.Struct("<4sIQdd")  # as in child/zygote.py, which imports nothing of the grader
_REPORT = struct.Struct("<IidQQ")
_MAGIC = b"srj2"
_START_S, _END_S = 60.0, 5.0

CALLS, STDIO, SERVE, JUDGE, CHECK, READ, TOGETHER = range(7)
ENDINGS = ("exited", "signalled", "cpu", "idle", "output", "lost", "wall", "memory")
OUTPUT_BYTES = 16 << 20  # what a program may return, and print, where nothing else is said

# modules that programs of the field import: loaded before the fork in the zygotes that serve such programs
WARM_MODULES = (
    "typing,collections,collections.abc,re,math,itertools,functools,operator,heapq,bisect,string,copy,random,"
    "datetime,hashlib,json,decimal,fractions,statistics,io,threading"
)


class WorkerDied(Exception):
    """The zygote is gone or does not keep to the protocol."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds of CPU time, seconds without progress. In any case a program is stopped 5 × ``cpu_s`` + 2 s after its
    start; a judge, which may wait for its program, ``idle_s`` later."""

    cpu_s: float
    idle_s: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one process ended (one of ``ENDINGS``), its exit status or signal, CPU seconds, and what it wrote."""

    ended: str
    code: int
    seconds: float
    data: bytes
    text: bytes


class Worker:
    """A zygote of one kind (``slim``, ``warm`` or ``judge``) at one isolation level.

    ``memory`` bounds what each program holds at once, in bytes, and ``output`` what it returns and what it prints;
    ``packages`` is a folder of packages that they may import. ``script`` names another program that keeps to the same
    protocol: a reader.

    Raises IsolationError when that level is not available here.
    """

    def __init__(
        self,
        *,
        level: str,
        kind: str,
        memory: int = 512 << 20,
        output: int = OUTPUT_BYTES,
        packages: str = "",
        script: str = _ZYGOTE,
    ) -> None:
        ours, theirs = socket.socketpair()
        isolated = level != "open"
        self.output_bytes = output if isolated and script == _ZYGOTE else max(output, 64 << 20)
        settings = {
            "level": level,
            "memory": memory,
            "output": self.output_bytes,
            "preload": "" if kind == "slim" else WARM_MODULES,
        }
        if packages and script == _ZYGOTE:
            settings["packages"] = packages
        try:
            self.process = subprocess.Popen(
                [interpreter(), "-s", "-S", "-B", script, *(f"{k}={v}" for k, v in settings.items())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=CLEAN_ENVIRONMENT if isolated else None,
                close_fds=isolated,
                cwd="/",
                start_new_session=True,  # Ctrl-C belongs to the grader's process alone
            )
        finally:
            theirs.close()
        self.kind = kind
        self.sock = ours
        self.pending: deque[object] = deque()  # what was sent, in the order in which the answers come
        self.last_news = time.monotonic()
        self._outbox: deque[tuple[memoryview, list[int]]] = deque()
        self._inbox = bytearray()
        self.standing = self._greet(level)
        ours.setblocking(False)

    def _greet(self, level: str) -> str:
        self.sock.settimeout(_START_S)
        line = b""
        try:
            while not line.endswith(b"\n"):
                more = self.sock.recv(1)
                if not more:
                    break
                line += more
        except TimeoutError:
            line = b"no it did not start in time"
        if not line.startswith(b"ok "):
            self.kill()
            reason = line[3:].decode(errors="replace").strip() or "its process ended at once"
            raise IsolationError(
                f"isolation level {level} is not available here: {reason}; `sr sandbox check` says what to do"
            )
        return line[3:].decode().strip()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(
        self,
        jobs: Sequence[tuple[object, bytes]],
        *,
        kind: int,
        limits: Limits,
        descriptor: int | None = None,
    ) -> None:
        """Queue a group of requests ``(job, body)``, which the zygote forks children for in one go and runs in turn;
        each job comes back with its answer. A descriptor (of a group of one) is duplicated at once."""
        if not self.pending:
            self.last_news = time.monotonic()
        self.pending.extend(job for job, _ in jobs)
        bodies = b"".join([body for _, body in jobs])
        head = _HEADER.pack(_MAGIC, kind, len(jobs), limits.cpu_s, limits.idle_s)
        head += array("Q", [len(body) for _, body in jobs]).tobytes()
        if descriptor is None:
            self._outbox.append((memoryview(head + bodies), []))
        else:  # it goes with the bytes that the child takes, not with the zygote's
            self._outbox += [(memoryview(head), []), (memoryview(bodies), [os.dup(descriptor)])]
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes now. Raises WorkerDied."""
        try:
            while self._outbox:
                view, descriptors = self._outbox[0]
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
                count = self.sock.sendmsg([view], ancillary)
                for descriptor in descriptors:
                    os.close(descriptor)
                if count == len(view):
                    self._outbox.popleft()
                else:
                    self._outbox[0] = (view[count:], [])
        except BlockingIOError:
            return
        except OSError as error:
            raise WorkerDied(str(error)) from None

    @property
    def wants_to_send(self) -> bool:
        return bool(self._outbox)

    def receive(self) -> Iterator[tuple[object, Answer]]:
        """The jobs that have been answered, in the order of sending. Raises WorkerDied."""
        try:
            more = self.sock.recv(1 << 16)  # more would be a mapping of its own each time
        except BlockingIOError:
            return
        except OSError as error:
            raise WorkerDied(str(error)) from None
        if not more:
            raise WorkerDied("its process ended")
        self._inbox += more
        self.last_news = time.monotonic()
        while len(self._inbox) >= _REPORT.size:
            ended, code, seconds, data_size, text_size = _REPORT.unpack_from(self._inbox)
            end = _REPORT.size + data_size + text_size
            if ended >= len(ENDINGS) or max(data_size, text_size) > self.output_bytes or not self.pending:
                raise WorkerDied("it does not keep to the protocol")
            if len(self._inbox) < end:
                break
            with memoryview(self._inbox) as view:
                data = bytes(view[_REPORT.size : _REPORT.size + data_size])
                text = bytes(view[_REPORT.size + data_size : end])
            del self._inbox[:end]
            answer = Answer(ended=ENDINGS[ended], code=code, seconds=seconds, data=data, text=text)
            yield self.pending.popleft(), answer

    def kill(self) -> None:
        """End the zygote and everything in it, and reap it."""
        for _, descriptors in self._outbox:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outbox.clear()
        self.sock.close()
        self.process.terminate()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# nothing of the trainer's environment goes in; equal hashes in every worker make equal programs behave equally
CLEAN_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "LD_BIND_NOW": "1",  # else every child binds the same functions again, on pages that it has to copy
    "PYTHONUTF8": "1",
    "OPENBLAS_NUM_THREADS": "1",  # numpy would start threads before the fork
}


def interpreter() -> str:
    """The real path of the interpreter that runs programs: this one's, outside any virtual environment."""
    found = getattr(sys, "_base_executable", None) or sys.executable
    if not found:
        raise IsolationError("the sandbox needs the path of the Python interpreter, got none; run under python")
    return os.path.realpath(found)
