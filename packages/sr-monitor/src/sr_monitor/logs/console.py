"""Metrics out of what trainers print. One pass over the file, however late the first metrics come.

verl       ``step:1 - name:value - name:value``
openrlhf   ``Global step 1: {...}`` and ``Evaluation completed in 0:01:23, global_step 1, eval_metrics: {...}``
areal      ``Train step 1/100 done.``, then tables of names and numbers between box characters
trl        the dicts of transformers' Trainer, ``{'loss': 0.1, ...}``, at the step of the progress bar before them
console    any other line with a step and numbers, ``Step 10 | Reward: 0.4 | Entropy: 0.2``
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sr_monitor.logs.records import RawRow
from sr_monitor.logs.services import services_in
from sr_monitor.logs.text import printed_dict

# Kinds in the order in which they are believed where a file holds several.
KINDS = ("verl", "openrlhf", "areal", "trl", "console")
# Fewer lines of no known trainer are taken for something else.
_FEWEST_LINES = 3

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_VERL = re.compile(r"\bstep:(\d+) - (.+)")
_NUMPY_SCALAR = re.compile(r"np\.\w+\((.*)\)$")  # as numpy 2 writes its numbers
_OPENRLHF = re.compile(
    r"(?:Global step (?P<trained>\d+)|Evaluation completed in .+, global_step (?P<evaluated>\d+), eval_metrics)"
    r": (?P<values>\{.*\})"
)
_AREAL = re.compile(r"Train step (\d+)/\d+ done")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf"
_CELLS = re.compile(rf"([A-Za-z][\w@/.\-]*)\s+[│|]\s+({_NUMBER})(?=\s)")
_BAR = re.compile(r"(?:^|\s)\d+%\|[^|]*\|\s*(\d+)/(\d+)\s\[")
_NAMED_BAR = re.compile(r"\S.*:\s+\d+%\|")
_DICT = re.compile(r"\{['\"][^{}]+\}")
_DICT_KEY = re.compile(r"['\"](?:loss|reward|epoch|step|global_step/max_steps|eval[^'\"]*)['\"]:")
# What a line of another trainer must contain to be looked at closer.
_PLAIN = re.compile(r"(?i)step|iter|update|eval|val|test|held")
_STEP = re.compile(
    r"(?i)(?<![\w/])(?:global[_ ]?step|train(?:ing)?[_ ]?step|step|iteration|iter|update)\b\s*[:=#]?\s*\[?(\d+)"
)
_PAIR = re.compile(rf"([A-Za-z][\w@/.\- ]{{0,60}}?)\s*[:=]\s*({_NUMBER})%?(?=$|[\s,|;)\]])")
_EVALUATES = re.compile(r"(?i)(eval|evaluation|val|valid|validation|test|heldout|held-out)\b.*|(eval|val|test)_.*")


@dataclass
class Printed:
    """What a console log holds. rows: by kind. services: where metrics went, with the address where it is printed."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    services: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str | None:
        """The likeliest kind, None where there are no metrics."""
        return next((k for k in KINDS if len(self.rows[k]) >= (_FEWEST_LINES if k == "console" else 1)), None)


def lines_of(path: Path) -> Iterator[str]:
    """Lines without colours; a carriage return ends one as well, as progress bars use it."""
    with path.open(encoding="utf-8", errors="replace", newline=None) as file:
        for line in file:
            yield _ANSI.sub("", line.rstrip("\n"))


