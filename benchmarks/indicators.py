"""Which signals of training warn of a fall before it comes? On the recorded runs of benchmarks/traces.

    uv run --group bench python benchmarks/indicators.py [--json] [--rate 0.1] [--data DIR]

Each signal is averaged over three steps and taken as its change since the run's first three, so that policies
compare; a slope is that of the last five steps. The movement of a step needs no comparison, as it is taken over the
entropy: it is also averaged over three steps, and over the first five. A signal warns when it passes a threshold: the
lowest that at most ``rate`` of the calibration runs without a fall pass at any step. Up or down, whichever warned of
more falls there. Then, on the test part: warned: falls with a warning before their onset; lead: median steps from the
first warning to the onset; false warnings: runs without a fall that were warned of, with the 95% Wilson interval. A
signal that warns of no more falls than it warns without one is of no use.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tracekit.data import DATA

from sr_monitor import wilson
from sr_monitor.tracebench import Trace, load, split
from sr_monitor.tracebench.truth import onset

WINDOW, SLOPE = 3, 5
ROUNDED = 1e-5  # traces have five decimals: a smaller movement counts as this
SHORTEST = 5  # before that many steps there is no change to speak of
Series = Callable[[Trace], NDArray[np.float64]]


def signal(name: str) -> Series:
    """The (E,) values of a logged signal, NaN where it was not measured."""

    def values(trace: Trace) -> NDArray[np.float64]:
        return np.array([np.nan if row.get(name) is None else row[name] for row in trace.signals], dtype=np.float64)

    return values


def divergence(trace: Trace) -> NDArray[np.float64]:
    """Training reward minus held-out pass@1 of the policy that drew those samples, which is the one before the step."""
    heldout_E = trace.passed_ETS.mean(axis=(1, 2))
    before_E = np.concatenate([[np.nan], heldout_E[:-1]])
    return np.asarray(signal("train_reward")(trace) - before_E)


def movement(trace: Trace) -> NDArray[np.float64]:
    """How far each step moved the policy, as a power of ten of the entropy that it had."""
    moved_E, entropy_E = np.maximum(signal("step_kl")(trace), ROUNDED), signal("entropy")(trace)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log10(moved_E / entropy_E))


def change(series: Series) -> Series:
    def values(trace: Trace) -> NDArray[np.float64]:
        raw_E = series(trace)
        known = np.flatnonzero(np.isfinite(raw_E))
        if len(known) < SHORTEST:
            return np.full(len(raw_E), np.nan)
        return np.asarray(_rolling(raw_E, WINDOW, np.mean) - raw_E[known[:WINDOW]].mean())

    return values


def beginning(series: Series) -> Series:
    """The mean of the first steps, from the last of them on."""

    def values(trace: Trace) -> NDArray[np.float64]:
        raw_E = series(trace)
        first = np.flatnonzero(np.isfinite(raw_E))[:SHORTEST]
        made_E = np.full(len(raw_E), np.nan)
        if len(first) == SHORTEST:
            made_E[first[-1] :] = raw_E[first].mean()
        return made_E

    return values


def slope(series: Series) -> Series:
    def steepness(window_W: NDArray[np.float64]) -> float:
        return float(np.polyfit(np.arange(len(window_W)), window_W, 1)[0])

    return lambda trace: _rolling(series(trace), SLOPE, steepness)


def _rolling(raw_E: NDArray[np.float64], width: int, reduce: Callable[[Any], Any]) -> NDArray[np.float64]:
    """``reduce`` over each step and those before it; NaN where one of them is."""
    windows = (raw_E[max(0, end - width + 1) : end + 1] for end in range(len(raw_E)))
    return np.array([reduce(w) if len(w) == width and np.isfinite(w).all() else np.nan for w in windows])


INDICATORS: dict[str, Series] = {
    "equal-reward groups": change(signal("zero_std_groups")),
    "entropy": change(signal("entropy")),
    "entropy slope": slope(signal("entropy")),
    "distinct samples": change(signal("unique_share")),
    "length": change(signal("length")),
    "truncated": change(signal("truncated")),
    "malformed programs": change(signal("malformed")),
    "gradient norm": change(signal("grad_norm")),
    "output layer's gradient norm": change(signal("head_grad_norm")),
    "cosine of gradients in a row": change(signal("grad_cosine")),
    "likelihood of right answers": change(signal("correct_logprob")),
    "movement of a step over entropy": lambda trace: _rolling(movement(trace), WINDOW, np.mean),
    "the same, first five steps": beginning(movement),
    "change of that movement": change(movement),
    "training reward": change(signal("train_reward")),
    "training minus held-out": change(divergence),
}


def first_above(values_E: NDArray[np.float64], threshold: float) -> int | None:
    above = np.flatnonzero(values_E > threshold)  # NaN is not
    return int(above[0]) if above.size else None


def threshold_for(highest_R: NDArray[np.float64], rate: float) -> float:
    """The lowest threshold that at most ``rate`` of the runs pass, given how high each of them went."""
    allowed = int(rate * len(highest_R))
    return float(np.sort(highest_R)[::-1][allowed])


def leads(series: Series, sign: float, threshold: float, falls: Sequence[Trace]) -> list[int]:
    """Steps from the first warning to the onset, for each fall that was warned of."""
    found = []
    for trace in falls:
        warned, fell = first_above(sign * series(trace), threshold), onset(trace)
        if warned is not None and fell is not None and warned < fell:
            found.append(fell - warned)
    return found


def judge(series: Series, calibration: Sequence[Trace], test: Sequence[Trace], rate: float) -> dict[str, Any]:
    healthy = [t for t in calibration if onset(t) is None]
    falls = [t for t in calibration if onset(t) is not None]
    options = []
    for sign in (1.0, -1.0):
        threshold = threshold_for(np.array([_highest(sign * series(t)) for t in healthy]), rate)
        options.append((len(leads(series, sign, threshold, falls)), sign, threshold))
    _, sign, threshold = max(options)
    healthy = [t for t in test if onset(t) is None]
    falls = [t for t in test if onset(t) is not None]
    found = leads(series, sign, threshold, falls)
    false = sum(first_above(sign * series(t), threshold) is not None for t in healthy)
    warned, alarms = wilson(len(found), len(falls)), wilson(false, len(healthy))
    return {
        "direction": "up" if sign > 0 else "down",
        "threshold": sign * threshold,
        "warned": warned.estimate,
        "warned_ci": [warned.low, warned.high],
        "lead": float(np.median(found)) if found else None,
        "false_warnings": alarms.estimate,
        "false_warnings_ci": [alarms.low, alarms.high],
        "useful": warned.low > alarms.high,
    }


def known(series: Series, trace: Trace) -> bool:
    """Whether a trace that is long enough has the signal at all."""
    return len(trace.signals) <= SHORTEST or bool(np.isfinite(series(trace)).any())


def _highest(values_E: NDArray[np.float64]) -> float:
    known_E = values_E[np.isfinite(values_E)]
    return float(known_E.max()) if known_E.size else -np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rate", type=float, default=0.1, help="false-warning rate the thresholds are set for")
    parser.add_argument("--data", type=Path, default=DATA, help="where the traces are")
    options = parser.parse_args()
    calibration, test = split(load(options.data))
    counts = [(sum(onset(t) is not None for t in part), len(part)) for part in (calibration, test)]
    if any(fell in (0, runs) for fell, runs in counts):
        raise SystemExit(f"{options.data}: both parts need runs with and without a fall, got (falls, runs) {counts}")
    measured = {
        name: series for name, series in INDICATORS.items() if all(known(series, t) for t in calibration + test)
    }
    for name in INDICATORS.keys() - measured.keys():
        print(f"{name}: not in all of these traces, left out (record them anew)", file=sys.stderr)
    rows = {name: judge(series, calibration, test, options.rate) for name, series in measured.items()}
    if options.json:
        print(
            json.dumps(
                {"rate": options.rate, "falls": counts[1][0], "runs": counts[1][1], "indicators": rows}, indent=1
            )
        )
        return
    print(f"{counts[1][0]} falls in {counts[1][1]} runs of the test part; thresholds for {options.rate:.0%}")
    print(f"{'signal':<30}{'direction':>10}{'warned':>8}{'95%':>12}{'lead':>6}{'false':>8}{'95%':>12}{'useful':>8}")
    for name, row in rows.items():
        low, high = row["warned_ci"]
        less, more = row["false_warnings_ci"]
        lead = "-" if row["lead"] is None else f"{row['lead']:g}"
        print(
            f"{name:<30}{row['direction']:>10}{row['warned']:>8.0%}{low:>7.0%}-{high:<4.0%}{lead:>6}"
            f"{row['false_warnings']:>8.0%}{less:>7.0%}-{more:<4.0%}{'yes' if row['useful'] else 'no':>8}"
        )


if __name__ == "__main__":
    main()
