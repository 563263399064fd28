"""Records of chains, made by hand."""

from __future__ import annotations

from typing import Any

SIGNALS = ("train_reward", "entropy", "length", "truncated", "unique_share", "zero_std_groups", "grad_norm", "lr")


def made(arm: str, seed: int, audits: list[tuple[float, float, float, float]]) -> dict[str, Any]:
    """A record as a chain of three-step campaigns with these audited starts, peaks, ends and kept ones leaves it."""
    campaigns: list[dict[str, Any]] = [
        {"campaign": i, "steps": 3, "audit": dict(zip(("start", "peak", "end", "kept"), audit, strict=True))}
        for i, audit in enumerate(audits)
    ]
    rows = len(audits) * 4
    return {
        "regime": "rich",
        "arm": arm,
        "seed": seed,
        "config": {"tasks": {"heldout": 10}, "evaluate": {"samples": 16}},
        "summary": {"campaigns": campaigns, "audit": campaigns[-1]["audit"]},
        "campaign": [i for i in range(len(audits)) for _ in range(4)],
        "step": [0, 1, 2, 3] * len(audits),
        "heldout": [40, 80, 100, 10] * len(audits),
        "well_formed": [160, 160, 150, 90] * len(audits),
        "samples": [16] * rows,
        "se": [0.03] * rows,
        "signals": {name: [None, 0.4, 0.5, 0.6] * len(audits) for name in SIGNALS},
        "evaluated": [1] * rows,
        "evaluation_samples": 640,
        "training_samples": 384,
        "seconds": {"training": 5.0, "evaluate": 2.0},
        "decisions": [{"action": "roll_back"}],
    }
