"""Run the tutorials: uv run --group docs python tools/run_tutorials.py [NAME …] [--check]

Each notebook of docs/tutorials runs from top to bottom in an empty folder, and its outputs are written into it; with
``--check`` nothing is written. A notebook whose packages are not installed is skipped, with the reason: `--group bench`
brings TRL, `--group models` the model weights. Exit code 1 where a cell fails, or an output names this machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"
NOISE = re.compile(r"\x1b\[[0-9;]*m")
TIMEOUT_S = 1800


def missing(notebook: Any) -> list[str]:
    """The packages that a notebook needs and that are not installed."""
    absent = []
    for name in notebook.metadata["self_regress"]["needs"]:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:  # noqa: PERF203
            absent.append(name)
    return absent


def run(notebook: Any) -> None:
    """Execute all cells in an empty folder. Raises CellExecutionError where one fails."""
    from nbconvert.preprocessors import ExecutePreprocessor

    with tempfile.TemporaryDirectory() as folder:
        ExecutePreprocessor(timeout=TIMEOUT_S, kernel_name="python3").preprocess(
            notebook, {"metadata": {"path": folder}}
        )


def tidy(notebook: Any) -> list[str]:
    """Drop stderr, colours and times of execution; what the outputs say about this machine."""
    found = []
    places = (str(Path.home()), str(TUTORIALS.parent.parent), tempfile.gettempdir(), platform.node())
    private = re.compile("|".join(rf"(?<!\w){re.escape(place)}(?!\w)" for place in places if place))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            data = output.get("data", {})
            texts = [text for kind, text in data.items() if kind.startswith("text/")]  # an image's bytes say nothing
            if "text" in output:
                output["text"] = NOISE.sub("", output["text"])
                texts.append(output["text"])
            found += private.findall("\n".join(texts))
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return found


def main() -> int:
    import nbformat
    from nbconvert.preprocessors import CellExecutionError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="tutorials by name (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    known = {path.stem: path for path in sorted(TUTORIALS.glob("*.ipynb"))}
    if unknown := set(options.names) - set(known):
        parser.error(f"no tutorial {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = 0
    for name in options.names or known:
        notebook = nbformat.read(known[name], as_version=4)
        if absent := missing(notebook):
            print(f"{name}: skipped, {', '.join(absent)} not installed")
            continue
        began = time.monotonic()
        try:
            run(notebook)
        except CellExecutionError as error:
            print(f"{name}: FAILED\n{NOISE.sub('', str(error))}")
            failed += 1
            continue
        if private := tidy(notebook):
            print(f"{name}: FAILED, its outputs name this machine: {sorted(set(private))}")
            failed += 1
            continue
        print(f"{name}: ran from top to bottom in {time.monotonic() - began:.0f} s", flush=True)
        if not options.check:
            nbformat.write(notebook, known[name])
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
