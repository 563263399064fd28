"""Which isolation this machine offers, and what to do where a part is missing."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from sr_reward.errors import IsolationError
from sr_reward.sandbox.sandbox import LEVELS
from sr_reward.sandbox.worker import CLEAN_ENVIRONMENT, Worker, interpreter

_PROBE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child", "probe.py")
_USER_NAMESPACES = (
    "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces>0); in a container, run it with "
    "--security-opt seccomp=unconfined or a profile that allows unshare, or use level landlock"
)
_ADVICE = {
    "limits": "raise the hard limits of this user (ulimit -H)",
    "user-namespace": _USER_NAMESPACES,
    "mount-namespace": _USER_NAMESPACES,
    "pid-namespace": _USER_NAMESPACES,
    "net-namespace": _USER_NAMESPACES,
    "ipc-namespace": _USER_NAMESPACES,
    "uts-namespace": _USER_NAMESPACES,
    "landlock": "use Linux 5.13 or later, with landlock among the kernel's lsm= list",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
    "no-new-privileges": "use Linux 3.5 or later",
}
_LEVEL_ADVICE = {
    "full": "every namespace above, seccomp and the right to mount inside a user namespace are needed",
    "landlock": "Landlock and seccomp above are needed",
    "limits": "the interpreter itself could not be started; see the reason",
}
_UNSAFE = "keeps no verdict safe: a program can reach the judge and the expected values"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One part of the isolation: its name, whether it is available here, what was found, what to do if it is not."""

    name: str
    available: bool
    found: str
    advice: str


def check_isolation() -> list[Feature]:
    """Try each part by itself, then each level as a whole, in processes of their own."""
    done = subprocess.run(
        [interpreter(), "-s", "-S", "-B", _PROBE],
        capture_output=True,
        text=True,
        env=CLEAN_ENVIRONMENT,
        timeout=60,
        check=False,
    )
    features = []
    for line in done.stdout.splitlines():
        name, verdict, found = (*line.split(" ", 2), "")[:3]
        features.append(Feature(name=name, available=verdict == "ok", found=found, advice=_ADVICE.get(name, "")))
    return features + [_try_level(level) for level in LEVELS]


def strongest_level() -> str:
    """The level that ``isolation="auto"`` would take here. Raises IsolationError if none is available."""
    tried = [_try_level(level) for level in LEVELS]
    for level, feature in zip(LEVELS, tried, strict=True):
        if feature.available:
            return level
    raise IsolationError(tried[-1].found)


def isolation_here() -> Feature:
    """The strongest level as one feature, available where it keeps verdicts safe; named "none" where none starts."""
    tried = [_try_level(level) for level in LEVELS]
    usable = [(level, feature) for level, feature in zip(LEVELS, tried, strict=True) if feature.available]
    level, feature = usable[0] if usable else ("none", tried[-1])
    safe = level in ("full", "landlock")
    advice = "" if safe else "training refuses to grade here by default; `sr sandbox check` says what is missing"
    return Feature(name=level, available=safe, found=f"level {level}: {feature.found}", advice=advice)


def _try_level(level: str) -> Feature:
    try:
        worker = Worker(level=level, kind="slim")
    except IsolationError as error:
        return Feature(name=f"level {level}", available=False, found=str(error), advice=_LEVEL_ADVICE[level])
    worker.kill()
    found = f"{worker.standing}; {_UNSAFE}" if level == "limits" else worker.standing
    return Feature(name=f"level {level}", available=True, found=found, advice="")
