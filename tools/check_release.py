"""Check that a release could be made: python tools/check_release.py [MEMBER …] [--python 3.10,3.12] [--full]

Builds wheels and source archives of all members into a temporary folder, checks what they hold, and installs each
member into an empty environment of every Python from 3.10 to 3.14 that uv finds or can get. There, outside of the
repository, it is imported and the tests of its source archive run: those of the package and its rooms, or all with
``--full``. The version is the root's; ``--set X.Y.Z`` writes a new one wherever it stands. Exit code 1 where something
is wrong; a Python that cannot be had is named and is no failure.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
MEMBERS = ("sr-reward", "sr-monitor", "sr-care", "sr-core", "sr-cli")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SMALL = ("test_package.py", "test_rooms.py")  # tests that need no more than the package
VERSION = re.compile(r'^(version(?: =|:) "?)([0-9][^"\s]*)("?)$', re.MULTILINE)
PINNED = re.compile(r'("sr-(?:core|reward|monitor|care)(?:\[\w+\])?==)([^"]+)(")')


def versioned() -> list[Path]:
    """The files that state the version, the root's first."""
    members = [ROOT / "packages" / member / "pyproject.toml" for member in MEMBERS]
    return [ROOT / "pyproject.toml", *members, ROOT / "CITATION.cff"]


def versions() -> dict[str, set[str]]:
    """Version -> the files that state it, pins of one member by another included."""
    found: dict[str, set[str]] = {}
    for path in versioned():
        text = path.read_text()
        for match in [VERSION.search(text), *PINNED.finditer(text)]:
            if match is not None:
                found.setdefault(match[2], set()).add(str(path.relative_to(ROOT)))
    return found


def set_version(version: str) -> None:
    for path in versioned():
        text = VERSION.sub(rf"\g<1>{version}\g<3>", path.read_text(), count=1)
        path.write_text(PINNED.sub(rf"\g<1>{version}\g<3>", text))


def unfit(dist: Path) -> list[str]:
    """What the built archives lack."""
    found = []
    for member in MEMBERS:
        module = member.replace("-", "_")
        wheels, archives = list(dist.glob(f"{module}-*.whl")), list(dist.glob(f"{module}-*.tar.gz"))
        if len(wheels) != 1 or len(archives) != 1:
            found.append(
                f"{member}: one wheel and one source archive are needed, got {len(wheels)} and {len(archives)}"
            )
            continue
        with zipfile.ZipFile(wheels[0]) as wheel:
            names = wheel.namelist()
        inside = [f"{module}/__init__.py", f"{module}/py.typed"]
        found += [f"{wheels[0].name} lacks {name}" for name in inside if name not in names]
        if not any(name.endswith("/licenses/LICENSE") for name in names):
            found.append(f"{wheels[0].name} lacks the licence")
        with tarfile.open(archives[0]) as archive:
            stored = archive.getnames()
        if not any("/tests/test_" in name for name in stored):
            found.append(f"{archives[0].name} lacks its tests")
    return found


def interpreter(version: str) -> str | None:
    """The path of an interpreter of this version; None where there is none and none can be got."""
    done = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
    if done.returncode and not subprocess.run(["uv", "python", "install", version], capture_output=True).returncode:
        done = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.strip()


def install_and_test(member: str, python: str, dist: Path, folder: Path, full: bool) -> str | None:
    """What is wrong with a member installed alone; None where it works. sr-cli comes with the other four."""
    module = member.replace("-", "_")
    wanted = MEMBERS if member == "sr-cli" else (member,)
    wheels = [str(next(dist.glob(f"{name.replace('-', '_')}-*.whl"))) for name in wanted]
    alone = folder / "env" / "bin" / "python"
    with tarfile.open(next(dist.glob(f"{module}-*.tar.gz"))) as archive:
        archive.extractall(folder)
    source = next(folder.glob(f"{module}-*"))
    chosen = ["tests"] if full else [f"tests/{name}" for name in SMALL if (source / "tests" / name).exists()]
    tools = ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis"]
    test = [
        str(alone),
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "--rootdir=.",
        "-p",
        "no:cacheprovider",
        *chosen,
    ]
    steps: list[tuple[Sequence[str], Path]] = [
        (["uv", "venv", "-q", "--python", python, str(folder / "env")], ROOT),
        (["uv", "pip", "install", "-q", "--python", str(alone), *wheels, *tools], ROOT),
        ([str(alone), "-c", f"import {module}; print({module}.__name__)"], folder),
        *([(test, source)] if chosen else []),
        *([([str(folder / "env" / "bin" / "sr"), "--version"], folder)] if member == "sr-cli" else []),
    ]
    for command, where in steps:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", nargs="*", help=f"of {', '.join(MEMBERS)} (default: all)")
    parser.add_argument("--python", default=",".join(PYTHONS), help="versions or paths, with commas")
    parser.add_argument("--full", action="store_true", help="run all tests of each member")
    parser.add_argument("--set", dest="version", help="write this version everywhere, and stop")
    options = parser.parse_args()
    if options.version:
        set_version(options.version)
        return 0
    if len(stated := versions()) > 1:
        print(f"one version is needed, got {stated}: run with --set")
        return 1
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        dist = Path(temporary) / "dist"
        subprocess.run(["uv", "build", "-q", "--all-packages", "--out-dir", str(dist)], cwd=ROOT, check=True)
        failures = unfit(dist)
        failed += len(failures)
        print("\n".join(failures) or f"{len(MEMBERS)} wheels and source archives of version {next(iter(stated))}")
        for version in options.python.split(","):
            python = version if "/" in version else interpreter(version)
            if python is None:
                print(f"Python {version}: not on this machine, and uv cannot get it")
                continue
            for member in options.members or MEMBERS:
                with tempfile.TemporaryDirectory() as folder:
                    wrong = install_and_test(member, python, dist, Path(folder), options.full)
                failed += wrong is not None
                print(
                    f"Python {version}, {member} alone: {'FAILED ' + wrong if wrong else 'installs, imports, passes'}",
                    flush=True,
                )
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
