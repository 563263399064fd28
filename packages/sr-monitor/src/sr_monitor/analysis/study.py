"""What the chains of a study say, on the audit set. Shares and differences lie in [-1, 1].

A record is what is kept of a finished chain: its summary, and its rows as columns (``campaign``, ``step``, ``heldout``
passes, ``samples``, ``se``, ...). Records are grouped by regime, arm and seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sr_monitor.analysis.noise import noise_null
from sr_monitor.analysis.statistics import bootstrap, paired_bootstrap
from sr_monitor.analysis.trajectory import COLLAPSE_GAP, Trajectory

Record = Mapping[str, Any]
# regime -> arm -> seed -> record
Records = Mapping[str, Mapping[str, Mapping[int, Record]]]
DRAWS = 2000
CHECKPOINTS = ("start", "peak", "end", "kept")


def judge_study(records: Records, compare: Sequence[str]) -> dict[str, Any]:
    """``results.json``: results of every arm in every regime, with paired differences to the arms of ``compare``."""
    return {
        "regimes": {
            regime: {"arms": {arm: _arm(chains, arms, compare) for arm, chains in arms.items() if chains}}
            for regime, arms in records.items()
            if any(arms.values())
        }
    }


def audits(record: Record) -> list[dict[str, Any]]:
    """Of each campaign its audited start, peak, end and kept, and the same on either half of the samples."""
    return [campaign["audit"] for campaign in record["summary"]["campaigns"]]


def end(record: Record) -> float:
    """Audited pass@1 of the policy that the chain keeps."""
    kept: float = record["summary"]["audit"]["kept"]
    return kept


def hindsight(record: Record) -> float:
    """The best audited checkpoint of the whole chain (of its campaigns' starts, peaks, ends and kept ones)."""
    return _best(audits(record))


def trace_oracle(record: Record) -> float:
    """Mean over campaigns of the best audited checkpoint of each."""
    return float(np.mean([_best([audit]) for audit in audits(record)]))


def has_halves(record: Record) -> bool:
    """Whether the record has the results of either half of the audit samples; records of version 0.1 may not."""
    return all("halves" in audit for audit in audits(record))


def _best(audited: Sequence[Mapping[str, Any]]) -> float:
    """The best checkpoint: chosen by one half of the samples, measured by the other, both ways.

    The highest of many noisy measurements is biased upward. Without halves it is taken all the same.
    """
    if not all("halves" in audit for audit in audited):
        return max(float(audit[key]) for audit in audited for key in CHECKPOINTS)
    halves = np.array([audit["halves"][key] for audit in audited for key in CHECKPOINTS])
    first, second = halves.argmax(axis=0)
    return float(halves[first, 1] + halves[second, 0]) / 2


def trajectories(record: Record) -> dict[int, Trajectory]:
    """The held-out curve of each campaign that was evaluated more than once, with its noise, by campaign."""
    tasks = record["config"]["tasks"]["heldout"]
    curves = {}
    for number in range(len(record["summary"]["campaigns"])):
        seen = [
            (record["step"][i], record["heldout"][i] / (tasks * record["samples"][i]), record["se"][i])
            for i, campaign in enumerate(record["campaign"])
            if campaign == number and record["heldout"][i] is not None
        ]
        if len(seen) > 1:
            steps, rates, errors = zip(*seen, strict=True)
            curves[number] = Trajectory.from_rates(steps, rates, se=errors)
    return curves


def _arm(
    chains: Mapping[int, Record], arms: Mapping[str, Mapping[int, Record]], compare: Sequence[str]
) -> dict[str, Any]:
    seeds = sorted(chains)
    of = [chains[seed] for seed in seeds]
    campaigns = [audit for record in of for audit in audits(record)]
    ends = [end(record) for record in of]
    whole = bootstrap(ends)
    result: dict[str, Any] = {
        "end": whole.estimate,
        "ci": [whole.low, whole.high],
        "per_seed": dict(zip(map(str, seeds), ends, strict=True)),
        "start": float(np.mean([audits(record)[0]["start"] for record in of])),
        "peak": float(np.mean([a["peak"] for a in campaigns])),
        "campaign_end": float(np.mean([a["end"] for a in campaigns])),
        "handed_on": float(np.mean([a["kept"] for a in campaigns])),
        "gap": float(np.mean([a["peak"] - a["end"] for a in campaigns])),
        "collapse_rate": float(np.mean([a["peak"] - a["end"] > COLLAPSE_GAP for a in campaigns])),
        "hindsight": float(np.mean([hindsight(record) for record in of])),
        "flattered_oracle": not all(map(has_halves, of)),
        "trace_oracle": float(np.mean([trace_oracle(record) for record in of])),
        "share_of_hindsight": sum(ends) / sum(hindsight(record) for record in of),
        "worst_campaign": min(a["kept"] - a["start"] for a in campaigns),
        "steps": float(np.mean([sum(c["steps"] for c in r["summary"]["campaigns"]) for r in of])),
        "evaluation_samples": float(np.mean([r["evaluation_samples"] for r in of])),
        "training_samples": float(np.mean([r["training_samples"] for r in of])),
        "seconds": float(np.mean([r["seconds"]["training"] for r in of])),
        "evaluation_seconds": float(np.mean([r["seconds"]["evaluate"] for r in of])),
        "rollbacks": float(np.mean([sum(d["action"] == "roll_back" for d in r["decisions"]) for r in of])),
    }
    steps = result["steps"]
    result["per_100_steps"] = 100 * (result["end"] - result["start"]) / steps if steps else None
    result |= _curves(of)
    for other in compare:
        shared = [seed for seed in seeds if seed in arms.get(other, {})]
        if shared:
            difference = paired_bootstrap([end(chains[s]) for s in shared], [end(arms[other][s]) for s in shared])
            result[f"over_{other}"] = [difference.estimate, difference.low, difference.high, len(shared)]
    return result


def _curves(records: Sequence[Record]) -> dict[str, Any]:
    """The paper's quantities of the held-out curves: onset and largest step of those that fell, and the noise null."""
    curves = [curve for record in records for curve in trajectories(record).values()]
    fallen = [curve for curve in curves if curve.collapsed]
    shares = [min(share, 1.0) for curve in fallen if (share := curve.one_step_share) is not None]
    onsets = [curve.onset for curve in fallen if curve.onset is not None]
    found: dict[str, Any] = {
        "curves": len(curves),
        "heldout_gap": float(np.mean([c.gap for c in curves])) if curves else None,
        "null_gap": None,
        "real_falls": None,
        "one_step_share": float(np.median(shares)) if shares else None,
        "onset": float(np.median(onsets)) if onsets else None,
    }
    if curves:
        nulls = [_null(curve, record) for record in records for curve in trajectories(record).values()]
        found["null_gap"] = float(np.mean([null for null, _ in nulls]))
        found["real_falls"] = float(np.mean([p < 0.05 for _, p in nulls]))
    return found


def _null(curve: Trajectory, record: Record) -> tuple[float, float]:
    """The mean gap that the campaign's design shows where nothing changes, and the p-value of the gap seen."""
    config = record["config"]
    rates = np.full(config["tasks"]["heldout"], curve.pass1_E.mean())  # equally hard tasks: the noisiest there is
    samples = min(samples for samples in record["samples"] if samples is not None)  # on a budget they are few
    null = noise_null(rates, samples, len(curve.steps), draws=DRAWS)
    return float(null.gap_D.mean()), null.p_value(curve.gap)
