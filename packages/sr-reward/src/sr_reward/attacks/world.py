"""What attacks are after: a secret in a file, in the environment and in another process; ears on the loopback; a
victim that can be killed; places that can be written."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_VICTIM = (
    "import ctypes, sys, time\nkept = ctypes.create_string_buffer(b'secret99')\n"
    "print(ctypes.addressof(kept), flush=True)\ntime.sleep(600)"
)
_LEFT = [Path("/tmp") / name for name in ("sr-suite-deep", "sr-suite-cwd")]  # what controls leave behind


class World:
    """The surroundings of one run of the suite; ``values`` are what programs get as arguments."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sr-suite-"))
        secret = secrets.token_hex(12)
        secret_path = self.folder / f"secret-{secrets.token_hex(4)}"
        secret_path.write_text(secret)
        os.environ["SR_SUITE_SECRET"] = secret
        low = os.open(secret_path, os.O_RDONLY)
        self._inherited = fcntl.fcntl(low, fcntl.F_DUPFD, 50)  # inheritable, and above what a runner moves about
        os.close(low)
        self._victim: subprocess.Popen[bytes] | None = None
        self._heard = threading.Event()
        self._stop = threading.Event()
        self._sockets: list[socket.socket] = []
        self.values: dict[str, Any] = {
            "secret": secret,
            "secret_path": str(secret_path),
            "secret_name": secret_path.name,
            "folder": str(self.folder),
            "scratch_path": str(self.folder / "scratch"),
            "new_path": str(self.folder / "new"),
            "socket_path": str(self.folder / "ear"),
            "datagram_path": str(self.folder / "datagram-ear"),
            "datagram_name": f"sr-suite-{secrets.token_hex(6)}",
            "abstract_name": f"sr-suite-{secrets.token_hex(6)}",
            "host": os.uname().nodename,
            "uid": os.getuid(),
            "home": os.path.expanduser("~"),
        }
        self._listen(secret.encode())
        self.refresh()

    def refresh(self) -> None:
        """Restore what the attack before may have used up."""
        Path(self.values["scratch_path"]).write_text("scratch")
        Path(self.values["new_path"]).unlink(missing_ok=True)
        for left in _LEFT:
            if left.exists():
                shutil.rmtree(left, ignore_errors=True)
        self._heard.clear()
        if self._victim is None or self._victim.poll() is not None:
            self._victim = subprocess.Popen(
                [sys.executable, "-S", "-c", _VICTIM, self.values["secret"]],
                stdout=subprocess.PIPE,
                start_new_session=True,
                env={"SECRET": self.values["secret"]},
            )
            assert self._victim.stdout is not None
            self.values["victim"] = self._victim.pid
            self.values["victim_address"] = int(self._victim.stdout.readline())

    def shows(self, effect: str) -> bool:
        """Whether an attack had this effect."""
        new_path = Path(self.values["new_path"])
        if effect == "file_made":
            return new_path.exists()
        if effect == "file_made_later":
            until = time.monotonic() + 0.6
            while time.monotonic() < until and not new_path.exists():
                time.sleep(0.02)
            return new_path.exists()
        if effect == "heard":
            return self._heard.wait(0.15)
        assert effect == "victim_dead"
        assert self._victim is not None
        with suppress(subprocess.TimeoutExpired):
            self._victim.wait(0.15)
        return self._victim.poll() is not None

    def _listen(self, secret: bytes) -> None:
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        abstract, path = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        named, placed = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        named.bind("\0" + self.values["datagram_name"])
        placed.bind(self.values["datagram_path"])
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        abstract.bind("\0" + self.values["abstract_name"])
        path.bind(self.values["socket_path"])
        self.values["tcp_port"], self.values["udp_port"] = tcp.getsockname()[1], udp.getsockname()[1]
        for ear in (tcp, abstract, path):
            ear.listen()
        for ear in (tcp, udp, abstract, path, named, placed):
            ear.settimeout(0.1)
            self._sockets.append(ear)
            threading.Thread(target=self._hear, args=(ear, secret), daemon=True).start()

    def _hear(self, ear: socket.socket, secret: bytes) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                if ear.type == socket.SOCK_DGRAM:
                    data = ear.recv(999)
                else:
                    caller, _ = ear.accept()
                    with caller:
                        caller.settimeout(0.3)
                        data = caller.recv(999)
                if secret in data:
                    self._heard.set()

    def close(self) -> None:
        self._stop.set()
        os.environ.pop("SR_SUITE_SECRET", None)
        os.close(self._inherited)
        if self._victim is not None:
            with suppress(ProcessLookupError):
                os.kill(self._victim.pid, signal.SIGKILL)
            self._victim.wait()
            assert self._victim.stdout is not None
            self._victim.stdout.close()
        for ear in self._sockets:
            ear.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        for left in _LEFT:
            shutil.rmtree(left, ignore_errors=True)
