"""The pre-warmed interpreter: forks a child per program, lets one run at a time, reports how it ended.

What a program costs is what its fork copies: on the machines measured about 0.1 us for every page that is present,
2 us for every mapping, and 2.4 us for every page that either side writes to or that the child reads from a file. So
little is loaded here, the children of a group are forked in one go (what this process writes afterwards it copies
once per group), and the code that a child runs before its program is rehearsed before the first fork, so that it
finds its caches filled.

It never reads a request's body (the child does), keeps nothing of what programs return (one buffer, wiped), and
knows no expected value. One process, no threads, no imports after the start.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal and socket, around it, would double what a fork copies
import builtins
import gc
import marshal
import os
import struct
import sys
import time
from _socket import socket, socketpair
from gc import enable as enable_gc
from os import O_RDWR, closerange, dup2, fork, read, write
from os import open as open_file

# run as a script: make the folders importable without running their __init__ and what that pulls in
_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for _name, _path in (("sr_reward", os.path.dirname(_folder)), ("sr_reward.sandbox", _folder)):
    _package = type(sys)(_name)
    _package.__path__ = [_path]
    sys.modules.setdefault(_name, _package)

from sr_reward.sandbox.child import forked, isolation, program  # noqa: E402
from sr_reward.sandbox.child.cores import SLOW_S, Core  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# a group of programs: magic, kind, how many, CPU seconds, idle seconds of each; then the length of each body, then
# the bodies
HEADER = struct.Struct("<4sIQdd")
SIZE_BYTES = 8
# how it ended, exit status or signal, CPU seconds, bytes of data, bytes of standard output
REPORT = struct.Struct("<IidQQ")
MAGIC = b"srj2"
CALLS, STDIO, SERVE, JUDGE, CHECK = range(5)
PAIRED = (SERVE, JUDGE)  # their requests come with one end of a line
EXITED, SIGNALLED, CPU, IDLE, OUTPUT, NOT_RUN, WALL, MEMORY = range(8)

WINDOW_S = 0.25  # how often a running program is looked at
FAIR_SHARE = 1 / 50  # of the CPU: a program that gets less was waiting for something else than its turn
WALL_FACTOR, WALL_S = 5, 2.0  # no program lives longer than this many times its CPU seconds, and so many more
STALL_S = 1.0  # most that one window counts for: a stopped machine is no program's fault
CHUNK = 1 << 16
LARGE_CHUNK = 1 << 20
SIGKILL, SIGUSR1, SIGCHLD, SIG_SETMASK = 9, _signal.SIGUSR1, _signal.SIGCHLD, _signal.SIG_SETMASK
GO, HELD, NONE = {SIGUSR1}, {SIGUSR1, SIGCHLD, forked.SIGTERM}, ()
pthread_sigmask, sigwait = _signal.pthread_sigmask, _signal.sigwait
SOCKET = 60  # where the grader's socket lies: out of the way of the descriptors that a child arranges
STANDARD = (0, 1, 2)
DATA, LINE = 3, 4  # what a program keeps beside 0, 1 and 2: its file and, where it serves a judge, the line to it
RUN: list[Any] = [program.run_calls, program.run_stdio]


class Stopped(Exception):
    """The grader has gone or speaks another language: the zygote ends."""


class Zygote:
    """Serves one grader over ``sock``, isolated already. ``output`` bounds what a program may return
    and print, in bytes each; ``memory`` what it may hold at once, in bytes.

    A child waits for its turn (a signal), takes its request from the socket, says in a pipe that it has, lets go
    of everything but the file that it returns data in, and runs. Nothing that it can reach is of use afterwards:
    the files are its own and are read when it has ended, the pipe and the socket are closed before it runs.
    """

    def __init__(self, sock: socket, standing: isolation.Isolation, output: int, memory: int) -> None:
        self.sock = sock
        self.isolation = standing
        self.output = output
        self.memory_units = memory // (1 if sys.platform == "darwin" else 1024)  # as ``ru_maxrss`` counts
        self.core = Core()
        self.pid = os.getpid()
        self.first_closed = LINE if standing.level in isolation.LEVELS else 256
        self.renews = standing.level != "open"
        self.started_r, self.started_w = os.pipe()
        os.set_blocking(self.started_r, False)
        self.buffer = memoryview(bytearray(CHUNK))

    def serve(self) -> None:
        """Run requests until the grader closes its end."""
        while True:
            magic, kind, count, cpu_s, idle_s = HEADER.unpack(self.read(HEADER.size))
            if magic != MAGIC:
                raise Stopped
            sizes = memoryview(self.read(count * SIZE_BYTES)).cast("Q").tolist()
            wall_s = WALL_FACTOR * cpu_s + WALL_S
            if kind == JUDGE:  # it may wait for its program, which may wait for its turn
                wall_s += idle_s
            self.core.begin()
            children = self.fork(kind, sizes, cpu_s)
            left = [pid for pid, _ in children]
            try:
                self.core.end(self.run(children, left, (cpu_s, idle_s, wall_s)))
            finally:
                forked.end(left)

    def run(self, children: list[tuple[int, list[int]]], left: list[int], limits: tuple[float, float, float]) -> float:
        """Let children run in turn and report each; ``left`` keeps those not reaped yet. Returns their CPU seconds.

        Raises Stopped if one has not taken its request: part of it may still lie in the socket."""
        used = 0.0
        os.kill(left[0], SIGUSR1)
        for pid, files in children:
            ended, code, seconds = self.watch(pid, files, limits)
            del left[0]
            used += seconds
            try:
                os.read(self.started_r, 1)
            except BlockingIOError:
                ended = NOT_RUN
            self.isolation.wipe()
            if left and ended != NOT_RUN:
                os.kill(left[0], SIGUSR1)  # it runs while we report
            self.report(ended, code, seconds, files)
            if ended == NOT_RUN:
                raise Stopped
        return used

    def read(self, count: int) -> bytes:
        """So many bytes from the grader. Raises Stopped when it has gone."""
        parts = []
        while count > 0:
            more = os.read(SOCKET, min(count, LARGE_CHUNK))
            if not more:
                raise Stopped
            parts.append(more)
            count -= len(more)
        return b"".join(parts)

    def fork(self, kind: int, sizes: Sequence[int], cpu_s: float) -> list[tuple[int, list[int]]]:
        """A child per size of a body, none of which has begun: their numbers and the files they return data in."""
        files = [[forked.file(), forked.file()] if kind == STDIO else [forked.file()] for _ in sizes]
        pids: list[int] = []
        for _ in sizes:  # whatever is done in this loop is copied for every child
            pid = fork()
            if pid == 0:
                try:
                    self.perform(kind, sizes[len(pids)], cpu_s, files[len(pids)])
                finally:
                    os._exit(0)
            pids.append(pid)
        return list(zip(pids, files, strict=True))

    def perform(self, kind: int, size: int, cpu_s: float, files: list[int]) -> None:
        """In the forked child: wait for the turn, take the body, cut every tie, isolate further, run."""
        if self.isolation.ties:
            self.isolation.tie(self.pid)
        sigwait(GO)
        line = -1
        if kind in PAIRED:
            body, control, _, _ = self.sock.recvmsg(size, 64)
            ((line,),) = [struct.unpack("i", data) for _, _, data in control]
        else:
            body = read(SOCKET, size)
        if len(body) < size:
            body += self.read(size - len(body))
        write(self.started_w, b"1")
        request = marshal.loads(body)
        dup2(files[0], DATA)
        if self.renews:  # an open file of its own: what is set on it ends with the program
            null = open_file("/dev/null", O_RDWR)
            for descriptor in STANDARD:
                dup2(null, descriptor)
        if kind == STDIO:
            dup2(files[1], 1)
            program.take_stdin(request[1])
            request = request[:1]
        if line >= 0:
            dup2(line, LINE)
        closerange(self.first_closed + (line >= 0), 256)
        pthread_sigmask(SIG_SETMASK, NONE)
        self.isolation.confine(cpu_s)
        enable_gc()
        RUN[kind](DATA, *request)

    def watch(self, pid: int, files: list[int], limits: tuple[float, float, float]) -> tuple[int, int, float]:
        """Wait until a child ends or breaks a limit: on its CPU time, on the time in which it makes no progress, on
        its whole life, in seconds. Returns how it ended, its exit status or signal, and its CPU seconds."""
        cpu_s, idle_s, wall_s = limits
        clock = (~pid << 3) | 2  # the kernel's number for the CPU clock of another process
        used = idle = lived = 0.0
        verdict = EXITED
        began = looked = time.monotonic()
        while True:
            wait_s = min(WINDOW_S if looked > began else SLOW_S, max(cpu_s - used, 0.002))
            if forked.pause(wait_s) == forked.SIGTERM:
                raise Stopped
            ended, status, usage = os.wait4(pid, os.WNOHANG if verdict == EXITED else 0)
            if ended:
                break
            now = time.monotonic()
            if now - looked < wait_s:  # the signal was of a child before
                continue
            if looked == began:
                self.core.let_go(pid)
            before, used = used, forked.cpu_seconds(clock, used)
            lived += min(now - looked, STALL_S)
            idle += max(0.0, min(now - looked, WINDOW_S) - (used - before) / FAIR_SHARE)
            looked = now
            if used >= cpu_s:
                verdict = CPU
            elif idle >= idle_s:
                verdict = IDLE
            elif lived >= wall_s:
                verdict = WALL
            elif self.too_much(files):
                verdict = OUTPUT
            if verdict != EXITED:
                os.kill(pid, SIGKILL)
        seconds = usage.ru_utime + usage.ru_stime
        if verdict == EXITED and self.too_much(files):
            verdict = OUTPUT
        if verdict == EXITED and seconds >= cpu_s:
            verdict = CPU
        if verdict == EXITED and usage.ru_maxrss > self.memory_units:
            verdict = MEMORY
        if os.WIFSIGNALED(status):
            return (SIGNALLED if verdict == EXITED else verdict), os.WTERMSIG(status), seconds
        return verdict, os.WEXITSTATUS(status), seconds

    def too_much(self, files: list[int]) -> bool:
        """Whether a program has returned or printed more than is read."""
        return any(os.fstat(file).st_size > self.output for file in files)

    def report(self, ended: int, code: int, seconds: float, files: list[int]) -> None:
        """Send how a program ended and what lies in its files; close them and wipe what they held from here."""
        sizes = [min(os.lseek(file, 0, os.SEEK_END), self.output) for file in files]
        REPORT.pack_into(self.buffer, 0, ended, code, seconds, sizes[0], sum(sizes[1:]))
        used = REPORT.size
        most = used
        for file, size in zip(files, sizes, strict=True):
            at = 0
            while at < size:
                if used == CHUNK:
                    self.sock.sendall(self.buffer)
                    used = 0
                count = os.preadv(file, [self.buffer[used : used + size - at]], at)
                at += count
                used += count
                most = max(most, used)
            os.close(file)
        self.sock.sendall(self.buffer[:used])
        self.buffer[:most] = bytes(most)


def load_tests_side() -> None:
    """Load what serves tests and what runs them: a slim interpreter, which is forked most, does neither."""
    if len(RUN) == 2:
        from sr_reward.sandbox.child.judging import judge, serve, together

        RUN.extend((serve.serve_program, judge.run_judge, judge.run_check, None, together.run_together))


def _rehearse(output: int) -> None:
    """Do all that a child does, here and without isolation, with a program of ours, until the interpreter has made what
    it makes on first use and has specialised the code: all of it is then shared and need not be copied."""
    source = "def f(x):\n    return [x]\n"
    body = marshal.dumps((source, "f", marshal.dumps([((number,), {}) for number in range(9)])))
    ours, theirs = socketpair()
    kept = os.dup(SOCKET)
    os.dup2(theirs.fileno(), SOCKET)
    stage = Zygote(theirs, isolation.Isolation("rehearsal", []), output, 1 << 40)
    for _ in range(20):
        pthread_sigmask(_signal.SIG_BLOCK, HELD)
        os.kill(os.getpid(), SIGUSR1)
        ours.sendall(body)
        file = forked.file()
        stage.perform(CALLS, len(body), 1.0, [file])
        os.close(file)
        os.read(stage.started_r, 1)
    os.dup2(kept, SOCKET, inheritable=False)
    for descriptor in (stage.started_r, stage.started_w, kept):
        os.close(descriptor)
    sys.modules.pop("program", None)


def _move_packages(old: str, new: str) -> None:
    """Have the modules that were imported from one folder find their parts in another, where it now lies."""
    sys.path[:] = [new if path == old else path for path in sys.path]
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        parts = names.get("__path__")
        if type(names.get("__file__")) is str:
            names["__file__"] = names["__file__"].replace(old, new)
        if type(parts) is list:
            parts[:] = [part.replace(old, new) for part in parts]


def main() -> None:
    """Isolate this process as the arguments say, say hello, serve."""
    sock = socket(fileno=os.dup2(0, SOCKET, inheritable=False))
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, DATA, LINE):  # so that nothing made later lies where a child puts what is its own
        os.dup2(quiet, descriptor)
    settings: dict[str, Any] = dict(pair.split("=", 1) for pair in sys.argv[1:])
    packages = settings.pop("packages", "")
    if packages:
        sys.path.append(packages)
    preloaded = settings.pop("preload", "")
    for name in preloaded.split(",") if preloaded else ():
        __import__(name)
    if preloaded:
        load_tests_side()
        if packages and os.path.isdir(os.path.join(packages, "numpy")):
            __import__("numpy")  # it takes longer than most programs
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which ``site``, left out here, would have made
    sys.argv[:] = ["program"]
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    try:
        output = int(settings.pop("output"))
        memory = int(settings["memory"])
        standing = isolation.isolate(
            settings["level"], memory + isolation.SPARE_BYTES, output=output, packages=packages
        )
        if packages and standing.level == "full":
            _move_packages(packages, isolation.PACKAGES)
    except (OSError, isolation.NotIsolated) as error:
        sock.sendall(f"no {error}\n".encode())
        return
    _rehearse(output)
    os.dup2(0, DATA)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, HELD)
    gc.collect()
    gc.freeze()
    gc.disable()
    sock.sendall(f"ok {standing.describe()}\n".encode())
    try:
        Zygote(sock, standing, output, memory).serve()
    except (Stopped, OSError):  # the grader has gone, or a program left what cannot be cleared away
        return


if __name__ == "__main__":
    main()
