"""The policies that a campaign may still return to, in host memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sr_core.errors import ConfigError
from sr_core.protocols import LAST_ITERATE, Decision
from sr_core.runs.checkpoint import Checkpoint
from sr_core.runs.snapshot import Snapshot
from sr_core.trainer import Trainer

__all__ = ["RetainedPolicies"]


class RetainedPolicies:
    """Snapshots of the trainer by step, and the policy it has now, that of ``step``."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.step = 0
        self.snapshots: dict[int, Snapshot] = {}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take the snapshots of ``checkpoint``."""
        self.step = checkpoint.step
        self.snapshots = {
            step: Snapshot.of(weights, checkpoint.positions[step], copied=True)
            for step, weights in checkpoint.retained.items()
        }

    def keep(self, wanted: set[int], *, moments: bool) -> None:
        """Retain the ``wanted`` steps, this one among them if it is wanted, and drop all others.

        ``moments``: with the optimizer's moments, which are most of a snapshot.
        """
        if self.step in wanted:
            with self.trainer.averaged():
                self.snapshots[self.step] = self.trainer.snapshot(moments=moments)
        self.snapshots = {step: snapshot for step, snapshot in self.snapshots.items() if step in wanted}

    @contextmanager
    def policy_of(self, step: int) -> Iterator[None]:
        """Within it, the trainer has the policy of ``step`` (or ``LAST_ITERATE``); afterwards, what it had before."""
        if step == LAST_ITERATE:
            yield
            return
        if step == self.step:
            with self.trainer.averaged():
                yield
            return
        current = self.trainer.weights()
        self.trainer.load_weights(self.snapshots[step].weights)
        try:
            yield
        finally:
            self.trainer.load_weights(current)

    def roll_back(self, decision: Decision) -> None:
        """Return to the step that ``decision`` names. Raises ConfigError when it is not retained."""
        if decision.to_step is None or decision.to_step not in self.snapshots:
            raise ConfigError(f"a guard may roll back to a step that it retains, got {decision.to_step}")
        self.trainer.roll_back(
            self.snapshots[decision.to_step],
            lr_factor=decision.lr_factor,
            reset_optimizer=decision.reset_optimizer,
        )

    def settle(self, kept: int) -> None:
        """Put the policy of step ``kept`` (or ``LAST_ITERATE``) into the trainer, for good."""
        self.trainer.settle(averaged=kept != LAST_ITERATE)
        if kept not in (self.step, LAST_ITERATE):
            self.trainer.load_weights(self.snapshots[kept].weights)
