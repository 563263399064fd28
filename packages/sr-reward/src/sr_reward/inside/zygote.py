"""The pre-warmed interpreter: reads headers from the grader, forks one child per program, reports how it ended.

It never reads a request's body (the child does), keeps nothing of what programs return (one buffer, wiped), and
knows no expected value. One process, no threads, no imports after the start.
"""

from __future__ import annotations

import gc
import marshal
import mmap
import os
import select
import struct
import sys
import time
from _socket import socket  # the module around it would double what every fork copies

# run as a script: make the package's own folder importable without running its __init__ and what that pulls in
_package = type(sys)("sr_reward")
_package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
sys.modules.setdefault("sr_reward", _package)

from sr_reward.inside import judge, program, walls  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

# magic, kind, length of the body, CPU seconds, idle seconds, bytes of address space
HEADER = struct.Struct("<4sIQddQ")
# how it ended, exit status or signal, CPU seconds, bytes of data, bytes of standard output
REPORT = struct.Struct("<IidQQ")
MAGIC = b"srj1"
CALLS, STDIO, SERVE, JUDGE, CHECK = range(5)
EXITED, SIGNALLED, CPU, IDLE, OUTPUT, NOT_RUN = range(6)

SHORT_MS = 5  # how long nothing but the end of a program wakes the zygote
WINDOW_S = 0.25  # how often a running program is looked at
FAIR_SHARE = 1 / 50  # of the CPU: a program that gets less was waiting for something else than its turn
CHUNK = 1 << 16
SIGKILL = 9
SOCKET = 60  # where the grader's socket lies: out of the way of the descriptors that a child arranges


class Stopped(Exception):
    """The grader has gone or speaks another language: the zygote ends."""


