"""The isolation of programs: put up once per zygote, with a last layer per program.

``full``: user, mount, pid, net, ipc and uts namespaces; a root that holds the interpreter's library read-only, a
small private ``/tmp`` and three devices; nobody's user id without a capability; Landlock on top where the kernel
has it; seccomp; no new privileges; limits. ``landlock``: the same without namespaces, and with nothing writable.
``limits``: limits alone, and a scrubbed environment. ``open``: nothing, for the positive controls of the attacks.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import resource
import sys

if sys.platform == "linux":
    from sr_reward.sandbox.child import kernel, landlock, seccomp

LEVELS = ("full", "landlock", "limits")
NOBODY = 65534
TMP_BYTES, TMP_MODE = 32 << 20, 0o1777
FILE_BYTES = 64 << 20
SPARE_BYTES = 1 << 30  # address space beside the memory: stacks of threads are reserved, not used
OPEN_FILES = 64
PENDING_SIGNALS = 16  # queued ones are counted per user of the host
PROCESSES = 128
PACKAGES = "/packages"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_LOCALES = ("/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8")  # of LANG, for ``setlocale(LC_ALL, "")``
_SIGKILL = 9


class NotIsolated(Exception):
    """A part of the isolation that was asked for is not available here."""


class Isolation:
    """The isolation of this zygote. ``rehearsal`` is the level at which all is done that a child does for its last
    layer, but nothing put up."""

    def __init__(self, level: str, parts: list[str]) -> None:
        self.level, self.parts = level, parts
        self.ties = level in ("landlock", "limits") and sys.platform == "linux"  # in a pid namespace all end together
        self.filter = None
        if level in ("full", "landlock", "rehearsal") and sys.platform == "linux":
            self.filter = seccomp.Filter(seccomp.program_filter(seccomp.ANY_PID), put_up=level != "rehearsal")

    def describe(self) -> str:
        """The level and the names of its parts, for a report."""
        return " ".join([self.level, *self.parts])

    def tie(self, zygote: int) -> None:
        """In a forked child, first of all, where ``ties`` says so: let it end with the zygote."""
        kernel.prctl(kernel.PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() != zygote:  # it has ended in between
            os._exit(1)

    def confine(self, cpu_s: float) -> None:
        """The last layer, in the forked child just before the program: no new processes, signals to nobody else."""
        if self.filter:
            self.filter.install()
        elif self.level == "limits":  # for a lost zygote, which stops it earlier; elsewhere all die with the zygote
            seconds = int(cpu_s) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    def wipe(self) -> None:
        """Empty the private ``/tmp``. Raises OSError, which ends the zygote, if that fails."""
        if self.level != "full":
            return
        found = os.stat("/tmp")
        if found.st_mode & 0o7777 != TMP_MODE:  # it may be the program's own, to lock or to open
            os.chmod("/tmp", TMP_MODE)
        if os.listdir("/tmp"):
            _empty("/tmp")
        if found.st_uid == NOBODY:  # the program's own it is where an ordinary user runs the sandbox
            os.utime("/tmp", (0, 0))


def _empty(top: str) -> None:
    """Remove everything in a folder, without following links and without recursion or long paths, so that neither
    depth nor missing rights protect what a program left."""
    os.chdir(top)
    depth = 0
    while True:
        deeper = ""
        for entry in os.scandir("."):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name)
            elif not _remove_folder(entry.name):
                deeper = entry.name
                break
        if deeper:
            os.chmod(deeper, 0o700)
            os.chdir(deeper)
            depth += 1
        elif depth:
            os.chdir("..")
            depth -= 1
        else:
            return


def _remove_folder(name: str) -> bool:
    try:
        os.rmdir(name)
    except OSError:  # it is not empty
        return False
    return True


def isolate(level: str, memory: int, *, output: int = 0, packages: str = "") -> Isolation:
    """Isolate this process at a level; from then on it is the zygote. ``memory`` bounds the address space of each
    process, in bytes; ``output`` is what a program may write, for which its files have room; ``packages`` is one more
    folder to read, which lies at ``PACKAGES`` in a root of our own. Raises OSError or NotIsolated where that is not
    possible."""
    if level == "open":
        return Isolation(level, [])
    if level == "limits":
        _limit(memory, output)
        return Isolation(level, ["limits"])
    if sys.platform != "linux":
        raise NotIsolated(f"this level does not exist on {sys.platform}; ask for isolation='limits'")
    if not seccomp.supported():
        raise NotIsolated(f"no table of system calls for {kernel.MACHINE}; ask for isolation='limits'")
    version = landlock.abi()
    readable = interpreter_files(packages)
    kernel.join_mappings()
    if level == "landlock":
        if version < 1:
            raise NotIsolated("this kernel has no Landlock (it needs Linux 5.13 and lsm=landlock)")
        readable += [packages] if packages else []
        parts, writable = [], ["/dev/null"]
    else:
        _enter_namespaces(readable, packages)
        readable += [PACKAGES] if packages else []
        parts, writable = ["namespaces"], ["/tmp", *DEVICES]
        os.chdir("/tmp")
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if level == "full":
        kernel.prctl(kernel.PR_SET_PDEATHSIG, _SIGKILL)  # cleared by every change of credentials: so it comes last
    _limit(memory, output)
    if version:
        landlock.restrict(readable, writable)
        parts.append(f"landlock-{version}")
    seccomp.install(seccomp.zygote_filter(writable=level == "full"))
    return Isolation(level, [*parts, "seccomp", "no-new-privileges", "limits"])


def _limit(memory: int, output: int) -> None:
    largest = max(FILE_BYTES, output + (1 << 20))
    bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: OPEN_FILES, resource.RLIMIT_FSIZE: largest}
    if sys.platform == "linux":  # elsewhere the limit exists but is not kept
        bounds |= {resource.RLIMIT_AS: memory, resource.RLIMIT_SIGPENDING: PENDING_SIGNALS}
        bounds |= {resource.RLIMIT_MSGQUEUE: 0, resource.RLIMIT_MEMLOCK: 0}  # both are counted per user of the host
    for what, bound in bounds.items():
        _, most = resource.getrlimit(what)
        bound = bound if most == resource.RLIM_INFINITY else min(bound, most)
        resource.setrlimit(what, (bound, bound))


def interpreter_files(packages: str = "") -> list[str]:
    """What a program may read beside its packages: the standard library, the folders of the C libraries that this
    process has loaded from outside it, the zone data."""
    found = [os.path.realpath(path) for path in sys.path if os.path.isabs(path) and os.path.exists(path)]
    inside = os.path.dirname(os.path.realpath(__file__))
    found = [path for path in found if not path.startswith(inside) and path != packages]
    with open("/proc/self/maps") as maps:
        mapped = {line.split(None, 5)[5].strip() for line in maps if line.count("/") and ".so" in line}
    prefix = os.path.realpath(sys.base_prefix)
    system = {os.path.dirname(path) for path in mapped if not path.startswith(prefix) or prefix == "/usr"}
    found += sorted(folder for folder in system if folder.startswith(("/lib", "/usr/lib")))
    found += [path for path in ("/etc/ld.so.cache", "/usr/share/zoneinfo", *_LOCALES) if os.path.exists(path)]
    kept: list[str] = []
    for path in dict.fromkeys(found):
        if not any(path == other or path.startswith(other + "/") for other in kept):
            kept.append(path)
    return kept


def _enter_namespaces(readable: list[str], packages: str) -> None:
    """Continue as process 1 of new namespaces, as nobody, with a root of our own. The calling process stays
    outside, waits for the new one and ends with it."""
    privileged = os.geteuid() == 0
    if privileged:
        os.setgroups([])
    unshared_r, unshared_w = os.pipe()
    mapped_r, mapped_w = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:  # the maps of a namespace with two ids can only be written from outside it
        _write_maps(target, unshared_r, privileged, mapped_w)
    flags = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID
    try:
        kernel.unshare(flags | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
        os.write(unshared_w, b"1")
    finally:
        os.close(unshared_w)
    os.close(mapped_w)
    reply = os.read(mapped_r, 200)
    os.waitpid(helper, 0)
    for descriptor in (unshared_r, mapped_r):
        os.close(descriptor)
    if reply != b"mapped":
        raise NotIsolated(f"the id maps were refused ({reply.decode(errors='replace') or 'no reason given'})")
    kernel.set_host_name("sandbox")
    _build_root(readable, packages)
    first = os.fork()
    if first:
        # asked to end, end the other first and reap it: nobody else would where the grader is a container's process 1
        _signal.signal(_signal.SIGTERM, lambda *_: os.kill(first, _SIGKILL))
        os.closerange(3, 256)
        os.waitpid(first, 0)
        os._exit(0)
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))  # counted per user namespace


def _write_maps(target: int, unshared: int, privileged: bool, report: int) -> None:
    try:
        if os.read(unshared, 1) == b"1":
            uid, gid = os.geteuid(), os.getegid()
            for name, line in (
                ("setgroups", "deny"),
                ("uid_map", f"0 0 1\n{NOBODY} {NOBODY} 1" if privileged else f"{NOBODY} {uid} 1"),
                ("gid_map", f"0 0 1\n{NOBODY} {NOBODY} 1" if privileged else f"{NOBODY} {gid} 1"),
            ):
                with open(f"/proc/{target}/{name}", "w") as file:
                    file.write(line)
            os.write(report, b"mapped")
    except OSError as error:
        os.write(report, str(error).encode()[:200])
    finally:
        os._exit(0)


def _build_root(readable: list[str], packages: str) -> None:
    """A read-only root of the readable trees, an empty ``/tmp`` and the devices; nothing of the old root remains."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    places = {path: path for path in (*readable, *DEVICES)} | ({packages: PACKAGES} if packages else {})
    folders = {path for path in places if os.path.isdir(path)}
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in places}
    root = "/tmp" if os.path.isdir("/tmp") else "/mnt"
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", root, "tmpfs", quiet, "size=256k,mode=755")
    for path, source in sources.items():
        target = root + places[path]
        if path in folders:
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        kernel.mount(f"/proc/self/fd/{source}", target, "", kernel.MS_BIND)
        if path not in DEVICES:
            _make_read_only(target)
        os.close(source)
    os.makedirs(root + "/tmp", exist_ok=True)
    kernel.mount("tmpfs", root + "/tmp", "tmpfs", quiet, f"size={TMP_BYTES},nr_inodes=1024,mode={TMP_MODE:o}")
    for link in ("/lib", "/lib64"):
        if os.path.islink(link) and not os.path.lexists(root + link):
            os.symlink(os.readlink(link), root + link)
    for path in readable:  # packages installed beside the standard library are not part of the interpreter
        for extra in ("site-packages", "dist-packages"):
            if os.path.isdir(f"{root}{path}/{extra}"):
                kernel.mount("tmpfs", f"{root}{path}/{extra}", "tmpfs", quiet | kernel.MS_RDONLY, "size=4k")
    kernel.mount("none", root, "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)
    kernel.enter_root(root)


def _make_read_only(target: str) -> None:
    # the flags that the mount has already (noexec, relatime, ...) are locked here and must be repeated
    flags = os.statvfs(target).f_flag & (2 | 4 | 8 | 1024 | 2048 | 4096)
    mapped = {2: 2, 4: 4, 8: 8, 1024: 1 << 10, 2048: 1 << 11, 4096: 1 << 21}
    kept = sum(mapped[bit] for bit in mapped if flags & bit)
    kernel.mount(
        "none",
        target,
        "",
        kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kept,
    )
