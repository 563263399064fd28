"""Metrics out of what trainers print. One pass over the file, however late the first metrics come.

verl       ``step:1 - name:value - name:value``
openrlhf   ``Global step 1: {...}`` and ``Evaluation completed in 0:01:23, global_step 1, eval_metrics: {...}``
nemo-rl    ``==== Step 1/100 ====``, then ``Training Results:`` and ``Validation Results:`` with a bullet a number
areal      ``Train step 1/100 done.``, then tables of names and numbers between box characters
slime      dicts after what they are of, ``rollout 3: {...}``, ``eval 3: {...}``
trl        the dicts of transformers' Trainer, ``{'loss': 0.1, ...}``, at the step of the progress bar before them
console    any other line with a step and numbers, ``Step 10 | Reward: 0.4 | Entropy: 0.2``
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sr_monitor.logs.records import RawRow
from sr_monitor.logs.services import services_in
from sr_monitor.logs.text import open_text, printed_dict

# Kinds in the order in which they are believed where a file holds several.
KINDS = ("verl", "openrlhf", "nemo-rl", "areal", "slime", "trl", "console")
# Fewer lines of no known trainer are taken for something else.
_FEWEST_LINES = 3

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf"
# Commands to a terminal: colours, moves of the cursor, links, titles.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_VERL = re.compile(r"\bstep:(\d+) - (.+)")
_NUMPY_SCALAR = re.compile(r"np\.\w+\((.*)\)$")  # as numpy 2 writes its numbers
_OPENRLHF = re.compile(
    r"(?:Global step (?P<trained>\d+)|Evaluation completed in .+, global_step (?P<evaluated>\d+), eval_metrics)"
    r": (?P<values>\{.*\})"
)
_NEMO_STEP = re.compile(r"=+ Step (\d+)/\d+ =+")
_NEMO_PART = re.compile(r"(Training|Validation) Results:")
_NEMO_VALUE = re.compile(rf"•\s*([A-Za-z ]+):\s*({_NUMBER})(?=$|\s)")
# As its loggers name what its console prints.
_NEMO_NAMES = {
    "train/avg_reward": "train/reward",
    "train/mean_generation_length": "train/mean_gen_tokens_per_sample",
    "validation/samples_processed": "tasks",
}
_AREAL = re.compile(r"Train step (\d+)/\d+ done")
_CELLS = re.compile(rf"([A-Za-z][\w@/.\-]*)\s+[│|]\s+({_NUMBER})(?=\s)")
_COUNTED = re.compile(r"\b(?:rollout|step|eval|train|iteration|update)[ =:]+(\d+)\s*[:,|-]*\s*(\{.+\})")
_BAR = re.compile(r"(?:^|\s)\d+%\|[^|]*\|\s*(\d+)/(\d+)\s\[")
_NAMED_BAR = re.compile(r"\S.*:\s+\d+%\|")
_DICT = re.compile(r"\{['\"][^{}]+\}")
_DICT_KEY = re.compile(r"['\"](?:loss|reward|epoch|step|global_step/max_steps|eval[^'\"]*)['\"]:")
_TRL_STEPS = ("step", "global_step", "global_step/max_steps")
_EVALUATED = re.compile(rf"Evaluated (\S+) in .*?\((Avg@\d+)\s*[=:]\s*({_NUMBER})")  # prime-rl
# What a line of another trainer must contain to be looked at closer.
_PLAIN = re.compile(r"(?i)step|iter|update|eval|val|test|held")
_STEP = re.compile(
    r"(?i)(?<![\w/])(?:global[_ ]?step|train(?:ing)?[_ ]?step|step|iteration|iter|update)\b\s*[:=#]?\s*\[?(\d+)"
)
_PAIR = re.compile(rf"([A-Za-z][\w@/.\- ]{{0,60}}?)\s*[:=]\s*((?:{_NUMBER})%?)(?=$|[\s,|;)\]])")
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

    def rows_of(self, kind: str) -> list[RawRow]:
        return list(self.rows.get(kind, ()))


def read_console(path: Path) -> Printed:
    """All metrics that a console log holds; a file that did not change is read once."""
    state = path.stat()
    return _read(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, size: int, changed_ns: int) -> Printed:
    scanner = _Scanner()
    for line in lines_of(path):
        scanner.feed(line)
    return scanner.printed_in_all()


def lines_of(path: Path) -> Iterator[str]:
    """Lines without commands to a terminal; a carriage return ends one as well, as progress bars use it."""
    with open_text(path) as file:
        for line in file:
            yield _ANSI.sub("", line.rstrip("\n"))


class _Scanner:
    """Collects rows line by line. Every ``_take_`` method says whether the line was its own."""

    def __init__(self) -> None:
        self.printed = Printed()
        self.nemo: tuple[str, dict[str, Any]] | None = None  # the part that bullets belong to, and its step's row
        self.areal: int | None = None
        self.bars: dict[int, list[int]] = {}  # total -> the counts of progress bars, oldest first
        self.dicts: list[tuple[dict[int, int], dict[str, Any]]] = []  # with the bars' counts before each
        self.last: int | None = None  # step of the last plain row
        self.takers = (
            *(self._take_verl, self._take_openrlhf, self._take_nemo, self._take_areal),
            *(self._take_counted, self._take_dicts, self._take_bar, self._take_plain),
        )

    def feed(self, line: str) -> None:
        for name, address in services_in(line):
            self.printed.services[name] = self.printed.services.get(name) or address
        any(take(line) for take in self.takers)

    def printed_in_all(self) -> Printed:
        self.printed.rows["trl"] = self._trl_rows()
        return self.printed

    def _take_verl(self, line: str) -> bool:
        match = _VERL.search(line)
        if match is None:
            return False
        parts = (part.strip().rsplit(":", 1) for part in match[2].split(" - "))
        named = ([_NUMPY_SCALAR.sub(r"\1", text.strip()) for text in part] for part in parts if len(part) == 2)
        self.printed.rows["verl"].append({"step": match[1], **dict(named)})
        return True

    def _take_openrlhf(self, line: str) -> bool:
        match = _OPENRLHF.search(line)
        if match is None:
            return False
        step, values = match["trained"] or match["evaluated"], _values(match["values"])
        if not values:
            self.printed.notes.append(f"a row of step {step} could not be read and was left out")
            return True
        if match["evaluated"]:  # beside the training row of this step, whose names may be the same
            values = {name if name.startswith("eval") else f"eval/{name}": v for name, v in values.items()}
        self.printed.rows["openrlhf"].append({**values, "step": step})
        return True

    def _take_nemo(self, line: str) -> bool:
        if match := _NEMO_STEP.search(line):
            self.nemo = ("train", {"step": int(match[1])})
            self.printed.rows["nemo-rl"].append(self.nemo[1])
        elif match := _NEMO_PART.search(line):
            if self.nemo is None:  # validated before the first step
                self.nemo = ("", {"step": 0})
                self.printed.rows["nemo-rl"].append(self.nemo[1])
            self.nemo = ("train" if match[1] == "Training" else "validation", self.nemo[1])
        elif self.nemo is not None and (match := _NEMO_VALUE.search(line)):
            name = f"{self.nemo[0]}/{match[1].strip().lower().replace(' ', '_')}"
            self.nemo[1].setdefault(_NEMO_NAMES.get(name, name), match[2])
        return match is not None

    def _take_areal(self, line: str) -> bool:
        if match := _AREAL.search(line):
            self.areal = int(match[1])
            return True
        cells = _CELLS.findall(line) if self.areal is not None else []
        if cells:
            self.printed.rows["areal"].append({"step": self.areal, **dict(cells)})
        return bool(cells)

    def _take_counted(self, line: str) -> bool:
        match = _COUNTED.search(line)
        values = _values(match[2]) if match is not None else {}
        if match is None or not values:
            return False
        self.printed.rows["slime"].append({**values, "step": int(match[1])})
        return True

    def _take_dicts(self, line: str) -> bool:
        if not _DICT_KEY.search(line):
            return False
        found = [_values(match[0]) for match in _DICT.finditer(line)]
        found = [values for values in found if sum(_is_number(v) for v in values.values()) >= 2]
        at = {total: counts[-1] for total, counts in self.bars.items()}
        self.dicts.extend((at, values) for values in found)
        return bool(found)

    def _take_bar(self, line: str) -> bool:
        match = _BAR.search(line)
        if match is None or _NAMED_BAR.match(line):
            return False
        self.bars.setdefault(int(match[2]), []).append(int(match[1]))
        return True

    def _take_plain(self, line: str) -> bool:
        row = _plain_row(line, self.last) if _PLAIN.search(line) else None
        if row is None:
            return False
        self.printed.rows["console"].append(row)
        self.last = row["step"]
        return True

    def _trl_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        bar, counted, epoch = self._main_bar(), 0, object()
        for at, values in self.dicts:
            if any(name in values for name in _TRL_STEPS):
                rows.append(values)
                continue
            if not {"loss", "reward", "epoch"} & set(values) and not any(name.startswith("eval") for name in values):
                continue
            if "epoch" not in values or values["epoch"] != epoch:
                counted, epoch = counted + 1, values.get("epoch", object())
            rows.append({**values, "step": counted if bar is None else at.get(bar, 0)})
        if counted and bar is None:
            self.printed.notes.append("the log gives no steps; its rows are numbered in their order")
        return rows

    def _main_bar(self) -> int | None:
        """The total of the training's progress bar: the first that never starts again, as an evaluation's does."""
        for total, counts in self.bars.items():
            if all(later >= earlier for earlier, later in itertools.pairwise(counts)):
                return total
        return next(iter(self.bars), None)


def _values(text: str) -> dict[str, Any]:
    """The dict, as Python or as JSON prints it; empty where it is none, or holds no number."""
    try:
        values = printed_dict(text)
    except (ValueError, SyntaxError):
        try:
            values = json.loads(text)
        except ValueError:
            return {}
    return values if any(_is_number(value) for value in values.values()) else {}


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(_NUMBER, value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain_row(line: str, last: int | None) -> dict[str, Any] | None:
    """A row of a line with a step and numbers; a line of evaluation results alone belongs to the step before it."""
    if (match := _EVALUATED.search(line)) is not None:
        return {f"eval/{match[1]}/{match[2].lower()}": match[3], "step": last or 0}
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
