"""The trainer: a policy, its optimizer and its algorithm, with the verbs that a campaign calls."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sr_core.algorithms import make_algorithm
from sr_core.batch import Batch, Rollout, concatenate
from sr_core.config import TrainConfig
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.distributed.sharded_state import full_state, local_rows, local_state
from sr_core.engine import Engine
from sr_core.engine.fsdp import check_shardable
from sr_core.evaluation.evaluate import Evaluation, evaluate
from sr_core.evaluation.grading import grade_all
from sr_core.optim.master_weights import MasterWeights
from sr_core.optim.movement import Probe
from sr_core.optim.objective import Objective
from sr_core.optim.step_size import Stepper, StepSize
from sr_core.optim.update import UpdateResult, update
from sr_core.optim.weight_averaging import WeightAverage
from sr_core.penalties import Penalty, adapted_bonus
from sr_core.policy import Policy
from sr_core.protocols import Grader, Task
from sr_core.runs.checkpoint import Checkpoint
from sr_core.runs.snapshot import Snapshot
from sr_core.seeds import torch_rng_for

__all__ = ["Trainer"]


class Trainer:
    """Trains ``policy`` on verdicts of ``grader`` as ``config`` says.

    Usable without campaigns: ``rollout``, ``grade``, ``update`` are one step. All random draws depend on
    ``config.seed`` and the (campaign, step) given, on nothing else. On several processes (``ranks``) each samples,
    grades and trains its share, and all of them call the same methods.
    """

    def __init__(self, policy: Policy, grader: Grader, config: TrainConfig, ranks: Ranks = ALONE) -> None:
        self.policy = policy
        self.engine = Engine(policy, cuda_graphs=config.policy.cuda_graphs, flex_attention=config.policy.flex_attention)
        _ = self.engine.shares_prompts  # a model that cannot be sampled from is refused before anything is written
        self.grader = grader
        self.config = config
        self.ranks = ranks
        if config.policy.sharded and ranks.count > 1 and not policy.sharded:
            check_shardable(config)
            self.engine.shard(ranks)
        self.penalty = Penalty(config.penalty, self.engine)
        self._master_weights = MasterWeights(policy.model)
        self._copying: Snapshot | None = None
        self._average: WeightAverage | None = None
        self.step_size = StepSize(config.optim.lr, config.optim.step_kl)
        self.begin_campaign(lr=config.optim.lr)

    def begin_campaign(self, *, lr: float, penalty: float | None = None) -> None:
        """Fresh optimizer, baseline, coefficients; the penalty's reference moves here if it is the campaign's start.

        The rate of measured steps stays what it was; an ``lr`` other than the configured one is a factor on their
        limit.
        """
        self.lr = lr
        self.step_size.begin_campaign(limit_factor=lr / self.config.optim.lr)
        self.penalty.begin_campaign(self.engine, penalty)
        self.entropy_bonus = self.config.algorithm.entropy_bonus
        self.algorithm = make_algorithm(self.config.algorithm, max_tokens=self.config.sampling.max_new_tokens)
        self._average = None
        self.reset_optimizer()

    def prepare(self, tasks: Sequence[Task], *, campaign: int) -> None:
        """Measure what the penalty must know of the policy it refers to, on samples of ``tasks``."""
        if self.penalty.wants_fisher:
            needed = math.ceil(self.penalty.fisher_samples / self.config.sampling.group_size)
            rollout = self.rollout(tasks[:needed], campaign=campaign, step=0, purpose="fisher")
            sampling = self.config.sampling
            self.penalty.measure(
                self.engine, rollout, temperature=sampling.temperature, top_p=sampling.top_p, ranks=self.ranks
            )

    def reset_optimizer(self) -> None:
        """Forget the moments of AdamW, and warm up again."""
        optim = self.config.optim
        self.updates = 0
        self.optimizer = torch.optim.AdamW(
            self._master_weights.parameters,
            lr=self.lr,
            betas=(optim.beta1, optim.beta2),
            weight_decay=optim.weight_decay,
            fused=True,
        )
        self._master_weights.serve(self.optimizer)

    def rollout(self, tasks: Sequence[Task], *, campaign: int, step: int, purpose: str = "rollout") -> Rollout:
        """Draw ``sampling.group_size`` completions of each task; ``purpose`` names the random stream."""
        sampling = self.config.sampling
        with self.ranks.sync_errors():
            prompts = self.policy.prompts(tasks, sampling.stop)
            rng = torch_rng_for(self.config.seed, campaign, step, purpose)
            part = self.engine.sample(prompts, sampling.group_size, sampling, rng, only=self.ranks.share(len(tasks)))
        return concatenate(self.ranks.gather([part]))

    def grade(self, tasks: Sequence[Task], rollout: Rollout) -> Batch:
        """Verdicts of all samples. Raises GraderError when the grader fails on too many."""
        repeated = [task for task in tasks for _ in range(rollout.group_size)]
        texts = self.policy.answers(self.policy.prompts(tasks, self.config.sampling.stop), rollout.tokens)
        grades = grade_all(
            self.grader, repeated, texts, max_infra_share=self.config.campaign.max_infra_share, ranks=self.ranks
        )
        shape = (len(tasks), rollout.group_size)
        return Batch(
            rollout=rollout,
            rewards_PG=torch.tensor([g.reward or 0.0 for g in grades]).view(shape),
            valid_PG=torch.tensor([g.reward is not None for g in grades]).view(shape),
            sampled_tokens=sum(rollout.lengths),
        )

    def update(self, graded: Batch) -> UpdateResult:
        """One step of the algorithm, of ``optim.epochs`` gradient steps; the result says how many were taken, since
        none is whose numbers are not finite.

        ``graded`` must be samples of the policy as it is now: they count as its own, whatever it was when they were
        drawn. Several gradient steps on them are ``optim.epochs``, not several calls.
        """
        self._await_copy()
        if self.config.optim.average and self._average is None:
            self._average = WeightAverage(self._own_weights())
        self.updates += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(graded)
        stepper = self._stepper(graded)
        result = update(self.engine, stepper, graded, self.objective(), self.config.optim, self.ranks)
        if (taken := stepper.result) is not None:
            self.step_size.follow(taken, result.taught)
            result = replace(
                result,
                step_kl=taken.moved,
                step_kl_total=self.step_size.total,
                step_limit=taken.limit if math.isfinite(taken.limit) else None,
                step_scale=taken.scale,
                step_shortened=taken.shortened,
            )
        if result.finite:
            self._adapt(graded, result)
            if self._average is not None:
                self._average.add(self._own_weights())
        return result

    def _rate(self, graded: Batch) -> float:
        """What the optimizer gets for the next update."""
        optim = self.config.optim
        if optim.step == "measured":
            return self.step_size.rate_for(graded.failing)
        return self.lr * min(1.0, self.updates / max(optim.warmup_steps, 1))

    def _stepper(self, graded: Batch) -> Stepper:
        """The optimizer with its steps measured; those of a fixed rate have no limit."""
        optim, size, rollout = self.config.optim, self.step_size, graded.rollout
        measured = optim.step == "measured"
        return Stepper(
            self.optimizer,
            self._master_weights.parameters,
            self._master_weights.give_weights,
            Probe(self.engine, rollout, temperature=self.config.sampling.temperature, ranks=self.ranks),
            limit=size.limit(rollout.entropy, graded.failing) if measured else math.inf,
            epochs=optim.epochs,
            search=measured and not size.found,
        )

    def objective(self) -> Objective:
        """What the next update's loss is made of, with the coefficients as they are now."""
        sampling = self.config.sampling
        return Objective(
            algorithm=self.algorithm,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            coefficient=self.penalty.coefficient,
            reference=self.penalty.reference,
            estimator=self.penalty.estimator,
            anchor=self.penalty.anchor,
            entropy_bonus=self.entropy_bonus,
        )

    def _adapt(self, graded: Batch, result: UpdateResult) -> None:
        """Coefficients with a target follow what this step measured."""
        self.penalty.adapt(result.kl)
        algorithm = self.config.algorithm
        if algorithm.entropy_target is not None:
            self.entropy_bonus = adapted_bonus(
                self.entropy_bonus,
                graded.rollout.entropy,
                target=algorithm.entropy_target,
            )

    def evaluate(self, tasks: Sequence[Task], samples: int, *, campaign: int, step: int, purpose: str) -> Evaluation:
        """Measure the policy as it is now; ``purpose`` names the random stream."""
        rng = torch_rng_for(self.config.seed, campaign, step, purpose)
        return evaluate(
            self.engine,
            tasks,
            samples,
            self.grader,
            self.config.sampling,
            rng,
            max_infra_share=self.config.campaign.max_infra_share,
            ranks=self.ranks,
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the policy is the one to measure and to keep: with ``optim.average`` the mean of the iterates
        since the campaign's start or the last roll-back, else the policy as it is."""
        if self._average is None:
            yield
            return
        last = {name: tensor.clone() for name, tensor in self._own_weights().items()}
        self.load_weights(self._average.weights)
        try:
            yield
        finally:
            self.load_weights(last)

    def settle(self, averaged: bool = True) -> None:
        """Replace the weights by their average, or discard the average if not ``averaged``."""
        if self._average is not None and averaged:
            self.load_weights(self._average.weights)
        self._average = None

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trained weights in host memory, tied ones once; of bfloat16 ones, what the optimizer has.

        Of a sharded policy it is this process's rows.
        """
        return Snapshot.of(self._own_weights(), {}).weights

    def _own_weights(self) -> dict[str, Tensor]:
        seen = {p.data_ptr() for p in self.policy.model.parameters() if not p.requires_grad}
        weights: dict[str, Tensor] = {}
        for name, tensor in self._own_state().items():
            if tensor.data_ptr() not in seen or not tensor.numel():
                seen.add(tensor.data_ptr())
                weights[name] = self._master_weights.of(tensor)
        return weights

    def _own_state(self) -> dict[str, Tensor]:
        return {name: local_rows(tensor) for name, tensor in self.policy.model.state_dict().items()}

    def snapshot(self, *, moments: bool) -> Snapshot:
        """What ``roll_back`` returns to, on its way to host memory; the optimizer's ``moments`` where wanted.

        It does not wait for the copy; the next update does, on the device.
        """
        position = {
            "updates": self.updates,
            "coefficient": self.penalty.coefficient,
            "entropy_bonus": self.entropy_bonus,
            "algorithm": self.algorithm.state_dict(),
            "moved": self.step_size.total,
        }
        if moments:
            position["optimizer"] = self.optimizer.state_dict()["state"]
        self._copying = Snapshot.of(self._own_weights(), position)
        return self._copying

    def _await_copy(self) -> None:
        """Call before weights or moments are overwritten."""
        if self._copying is not None:
            self._copying.copy.hold_device()
            self._copying = None

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put ``weights`` (from ``weights()``) into the policy, in place."""
        self._await_copy()
        mine = self._own_state()
        for name, tensor in weights.items():
            mine[name].copy_(tensor)
            if (master := self._master_weights.of(mine[name])) is not mine[name]:
                master.copy_(tensor)

    def roll_back(self, to: Snapshot, *, lr_factor: float, reset_optimizer: bool) -> None:
        """Return to a snapshot of this campaign; from then on the learning rate, or the limit of measured steps, is
        ``lr_factor`` times what it was.

        The penalty's reference is the same in all of a campaign. Moments are the snapshot's, unless they are to be
        forgotten; a snapshot without them leaves them as they are.
        """
        position = to.position
        self.load_weights(to.weights)
        self._average = None
        self.penalty.coefficient, self.entropy_bonus = position["coefficient"], position["entropy_bonus"]
        self.algorithm.load_state_dict(position["algorithm"])
        self.lr *= lr_factor
        self.step_size.roll_back(total=position.get("moved", 0.0), factor=lr_factor)
        if reset_optimizer:
            self.reset_optimizer()
        elif "optimizer" in position:
            self.updates = position["updates"]
            groups = self.optimizer.state_dict()["param_groups"]
            # a copy: loaded as they are, the optimizer would go on in the snapshot's own tensors
            state = copy.deepcopy(position["optimizer"])
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def full_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with whole tensors on the first process, where the policy is sharded; collective."""
        return checkpoint.mapped(partial(full_state, ranks=self.ranks)) if self.policy.sharded else checkpoint

    def local_checkpoint(self, checkpoint: Checkpoint) -> Checkpoint:
        """This rank's shard of a full checkpoint, where the policy is sharded."""
        return checkpoint.mapped(partial(local_state, ranks=self.ranks)) if self.policy.sharded else checkpoint

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights: optimizer, rate, updates so far, coefficients, baseline."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "lr": self.lr,
            "updates": self.updates,
            "penalty": self.penalty.state_dict(),
            "entropy_bonus": self.entropy_bonus,
            "algorithm": self.algorithm.state_dict(),
            "mean": None if self._average is None else self._average.state_dict(),
            "step_size": self.step_size.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``; call with the campaign's first weights loaded if a penalty refers to them."""
        self.begin_campaign(lr=state["lr"])
        self.penalty.load_state_dict(state["penalty"])
        self.entropy_bonus = state["entropy_bonus"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]
        self.algorithm.load_state_dict(state["algorithm"])
        if "step_size" in state:  # runs from before steps were measured have none
            self.step_size.load_state_dict(state["step_size"])
        if state.get("mean") is not None:  # runs from before there were means have none
            self._average = WeightAverage.of(state["mean"], self.policy.device)
