"""How well CARE's belief foretells campaigns that it has not seen: calibration on a study's own records.

    uv run --group bench python benchmarks/care_calibration.py [--study DIR] [--arms A,B] [--json]
    uv run --group bench python benchmarks/care_calibration.py --study DIR --fit

Every chain is replayed from an empty memory, as its planner lived it: before each campaign that trained, the belief
from the campaigns before it predicts the capability vector's change, then sees it. Per capability: how many of the 90%
intervals (of what was measured: prediction and measurement error together) held the truth, and the standard deviation
of the standardized errors (1 where the widths are right). Together: squared Mahalanobis distance by capability (1 where
right), share of surprises beyond the 99% limit of belief revision, and mean log density per campaign (nats; higher is
better). ``--fit`` tries the model's scales on a grid and prints the best; the defaults come from chains of seeds 100
and 101, which no study uses:

    sr study benchmarks/study/paper.toml --arms care_v1,care_v3,care_memory_only --seeds 100-101 --out DIR
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sr_care import Entry
from sr_care.belief.effects import EffectModel, to_rows
from sr_care.belief.information import Information
from sr_care.belief.numerics import chi2_quantile
from sr_care.belief.replay import believe
from sr_care.belief.revision import mahalanobis
from sr_care.entry import CAPABILITIES
from sr_core.studies.records import Records

REGIMES = ("rich", "fragile")
ARMS = "care_v1,care_v2,care_v3,care_memory_only,care_gate_only"
GRID = {
    "prior_scale": (0.05, 0.1, 0.15, 0.25),
    "context_scale": (0.01, 0.03, 0.05, 0.1),
    "process_error": (0.02, 0.03, 0.04, 0.06, 0.08),
}


def chains(study: Path, arms: Sequence[str]) -> dict[str, list[Entry]]:
    """The campaigns that trained, chain by chain."""
    records, found = Records(study), {}
    for regime in REGIMES:
        for name, record in records.under("chains", regime).items():
            if record["arm"] in arms:
                entries = map(Entry.from_dict, record["memory"])
                found[f"{regime}/{name}"] = [entry for entry in entries if entry.strategy.steps > 0]
    return found


def score(model: EffectModel, lives: Iterable[Sequence[Entry]]) -> dict[str, Any]:
    """The replay of some chains under ``model``."""
    nothing = Information.none()
    errors, shares, surprises, densities = [], [], [], []
    for entries in lives:
        for k, entry in enumerate(entries):
            prediction = believe(model, nothing, entries[:k]).posterior.predict_rows(to_rows([entry]))
            covariance = prediction.covariance[0] + model.error_floor**2 * np.eye(len(CAPABILITIES))
            total = covariance + entry.delta.matrix()
            difference = entry.delta.vector() - prediction.mean[0]
            errors.append(difference / np.sqrt(np.diag(total)))
            distance, degrees, _ = mahalanobis(prediction.mean[0], covariance, entry.delta)
            seen = np.flatnonzero(~np.isnan(difference))
            volume = np.linalg.slogdet(2 * np.pi * total[np.ix_(seen, seen)])[1]
            shares.append(distance / degrees)
            surprises.append(distance > chi2_quantile(0.99, degrees))
            densities.append(-(distance + volume) / 2)
    z = np.array(errors)
    return {
        "campaigns": len(z),
        "log_density": float(np.mean(densities)),
        "distance": float(np.mean(shares)),
        "surprises": float(np.mean(surprises)),
        "covered": dict(
            zip(CAPABILITIES, np.nanmean(np.where(np.isnan(z), np.nan, np.abs(z) < 1.645), axis=0), strict=True)
        ),
        "spread": dict(zip(CAPABILITIES, np.sqrt(np.nanmean(z**2, axis=0)), strict=True)),
    }


def text(row: dict[str, Any]) -> str:
    each = ", ".join(f"{name} {row['covered'][name]:.0%} ({row['spread'][name]:.2f})" for name in CAPABILITIES)
    return (
        f"log density {row['log_density']:.2f}, distance {row['distance']:.2f}, surprises {row['surprises']:.1%} "
        f"of {row['campaigns']}; covered (spread): {each}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path(__file__).parent / "study", help="folder of a study")
    parser.add_argument("--arms", default=ARMS, help="whose chains to replay")
    parser.add_argument("--fit", action="store_true", help="try other scales of the model")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    lives = chains(options.study, options.arms.split(","))
    if not lives:
        raise SystemExit(f"{options.study}: no chains of {options.arms}")
    if options.fit:
        tried = []
        for values in itertools.product(*GRID.values()):
            scales: dict[str, Any] = dict(zip(GRID, values, strict=True))
            tried.append((score(EffectModel(**scales), lives.values()), scales))
        for row, scales in sorted(tried, key=lambda one: -one[0]["log_density"])[:8]:
            print(", ".join(f"{name} {value}" for name, value in scales.items()), "|", text(row))
        return
    rows = {
        regime: score(EffectModel(), [entries for name, entries in lives.items() if name.startswith(regime)])
        for regime in REGIMES
    }
    if options.json:
        print(json.dumps({"date": f"{datetime.date.today()}", "chains": len(lives), **rows}, indent=1))
        return
    for regime, row in rows.items():
        print(f"{regime}: {text(row)}")


if __name__ == "__main__":
    main()
