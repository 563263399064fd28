"""Random draws, each seeded by what it is for, so that a resumed run draws the same and no stream is replayed."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

__all__ = ["rng_for", "seed_for", "torch_rng_for"]


def seed_for(seed: int, campaign: int, step: int, purpose: str) -> int:
    """A 63-bit seed, a fixed function of its arguments on every machine and Python version."""
    text = f"{seed}/{campaign}/{step}/{purpose}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def rng_for(seed: int, campaign: int, step: int, purpose: str) -> np.random.Generator:
    """A numpy generator for one draw."""
    return np.random.default_rng(seed_for(seed, campaign, step, purpose))


def torch_rng_for(seed: int, campaign: int, step: int, purpose: str) -> torch.Generator:
    """A torch generator for one draw; on the CPU, so that its numbers are the same whatever computes with them."""
    return torch.Generator().manual_seed(seed_for(seed, campaign, step, purpose))