def read_console(path: Path) -> Printed:
    """All metrics that a console log holds; a file that did not change is read once."""
    state = path.stat()
    return _read(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, size: int, changed_ns: int) -> Printed:
    printed = Printed()
    bars: dict[int, list[int]] = {}  # total -> the counts of progress bars, oldest first
    dicts: list[tuple[dict[int, int], dict[str, Any]]] = []  # a printed dict, and the bars' counts before it
    at: dict[int, int] = {}
    areal: int | None = None
    last: int | None = None
    for line in lines_of(path):
        for name, address in services_in(line):
            printed.services[name] = printed.services.get(name) or address
        if match := _VERL.search(line):
            printed.rows["verl"].append(_verl_row(match))
        elif match := _OPENRLHF.search(line):
            _openrlhf_row(match, printed)
        elif match := _AREAL.search(line):
            areal = int(match[1])
        elif areal is not None and (cells := _CELLS.findall(line)):
            printed.rows["areal"].append({"step": areal, **dict(cells)})
        elif found := _dicts(line):
            dicts.extend((dict(at), values) for values in found)
        elif (match := _BAR.search(line)) and not _NAMED_BAR.match(line):
            count, total = int(match[1]), int(match[2])
            bars.setdefault(total, []).append(count)
            at[total] = count
        elif _PLAIN.search(line) and (row := _plain_row(line, last)) is not None:
            printed.rows["console"].append(row)
            last = row["step"]
    printed.rows["trl"] = _trl_rows(dicts, _main_bar(bars), printed)
    return printed


def _verl_row(match: re.Match[str]) -> dict[str, Any]:
    parts = (_NUMPY_SCALAR.sub(r"\1", part.strip()).rsplit(":", 1) for part in match[2].split(" - "))
    named = ([_NUMPY_SCALAR.sub(r"\1", text.strip()) for text in part] for part in parts if len(part) == 2)
    return {"step": match[1], **dict(named)}


def _openrlhf_row(match: re.Match[str], printed: Printed) -> None:
    step = match["trained"] or match["evaluated"]
    try:
        values = printed_dict(match["values"])
    except (ValueError, SyntaxError):
        printed.notes.append(f"a row of step {step} could not be read and was left out")
        return
    if match["evaluated"]:  # beside the training row of this step, whose names may be the same
        values = {name if name.startswith("eval") else f"eval/{name}": v for name, v in values.items()}
    printed.rows["openrlhf"].append({**values, "step": step})


def _dicts(line: str) -> list[dict[str, Any]]:
    """The dicts of numbers, two at least, that a line holds."""
    found: list[dict[str, Any]] = []
    if not _DICT_KEY.search(line):
        return found
    for match in _DICT.finditer(line):
        try:
            values = printed_dict(match[0])
        except (ValueError, SyntaxError):
            continue
        if sum(_is_number(v) for v in values.values()) >= 2:
            found.append(values)
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(_NUMBER, value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _main_bar(bars: dict[int, list[int]]) -> int | None:
    """The total of the training's progress bar: the first that never starts again, as an evaluation's does."""
    for total, counts in bars.items():
        if all(later >= earlier for earlier, later in itertools.pairwise(counts)):
            return total
    return next(iter(bars), None)


def _trl_rows(
    dicts: list[tuple[dict[int, int], dict[str, Any]]], bar: int | None, printed: Printed
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    counted = 0
    epoch: Any = None
    for at, values in dicts:
        if not ({"loss", "reward", "epoch", "step", "global_step/max_steps"} & set(values)) and not any(
            name.startswith("eval") for name in values
        ):
            continue
        if any(name in values for name in ("step", "global_step", "global_step/max_steps")):
            rows.append(values)
            continue
        if epoch is None or values.get("epoch") != epoch:
            counted, epoch = counted + 1, values.get("epoch")
        step = at.get(bar) if bar is not None else None
        rows.append({**values, "step": counted if step is None else step})
        if bar is None and counted == 1:
            printed.notes.append("the log gives no steps; its rows are numbered in their order")
    return rows


def _plain_row(line: str, last: int | None) -> dict[str, Any] | None:
    """A row of a line with a step and numbers; a line of evaluation results alone belongs to the step before it."""
    match = _STEP.search(line)
    rest = line[match.end() :] if match else line
    pairs = {name.strip(): value for name, value in _PAIR.findall(rest)}
    if match and pairs:
        return {**pairs, "step": int(match[1])}
    if match is None and last is not None:
        evaluated = {name: value for name, value in pairs.items() if _EVALUATES.fullmatch(name)}
        if evaluated:
            return {**evaluated, "step": last}
    return None


def rows_of(printed: Printed, kind: str) -> list[RawRow]:
    return list(printed.rows.get(kind, ()))
