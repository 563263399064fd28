"""What a run of this package can be told, as frozen dataclasses that validate on creation. Loads no torch.

Every class is one TOML section; ``sections.build`` makes one from a plain mapping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sr_core.sections import require


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which model is trained. ``path``: a shipped policy's name or a local Hugging Face folder."""

    path: str = "pocket-rich"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    # scores over the vocabulary: multiplied as the weights are, or in float32 (slower, and free of bfloat16's rounding)
    head_dtype: Literal["same", "float32"] = "same"
    # on CUDA, sampling records the work for a token once and replays it; holds memory for all samples' keys and values
    cuda_graphs: bool = True
    # on CUDA, the update's attention is compiled and leaves out what nobody sees; for long prompts and completions
    flex_attention: bool = False
    # 0 trains all weights; above, only low-rank adapters of this rank (needs sr-core[lora])
    lora_rank: int = 0
    # several processes keep a part of the weights each, and of gradients and moments (FSDP2), instead of all of them
    sharded: bool = False
    # "completion" continues the task's prompt; "chat" asks through the tokenizer's chat template
    prompt: Literal["completion", "chat"] = "completion"

    def __post_init__(self) -> None:
        require(self.lora_rank >= 0, "policy.lora_rank", "must not be negative", self.lora_rank)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How completions are drawn: ``prompts`` tasks per step, ``group_size`` samples for each."""

    prompts: int = 16
    group_size: int = 16
    temperature: float = 0.7
    # drawn from the smallest set of tokens that holds this much of the probability; 1 draws from all
    top_p: float = 1.0
    max_new_tokens: int = 48
    # sequences decoded at once; bounds memory, changes no result but the order of random draws
    batch_size: int = 512

    def __post_init__(self) -> None:
        require(self.prompts >= 1, "sampling.prompts", "must be at least 1", self.prompts)
        require(self.group_size >= 1, "sampling.group_size", "must be at least 1", self.group_size)
        require(self.temperature > 0, "sampling.temperature", "must be above 0", self.temperature)
        require(0 < self.top_p <= 1, "sampling.top_p", "must lie in (0, 1]", self.top_p)
        require(self.max_new_tokens >= 1, "sampling.max_new_tokens", "must be at least 1", self.max_new_tokens)
        require(self.batch_size >= 1, "sampling.batch_size", "must be at least 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """Which update is applied. ``reinforce`` reads ``baseline`` and ``ema_decay``, ``asymre`` reads ``baseline_shift``.

    ``clip`` and ``clip_high`` bound the probability ratio to [1 - clip, 1 + clip_high]; left out, each algorithm has
    its own (see its file). ``resample``: how often in a step prompts whose samples have equal rewards are replaced by
    others; left out, 3 for ``dapo`` and 0 for the rest. ``entropy_bonus``: nats per token, times this, are added to the
    objective of any of them; with ``entropy_target`` it rises by ``entropy_rate`` after a step below, and falls above.
    """

    name: Literal[
        "reinforce",
        "reinforce++",
        "rloo",
        "grpo",
        "dr_grpo",
        "dapo",
        "gspo",
        "cispo",
        "wapo",
        "topr",
        "asymre",
    ] = "reinforce"
    baseline: Literal["none", "batch_mean", "leave_one_out", "ema"] = "batch_mean"
    ema_decay: float = 0.9
    baseline_shift: float = -0.1
    clip: float | None = None
    clip_high: float | None = None
    resample: int | None = None
    entropy_bonus: float = 0.0
    entropy_target: float | None = None
    entropy_rate: float = 0.005

    def __post_init__(self) -> None:
        require(0 < self.ema_decay < 1, "algorithm.ema_decay", "must lie between 0 and 1", self.ema_decay)
        require(self.baseline_shift <= 0, "algorithm.baseline_shift", "must not be above 0", self.baseline_shift)
        require(self.clip is None or 0 < self.clip < 1, "algorithm.clip", "must lie between 0 and 1", self.clip)
        require(self.clip_high is None or self.clip_high > 0, "algorithm.clip_high", "must be above 0", self.clip_high)
        require(
            self.resample is None or self.resample >= 0, "algorithm.resample", "must not be negative", self.resample
        )
        require(self.entropy_bonus >= 0, "algorithm.entropy_bonus", "must not be negative", self.entropy_bonus)
        require(
            self.entropy_target is None or self.entropy_target > 0,
            "algorithm.entropy_target",
            "must be above 0",
            self.entropy_target,
        )
        require(self.entropy_rate > 0, "algorithm.entropy_rate", "must be above 0", self.entropy_rate)

    @property
    def compares_samples(self) -> bool:
        """Whether advantages are relative to the other samples of the prompt, hence 0 for a sample without others."""
        return self.name != "reinforce" or self.baseline == "leave_one_out"

    @property
    def tries(self) -> int:
        """``resample``, or the algorithm's own."""
        return {"dapo": 3}.get(self.name, 0) if self.resample is None else self.resample


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW. The rate rises linearly over ``warmup_steps`` updates, from a fresh optimizer on, then stays.

    ``micro_batch_tokens`` bounds the tokens of one backward pass, ``merge_duplicates`` computes equal samples once;
    neither changes a gradient. ``average``: the policy that is measured, kept and handed on is the mean of the
    campaign's iterates, while the training goes on from the last one; left out, no (with the ``guard``: yes).
    """

    lr: float = 1e-6
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: int = 1
    micro_batch_tokens: int = 4096
    merge_duplicates: bool = True
    average: bool | None = None

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", "must be above 0", self.lr)
        require(self.warmup_steps >= 0, "optim.warmup_steps", "must not be negative", self.warmup_steps)
        require(0 <= self.beta1 < 1, "optim.beta1", "must lie in [0, 1)", self.beta1)
        require(0 <= self.beta2 < 1, "optim.beta2", "must lie in [0, 1)", self.beta2)
        require(self.weight_decay >= 0, "optim.weight_decay", "must not be negative", self.weight_decay)
        require(self.max_grad_norm > 0, "optim.max_grad_norm", "must be above 0", self.max_grad_norm)
        require(self.epochs >= 1, "optim.epochs", "must be at least 1", self.epochs)
        require(
            self.micro_batch_tokens >= 1,
            "optim.micro_batch_tokens",
            "must be at least 1",
            self.micro_batch_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig:
    """A pull towards an earlier policy. ``reference``: the run's first policy or the campaign's first.

    ``kl`` reads ``estimator`` and, where ``target`` (nats per token) is given, adapts its coefficient at ``rate``.
    ``strong_kl`` is the anchor of arXiv 2606.21090, which calls it EWC: ``kl`` at a fixed 0.05. ``ewc`` weighs each
    parameter by its Fisher information, from ``fisher_samples`` sequences. ``equal_groups``: whether prompts without
    any advantage feel the penalty (and the entropy bonus), too.
    """

    name: Literal["none", "kl", "strong_kl", "ewc"] = "none"
    coefficient: float = 0.05
    reference: Literal["base", "campaign_start"] = "base"
    estimator: Literal["k1", "k2", "k3"] = "k3"
    target: float | None = None
    rate: float = 0.1
    equal_groups: bool = False
    fisher_samples: int = 256

    def __post_init__(self) -> None:
        require(self.coefficient >= 0, "penalty.coefficient", "must not be negative", self.coefficient)
        require(self.target is None or self.target > 0, "penalty.target", "must be above 0", self.target)
        require(
            self.target is None or self.name == "kl", "penalty.target", "goes with penalty.name 'kl' only", self.target
        )
        require(
            self.name != "strong_kl" or self.coefficient == 0.05,
            "penalty.coefficient",
            "must be left at 0.05 for penalty.name 'strong_kl' (use 'kl' to choose it)",
            self.coefficient,
        )
        require(0 < self.rate <= 1, "penalty.rate", "must lie in (0, 1]", self.rate)
        require(self.fisher_samples >= 1, "penalty.fisher_samples", "must be at least 1", self.fisher_samples)

    @property
    def pulls_by_samples(self) -> bool:
        """Whether it is estimated on the step's samples, with a reference policy that scores them."""
        return self.name in ("kl", "strong_kl")


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """How long: ``count`` campaigns of at most ``steps`` updates, each from the policy handed on before."""

    count: int = 1
    steps: int = 60
    # a checkpoint is written after every this many steps; between two of them a resume trains again
    checkpoint_every: int = 1
    # share of samples that the grader itself may fail on, in one step, before the run stops
    max_infra_share: float = 0.25

    def __post_init__(self) -> None:
        require(self.count >= 1, "campaign.count", "must be at least 1", self.count)
        require(self.steps >= 1, "campaign.steps", "must be at least 1", self.steps)
        require(
            self.checkpoint_every >= 1,
            "campaign.checkpoint_every",
            "must be at least 1",
            self.checkpoint_every,
        )
        require(
            0 <= self.max_infra_share <= 1,
            "campaign.max_infra_share",
            "must lie in [0, 1]",
            self.max_infra_share,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Held-out evaluation: ``samples`` per task at the training temperature, after every ``every`` steps (left out,
    every step, or what a guard on a budget takes).

    ``audit_samples``: per audit task, at start, peak, end and kept of each campaign; 0 leaves the audit out.
    No decision sees the audit.
    """

    samples: int = 16
    every: int | None = None
    audit_samples: int = 16

    def __post_init__(self) -> None:
        require(self.samples >= 1, "evaluate.samples", "must be at least 1", self.samples)
        require(self.every is None or self.every >= 1, "evaluate.every", "must be at least 1", self.every)
        require(self.audit_samples >= 0, "evaluate.audit_samples", "must not be negative", self.audit_samples)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that a campaign needs to know; one field per section of the configuration file."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    campaign: CampaignConfig = field(default_factory=CampaignConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        name = self.algorithm.name
        by = f"algorithm.name {name!r}" + (" with baseline 'leave_one_out'" if name == "reinforce" else "")
        require(
            self.sampling.group_size >= 2 or not self.algorithm.compares_samples,
            "sampling.group_size",
            f"must be at least 2 for {by}, which compares a prompt's samples with each other and would learn nothing "
            "(of one sample 'reinforce' learns, with another baseline than 'leave_one_out')",
            self.sampling.group_size,
        )
