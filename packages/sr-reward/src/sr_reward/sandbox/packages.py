"""Packages beside the standard library that programs and tests may import."""

from __future__ import annotations

import os
import sys

from sr_reward.errors import TaskError


def packages_folder(path: str) -> str:
    """The folder of installed packages in ``path``: a virtual environment's directory, or that folder itself.

    It must be made for the Python that runs programs. Raises TaskError.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = os.path.realpath(path)
    within = os.path.join(folder, "lib", version, "site-packages")
    if os.path.isdir(within):
        return within
    if os.path.basename(folder) in ("site-packages", "dist-packages") and os.path.isdir(folder):
        return folder
    library = os.path.join(folder, "lib")
    others = sorted(name for name in os.listdir(library) if name.startswith("python")) if os.path.isdir(library) else []
    found = f"packages for {', '.join(others)}" if others else "none"
    raise TaskError(
        f"packages must be a virtual environment's directory with packages for {version}, got {path!r} with {found}; "
        f"make one with {version}"
    )
