"""The shape of the tree in numbers: python tools/shape.py [TREE …]

For each tree (a checkout; this one by default): Python files in each room of each package, the largest file, the
longest parameter list of a public function, the configuration's fields and the lines of sr-cli. With ``--step`` also
the files of sr-cli and sr-core in which `sr run` calls a function for one step, from the command over the gradient to
the run's folder. Tests do not count.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# runs the smallest `sr run` of one step and prints the source files in which a function was called
STEP = """
import sys, threading
tree, out, settings = sys.argv[1], sys.argv[2], sys.argv[3:]
called = set()

def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_flags & 2 and code.co_filename.startswith(tree):  # 2: not a module or class body
        called.add(code.co_filename)

sys.argv = ["sr", "run", "--out", out, "--json", *settings]
from sr_cli.main import main
threading.setprofile(profile)
sys.setprofile(profile)
try:
    main()
except SystemExit as end:
    sys.setprofile(None)
    if end.code:
        raise
print(*sorted(called), sep=chr(10), file=sys.stderr)
"""
SMALL: tuple[str, ...] = (
    "campaign.steps=1",
    "sampling.prompts=2",
    "sampling.group_size=4",
    "tasks.train=4",
    "tasks.heldout=3",
)
SMALL += ("tasks.audit=3", "evaluate.samples=2", "evaluate.audit_samples=2")


def sources(tree: Path) -> dict[str, Path]:
    """Module name -> file, of all packages of the tree."""
    found = {}
    for package in sorted(tree.glob("packages/*/src/*")):
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def rooms(tree: Path) -> dict[str, int]:
    """Files of each folder below a package; the child folders of a room are rooms of their own."""
    counted: Counter[str] = Counter()
    for path in sources(tree).values():
        package = next(parent for parent in path.parents if parent.parent.name == "src")
        counted[str(path.parent.relative_to(package.parent))] += 1
    return dict(sorted(counted.items()))


def largest(tree: Path) -> tuple[int, str]:
    """Lines and name of the largest source file."""
    return max((len(path.read_text().splitlines()), name) for name, path in sources(tree).items())


def longest_parameters(tree: Path) -> tuple[int, str]:
    """The most parameters of a public function, ``self`` apart, and its name; options of a command do not count."""
    longest = (0, "")
    for name, path in sources(tree).items():
        for node, public in _functions(ast.parse(path.read_text())):
            if public:
                arguments = node.args
                given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                count = len([one for one in given if one.arg not in ("self", "cls")])
                longest = max(longest, (count, f"{name}.{node.name}"))
    return longest


def _functions(module: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            command = any("click" in ast.unparse(d) or "command" in ast.unparse(d) for d in node.decorator_list)
            yield node, not node.name.startswith("_") and not command


def fields(tree: Path) -> int:
    """Fields of the configuration's dataclasses that a file may set; sections that only hold sections do not count."""
    total = 0
    for name in ("sr_core.config", "sr_core.algorithm_config", "sr_cli.config"):
        path = sources(tree).get(name)
        for node in ast.walk(ast.parse(path.read_text())) if path else ():
            if isinstance(node, ast.ClassDef) and node.name.endswith("Config") and node.name not in _WHOLES:
                total += sum(isinstance(one, ast.AnnAssign) and not _is_class_var(one) for one in node.body)
    return total


_WHOLES = ("TrainConfig", "RunConfig")


def _is_class_var(node: ast.AnnAssign) -> bool:
    return "ClassVar" in ast.unparse(node.annotation)


def lines_of(tree: Path, package: str) -> int:
    """Lines of Python of a package."""
    return sum(len(p.read_text().splitlines()) for name, p in sources(tree).items() if name.split(".")[0] == package)


def step_files(tree: Path) -> list[str]:
    """The source files of sr-cli and sr-core in which ``sr run`` calls a function in a run of one step."""
    paths = [str(path.parent.resolve()) for path in sorted(tree.glob("packages/*/src/*")) if path.is_dir()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        settings = [part for setting in SMALL for part in ("--set", setting)]
        command = [sys.executable, "-c", STEP, str(tree.resolve()), f"{folder}/run", *settings]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ours = [str(tree.resolve() / "packages" / package) for package in ("sr-cli", "sr-core")]
    return [line for line in done.stderr.splitlines() if line.startswith(tuple(ours))]


def rows(tree: Path, step: bool) -> dict[str, str]:
    """What is shown of a tree, by what it is."""
    lines, name = largest(tree)
    count, function = longest_parameters(tree)
    return {
        "largest file": f"{lines} ({name})",
        "most parameters": f"{count} ({function})",
        "configuration fields": f"{fields(tree)}",
        "lines of sr-cli": f"{lines_of(tree, 'sr_cli'):,}",
        **({"files per step (sr-cli, sr-core)": f"{len(step_files(tree))}"} if step else {}),
        **{f"files in {room}": f"{count}" for room, count in rooms(tree).items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).parent.parent])
    parser.add_argument("--step", action="store_true", help="train one step of each tree, to count the files it takes")
    options = parser.parse_args()
    shown = [rows(tree, options.step) for tree in options.trees]
    names = list(dict.fromkeys(name for each in shown for name in each))
    for name in names:
        print(f"{name:<44}" + "  ".join(f"{each.get(name, '–'):<44}" for each in shown).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
