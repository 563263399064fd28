"""What this package needs of a task, a grader, a guard and a planner: plain shapes, met by anyone's classes.

Nothing here is implemented here. ``sr_reward.Task`` and ``CodeGrader``, the guards of ``sr_monitor`` and the planner
of ``sr_care`` fit; so does a class of your own with the same methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

LAST_ITERATE = -1  # where steps stand for means of a campaign's iterates: the name of the last iterate itself


class Task(Protocol):
    """A problem; a policy without a prompter continues ``prompt`` as it is."""

    @property
    def task_id(self) -> str: ...
    @property
    def prompt(self) -> str: ...


class Prompt(Protocol):
    """A task as a model sees it: ``text`` to continue, or else ``messages`` of a conversation (``role``, ``content``).

    ``prefill``: how the answer begins. ``stop``: texts before which an answer ends.
    """

    @property
    def text(self) -> str: ...
    @property
    def messages(self) -> Sequence[Mapping[str, str]]: ...
    @property
    def prefill(self) -> str: ...
    @property
    def stop(self) -> Sequence[str]: ...


class Prompter(Protocol):
    """Renders a task as a conversation or as a text to continue: ``sr_reward.prompts.Prompter`` fits."""

    def __call__(self, task: Any, *, chat: bool) -> Prompt: ...


class Grade(Protocol):
    """A verdict: ``reward`` is 1.0 or 0.0, or None when the grader itself failed (never a wrong answer)."""

    @property
    def outcome(self) -> str: ...
    @property
    def reward(self) -> float | None: ...


class Grader(Protocol):
    """Judges ``completions[i]`` as an answer to ``tasks[i]``; the answer has the same length and order."""

    def grade(self, tasks: Sequence[Any], completions: Sequence[str]) -> Sequence[Grade]: ...


class Request(Protocol):
    """An evaluation a guard wants: the policy of ``step`` (or ``LAST_ITERATE``), ``samples`` per task, of all tasks or
    of ``tasks``."""

    @property
    def step(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def tasks(self) -> Sequence[int] | None: ...


class Decision(Protocol):
    """What to do after a step, and why: the rule, the value that met it and its limit."""

    @property
    def action(self) -> Literal["continue", "stop", "roll_back"]: ...
    @property
    def rule(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def to_step(self) -> int | None: ...
    @property
    def lr_factor(self) -> float: ...
    @property
    def reset_optimizer(self) -> bool: ...


class Guard(Protocol):
    """Watches one campaign: asks for evaluations, is told their results, decides. Same history, same answer.

    ``reset_optimizer``: whether its roll-backs forget the optimizer's moments; where not, retained steps keep theirs.
    ``lr_scale``: what a chain multiplies the next campaign's learning rate by; 1.0 where it never changes.
    """

    @property
    def lr_scale(self) -> float: ...
    @property
    def reset_optimizer(self) -> bool: ...

    def begin(self, campaign: int, steps: int, tasks: int | None = None) -> int:
        """Start a campaign of at most ``steps`` updates; return how many it may have.

        ``tasks``: the number of held-out tasks, None where it is not known.
        """

    def ask(self, step: int) -> Request | None:
        """The next evaluation wanted after ``step``; None when nothing more is wanted."""

    def tell(self, step: int, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None) -> None:
        """The result of an evaluation: of each task, how many of ``samples`` passed."""

    def decide(self, step: int, signals: Mapping[str, float | None]) -> Decision:
        """What to do after ``step``, given that step's row of numbers."""

    def retained(self) -> frozenset[int]:
        """Steps whose policies must be retained."""

    def kept(self) -> int:
        """The step whose policy is kept if the campaign ends now; at its last step it may be ``LAST_ITERATE``."""

    def state_dict(self) -> dict[str, Any]:
        """All that was learned so far, fit for JSON."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""


class Plan(Protocol):
    """How to run the next campaign; with ``steps`` 0 the policy stays as it is.

    ``start_from``: "kept", the policy that the last campaign kept, or the number of an earlier campaign whose kept
    policy the planner had retained; -1 is the policy that the chain began with.
    """

    @property
    def action(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def penalty(self) -> float | None: ...
    @property
    def start_from(self) -> Literal["kept"] | int: ...
    @property
    def reason(self) -> str: ...


class Planner(Protocol):
    """Advises between campaigns and learns from what came of them. ``record`` twice is ``record`` once."""

    def plan(self, campaign: int, context: Mapping[str, Any]) -> Plan:
        """How to run ``campaign``; asked once more after the last one, for the policy carried forward."""

    def retained(self, campaign: int) -> frozenset[int]:
        """Campaigns before ``campaign`` whose kept policies must be retained (-1: the chain's first policy)."""

    def record(self, campaign: int, outcome: Mapping[str, Any]) -> None:
        """What came of ``campaign``."""
