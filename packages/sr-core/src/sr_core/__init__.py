"""Policy-gradient training of code models, in campaigns and chains. torch is loaded with the first name used.

Campaign: a fixed set of tasks and at most so many updates. Chain: campaigns one after another, each from the policy
handed on before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_core.campaign import run_campaign
    from sr_core.chain import run_chain
    from sr_core.config import TrainConfig
    from sr_core.engine import Engine
    from sr_core.errors import CoreError
    from sr_core.policy import Policy
    from sr_core.runs.store import RunStore
    from sr_core.tasks import CampaignTasks
    from sr_core.trainer import Trainer

__all__ = [
    "CampaignTasks",
    "CoreError",
    "Engine",
    "Policy",
    "RunStore",
    "TrainConfig",
    "Trainer",
    "run_campaign",
    "run_chain",
]

_HOME = {
    "CampaignTasks": "tasks",
    "CoreError": "errors",
    "Policy": "policy",
    "RunStore": "runs.store",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "run_campaign": "campaign",
    "run_chain": "chain",
    "Engine": "engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sr_core' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sr_core.{_HOME[name]}"), name)
