"""Policy-gradient training of code models, in campaigns and chains. torch is loaded with the first name used.

Campaign: a fixed set of tasks and a bounded number of updates. Chain: campaigns one after another, each from a policy
that an earlier one kept.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_core.algorithm_config import AlgorithmConfig
    from sr_core.batch import Batch, Rollout
    from sr_core.campaign import run_campaign
    from sr_core.chain import run_chain
    from sr_core.config import (
        CampaignConfig,
        EvaluateConfig,
        OptimConfig,
        PenaltyConfig,
        PolicyConfig,
        SamplingConfig,
        TrainConfig,
    )
    from sr_core.distributed.process_group import Ranks, init_distributed
    from sr_core.engine import Engine
    from sr_core.errors import ConfigError, CoreError, GraderError, NonFiniteError, PolicyError, RankError, RunError
    from sr_core.evaluation.evaluate import Evaluation
    from sr_core.loop.summary import CampaignSummary, ChainSummary
    from sr_core.policy import Policy
    from sr_core.runs.store import RunStore
    from sr_core.tasks import CampaignTasks
    from sr_core.trainer import Trainer

_NAMES = {
    "algorithm_config": ["AlgorithmConfig"],
    "batch": ["Batch", "Rollout"],
    "campaign": ["run_campaign"],
    "chain": ["run_chain"],
    "config": [
        *("CampaignConfig", "EvaluateConfig", "OptimConfig", "PenaltyConfig", "PolicyConfig", "SamplingConfig"),
        "TrainConfig",
    ],
    "distributed.process_group": ["Ranks", "init_distributed"],
    "engine": ["Engine"],
    "errors": ["ConfigError", "CoreError", "GraderError", "NonFiniteError", "PolicyError", "RankError", "RunError"],
    "evaluation.evaluate": ["Evaluation"],
    "loop.summary": ["CampaignSummary", "ChainSummary"],
    "policy": ["Policy"],
    "runs.store": ["RunStore"],
    "tasks": ["CampaignTasks"],
    "trainer": ["Trainer"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AlgorithmConfig",
    "Batch",
    "CampaignConfig",
    "CampaignSummary",
    "CampaignTasks",
    "ChainSummary",
    "ConfigError",
    "CoreError",
    "Engine",
    "EvaluateConfig",
    "Evaluation",
    "GraderError",
    "NonFiniteError",
    "OptimConfig",
    "PenaltyConfig",
    "Policy",
    "PolicyConfig",
    "PolicyError",
    "RankError",
    "Ranks",
    "Rollout",
    "RunError",
    "RunStore",
    "SamplingConfig",
    "TrainConfig",
    "Trainer",
    "init_distributed",
    "run_campaign",
    "run_chain",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sr_core' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sr_core.{_HOME[name]}"), name)