class Pipe:
    """What a child writes, kept in memory that is wiped after every program: what one program returned must not
    lie in the memory of the next."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.memory = mmap.mmap(-1, capacity + CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self.memory)
        self.used = 0
        self.reader = self.writer = -1

    def open(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> int:
        """Move what lies in the pipe; 0 at its end or when nothing lies there."""
        try:
            count = os.readv(self.reader, [self.view[self.used : self.used + CHUNK]])
        except BlockingIOError:
            return 0
        self.used += count
        return count

    @property
    def over(self) -> bool:
        return self.used > self.capacity

    def close(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = self.writer = -1
        if self.used > CHUNK:
            self.memory.madvise(mmap.MADV_DONTNEED)  # drops the pages: they read as zeros again
        else:
            self.memory[: self.used] = bytes(self.used)
        self.used = 0


class Zygote:
    """Serves one grader over ``sock`` behind walls that already stand. ``output`` bounds what is read, in bytes."""

    def __init__(self, sock: socket, standing: walls.Standing, output: int) -> None:
        self.sock = sock
        self.standing = standing
        self.started = mmap.mmap(-1, mmap.PAGESIZE)  # shared with the child: "the body has been read"
        self.data, self.text = Pipe(output), Pipe(output)

    def serve(self) -> None:
        """Run requests until the grader closes its end."""
        while True:
            message, control, _, _ = self.sock.recvmsg(HEADER.size, 256)
            while 0 < len(message) < HEADER.size:
                more = self.sock.recv(HEADER.size - len(message))
                if not more:
                    raise Stopped
                message += more
            if not message:
                raise Stopped
            magic, kind, size, cpu_s, idle_s, memory = HEADER.unpack(message)
            if magic != MAGIC:
                raise Stopped
            passed = [fd for _, _, data in control for (fd,) in struct.iter_unpack("i", data)]
            self.run(kind, size, cpu_s, idle_s, memory, passed)

    def run(self, kind: int, size: int, cpu_s: float, idle_s: float, memory: int, passed: list[int]) -> None:
        """One program: fork, watch, report, wipe."""
        self.started[0] = 0
        pipes = [self.data, self.text] if kind == STDIO else [self.data]
        for pipe in pipes:
            pipe.open()
        pid = os.fork()
        if pid == 0:
            self.child(kind, size, cpu_s, memory, passed)
        for descriptor in (*(pipe.writer for pipe in pipes), *passed):
            os.close(descriptor)
        ended, code, seconds = self.watch(pid, pipes, cpu_s, idle_s)
        if not self.started[0]:
            ended = NOT_RUN
        parts = [pipe.view[: min(pipe.used, pipe.capacity)] for pipe in (self.data, self.text)]
        head = REPORT.pack(ended, code, seconds, len(parts[0]), len(parts[1]))
        sent = self.sock.sendmsg([head, *parts])
        for part in (memoryview(head), *parts):  # the rest of a report that did not fit at once
            if sent < len(part):
                self.sock.sendall(part[sent:])
            sent = max(0, sent - len(part))
        for pipe in pipes:
            pipe.close()
        self.standing.wipe()
        if ended == NOT_RUN:
            raise Stopped  # part of the body may still lie in the socket

    def child(self, kind: int, size: int, cpu_s: float, memory: int, passed: list[int]) -> NoReturn:
        """The forked child: take the body, cut every tie, put up the last walls, run the program."""
        try:
            body = bytearray(size)
            view = memoryview(body)
            while view:
                count = self.sock.recv_into(view)
                if not count:
                    os._exit(1)
                view = view[count:]
            self.started[0] = 1
            self.started.close()
            request = marshal.loads(body)
            # the program keeps 0, 1, 2, its channel as 3 and, where it serves a judge, the line to it as 4
            if kind == STDIO:
                os.dup2(self.text.writer, 1)
            line = os.dup(passed[0]) if passed else -1  # above 4
            os.dup2(os.dup(self.data.writer), 3)
            if line >= 0:
                os.dup2(line, 4)
            if self.standing.level != "open":
                os.closerange(5 if line >= 0 else 4, 256)
            if kind == STDIO:
                program.take_stdin(request[1])
                request = request[:1]
            self.standing.enter_child(cpu_s, memory)
            gc.enable()
            run = (program.run_calls, program.run_stdio, judge.serve_program, judge.run_judge, judge.run_check)
            run[kind](3, *request)
        finally:
            os._exit(0)

    def watch(self, pid: int, pipes: list[Pipe], cpu_s: float, idle_s: float) -> tuple[int, int, float]:
        """Collect what the child writes until it ends or breaks a limit. Returns how it ended, its exit status or
        signal, and its CPU seconds. CPU time decides; wall time counts only while the program makes no progress."""
        poller = select.poll()
        handle = os.pidfd_open(pid)
        readers = {pipe.reader: pipe for pipe in pipes}
        poller.register(handle, select.POLLIN)
        if poller.poll(SHORT_MS):  # most programs end within it, and what they wrote lies in the pipes
            return self.reap(pid, handle, pipes, cpu_s, EXITED)
        for descriptor in readers:
            poller.register(descriptor, select.POLLIN)
        clock = (~pid << 3) | 2  # the kernel's number for the CPU clock of another process
        used = idle = 0.0
        verdict = EXITED
        looked = time.monotonic()
        running = True
        while running:
            wait_s = min(WINDOW_S, max(cpu_s - used, 0.002))
            for descriptor, _ in poller.poll(wait_s * 1000):
                if descriptor == handle:
                    running = False
                elif not readers[descriptor].read():
                    poller.unregister(descriptor)
                elif readers[descriptor].over:
                    verdict = OUTPUT
            now = time.monotonic()
            if running and now - looked >= wait_s:
                before, used = used, _cpu_seconds(clock, used)
                window = min(now - looked, WINDOW_S)  # a stopped machine is not an idle program
                idle += max(0.0, window - (used - before) / FAIR_SHARE)
                looked = now
                if used >= cpu_s:
                    verdict = CPU
                elif idle >= idle_s:
                    verdict = IDLE
            if verdict != EXITED:
                os.kill(pid, SIGKILL)
                running = False
        return self.reap(pid, handle, pipes, cpu_s, verdict)

    def reap(self, pid: int, handle: int, pipes: list[Pipe], cpu_s: float, verdict: int) -> tuple[int, int, float]:
        """What is left of a child that has ended or is about to: its status, its times, the rest of its output."""
        _, status, usage = os.wait4(pid, 0)
        os.close(handle)
        if verdict == EXITED:
            for pipe in pipes:
                os.set_blocking(pipe.reader, False)
                while not pipe.over and pipe.read():
                    pass
                if pipe.over:
                    verdict = OUTPUT
        seconds = usage.ru_utime + usage.ru_stime
        if verdict == EXITED and seconds >= cpu_s:
            verdict = CPU
        if os.WIFSIGNALED(status):
            return (SIGNALLED if verdict == EXITED else verdict), os.WTERMSIG(status), seconds
        return verdict, os.WEXITSTATUS(status), seconds


def _cpu_seconds(clock: int, last: float) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:  # it ended in between
        return last


def _warm_up() -> None:
    """Run a program of ours before the first fork, so that what the interpreter makes on first use is shared."""
    inputs = marshal.dumps([((number,), {}) for number in range(9)])
    quiet = os.open(os.devnull, os.O_WRONLY)
    for _ in range(20):
        program.run_calls(quiet, "def f(x):\n    return [x]\n", "f", inputs)
    os.close(quiet)
    sys.modules.pop("program", None)


def main() -> None:
    """Put up the walls that the first argument names, say hello, serve."""
    sock = socket(fileno=os.dup2(0, SOCKET, inheritable=False))
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.close(quiet)
    settings: dict[str, Any] = dict(pair.split("=", 1) for pair in sys.argv[1:])
    for name in settings.pop("preload", "").split(","):
        if name:
            __import__(name)
    sys.argv[:] = ["program"]
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    try:
        output = int(settings.pop("output"))
        standing = walls.raise_walls(**settings)
    except (OSError, walls.WallError) as error:
        sock.sendall(f"no {error}\n".encode())
        return
    _warm_up()
    gc.collect()
    gc.freeze()
    gc.disable()
    sock.sendall(f"ok {standing.describe()}\n".encode())
    try:
        Zygote(sock, standing, output).serve()
    except (Stopped, OSError):  # the grader has gone, or a program left what cannot be cleared away
        return


if __name__ == "__main__":
    main()
