"""Pulls towards an earlier policy: KL (``kl``), elastic weights (``ewc``), and coefficients that follow a target
(``control``). ``Penalty`` is the trainer's state of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sr_core.batch import Rollout
from sr_core.config import EwcConfig, KlConfig, PenaltyConfig, PullConfig
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.engine import Engine
from sr_core.errors import ConfigError
from sr_core.penalties.control import adapted_bonus, adapted_coefficient
from sr_core.penalties.ewc import Anchor, diagonal_fisher, trainable
from sr_core.penalties.kl import Estimator, kl_per_token

__all__ = ["Anchor", "Estimator", "Penalty", "adapted_bonus", "diagonal_fisher", "kl_per_token"]


class Penalty:
    """What pulls, where to, and how strongly: ``coefficient``, and a ``reference`` policy or a Fisher ``anchor``."""

    def __init__(self, config: PenaltyConfig, engine: Engine) -> None:
        self.config = config
        self.pulls = isinstance(config, PullConfig)
        self.follows_start = isinstance(config, PullConfig) and config.reference == "campaign_start"
        self._configured = config.coefficient if isinstance(config, PullConfig) else 0.0
        self.coefficient = self._configured
        self.reference: Engine | None = None
        self._weights: dict[str, Tensor] = {}
        self._fisher: dict[str, Tensor] | None = None
        self._refer_to(engine)

    def begin_campaign(self, engine: Engine, coefficient: float | None) -> None:
        """Back to the configured coefficient, or to this one; the reference moves if it is the campaign's start."""
        self.coefficient = self._configured if coefficient is None else coefficient
        if self.follows_start:
            self._refer_to(engine)

    def _refer_to(self, engine: Engine) -> None:
        if isinstance(self.config, KlConfig):
            self.reference = engine.frozen_copy()
        elif isinstance(self.config, EwcConfig):
            self._weights = {name: p.detach().float().clone() for name, p in trainable(engine.policy).items()}
            self._fisher = None

    @property
    def estimator(self) -> Estimator:
        """How the KL divergence is estimated, where that is the penalty."""
        return self.config.estimator if isinstance(self.config, KlConfig) else "k3"

    @property
    def wants_fisher(self) -> bool:
        """Whether ``measure`` must be called, with samples of the policy it refers to, before the next update."""
        return self.fisher_samples > 0 and self._fisher is None

    @property
    def fisher_samples(self) -> int:
        """From how many sequences the Fisher information is estimated; 0 where none is wanted."""
        return self.config.fisher_samples if isinstance(self.config, EwcConfig) else 0

    def measure(
        self, engine: Engine, rollout: Rollout, *, temperature: float, top_p: float, ranks: Ranks = ALONE
    ) -> None:
        """Estimate the Fisher information from the first ``fisher_samples`` of ``rollout``, each process its share."""
        count = min(self.fisher_samples, len(rollout.tokens))
        mine = ranks.share(count)
        prompts = [rollout.prompts[i // rollout.group_size] for i in mine]
        tokens = rollout.tokens[mine.start : mine.stop]
        fisher = diagonal_fisher(engine, prompts, tokens, temperature=temperature, top_p=top_p, count=count)
        ranks.all_reduce(list(fisher.values()))
        self._fisher = fisher

    @property
    def anchor(self) -> Anchor | None:
        """What EWC pulls to. Raises ConfigError when its Fisher information has not been measured."""
        if not self.fisher_samples:
            return None
        if self._fisher is None:
            raise ConfigError("penalty.name 'ewc' must know its Fisher information: call Trainer.prepare(tasks) first")
        return Anchor(weights=self._weights, fisher=self._fisher)

    def adapt(self, kl: float | None) -> None:
        """Move the coefficient towards ``penalty.target`` after a step that measured ``kl``."""
        target = self.config.target if isinstance(self.config, KlConfig) else None
        if target is not None and kl is not None:
            self.coefficient = adapted_coefficient(self.coefficient, kl, target=target)

    def state_dict(self) -> dict[str, Any]:
        """Coefficient and Fisher information; the reference itself is a policy that the run keeps anyway."""
        return {"coefficient": self.coefficient, "fisher": self._fisher}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``; what it refers to must have been set by ``begin_campaign``."""
        self.coefficient = state["coefficient"]
        if state["fisher"] is not None:
            self._fisher = {name: f.to(self._weights[name].device) for name, f in state["fisher"].items()}
