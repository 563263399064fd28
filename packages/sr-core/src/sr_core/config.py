"""The configuration of a training run, as frozen dataclasses that validate on creation. Loads no torch.

A class is a TOML section, or one variant of ``[penalty]`` (those of ``[algorithm]`` are in ``algorithm_config``), which
the key ``name`` chooses; ``sections.build`` makes one from a plain mapping.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sr_core.algorithm_config import (
    ALGORITHM,
    AlgorithmConfig,
    AsymReConfig,
    CispoConfig,
    DapoConfig,
    DrGrpoConfig,
    GrpoConfig,
    GspoConfig,
    ReinforceConfig,
    ReinforcePlusPlusConfig,
    RlooConfig,
    ToprConfig,
    WapoConfig,
)
from sr_core.sections import Variants, require

__all__ = [
    "ALGORITHM",
    "PENALTY",
    "SECTIONS",
    "AlgorithmConfig",
    "AsymReConfig",
    "CampaignConfig",
    "CispoConfig",
    "DapoConfig",
    "DrGrpoConfig",
    "EvaluateConfig",
    "EwcConfig",
    "GrpoConfig",
    "GspoConfig",
    "KlConfig",
    "NoPenaltyConfig",
    "OptimConfig",
    "PenaltyConfig",
    "PolicyConfig",
    "PullConfig",
    "ReinforceConfig",
    "ReinforcePlusPlusConfig",
    "RlooConfig",
    "SamplingConfig",
    "ToprConfig",
    "TrainConfig",
    "WapoConfig",
]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which model is trained. ``path``: a shipped policy's name or a local Hugging Face folder.

    ``cuda_graphs`` and ``flex_attention`` are experimental: they have never run on a GPU, so they are off by default.
    """

    path: str = "pocket-rich"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    # precision of the logits: that of the weights, or float32 (slower, without bfloat16's rounding)
    head_dtype: Literal["same", "float32"] = "same"
    # experimental, on CUDA: sampling records the work for one token and replays it; needs memory for all samples' cache
    cuda_graphs: bool = False
    # experimental, on CUDA: the update's attention is compiled and skips masked blocks; for long sequences
    flex_attention: bool = False
    # 0 trains all weights; above, only low-rank adapters of this rank (needs sr-core[lora])
    lora_rank: int = 0
    # with several processes, each keeps a part of the weights, gradients and moments (FSDP2) instead of all of them
    sharded: bool = False
    # "completion" continues a text; "chat" asks through the tokenizer's chat template; "auto" asks where there is one
    prompt: Literal["auto", "completion", "chat"] = "auto"
    # solved examples before a text to continue; left out, as many as the template says
    shots: int | None = None
    # a file (TOML or JSON) with a prompt template in place of each task format's own
    template: str = ""

    def __post_init__(self) -> None:
        require(self.lora_rank >= 0, "policy.lora_rank", "must not be negative", self.lora_rank)
        require(self.shots is None or self.shots >= 0, "policy.shots", "must not be negative", self.shots)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How completions are drawn: ``prompts`` tasks per step, ``group_size`` samples for each.

    ``temperature`` 0 takes the likeliest token every time, for evaluations; training needs one above 0.
    """

    prompts: int = 16
    group_size: int = 16
    temperature: float = 0.7
    # nucleus sampling: the smallest set of tokens with this much of the probability; 1 samples from all
    top_p: float = 1.0
    max_new_tokens: int = 48
    # texts that end a completion, which is graded without them; left out, those of the task's template
    stop: list[str] | None = None
    # sequences decoded at once; bounds memory and changes the order of random draws, nothing else
    batch_size: int = 512

    def __post_init__(self) -> None:
        require(self.prompts >= 1, "sampling.prompts", "must be at least 1", self.prompts)
        require(self.group_size >= 1, "sampling.group_size", "must be at least 1", self.group_size)
        require(self.temperature >= 0, "sampling.temperature", "must not be negative", self.temperature)
        require(all(self.stop or ()), "sampling.stop", "must hold no empty text", self.stop)
        require(0 < self.top_p <= 1, "sampling.top_p", "must lie in (0, 1]", self.top_p)
        require(self.max_new_tokens >= 1, "sampling.max_new_tokens", "must be at least 1", self.max_new_tokens)
        require(self.batch_size >= 1, "sampling.batch_size", "must be at least 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW. The learning rate rises linearly over the first ``warmup_steps`` updates of a fresh optimizer.

    ``micro_batch_tokens`` bounds the tokens of one backward pass and changes no gradient. ``average``: the policy that
    is evaluated and kept is the mean of the campaign's iterates, while training continues from the last one; left out,
    on with ``guard.name = "collapse"`` and off without.

    ``step``: with ``measured`` steps a step moves the policy by at most ``step_kl`` nats per token (left out: a share
    of the samples' entropy, see ``sr_core.optim.step_size``); the rate follows, ``lr`` is a first guess and may be left
    out, and there is no warm-up.
    """

    lr: float = 1e-6
    step: Literal["fixed", "measured"] = "fixed"
    step_kl: float | None = None
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: int = 1
    micro_batch_tokens: int = 4096
    average: bool | None = None

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", "must be above 0", self.lr)
        require(self.step_kl is None or self.step_kl > 0, "optim.step_kl", "must be above 0", self.step_kl)
        require(
            self.step_kl is None or self.step == "measured",
            "optim.step_kl",
            "goes with optim.step 'measured' only",
            self.step_kl,
        )
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
    """What pulls the policy towards an earlier one; its variants are in ``PENALTY``."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class NoPenaltyConfig(PenaltyConfig):
    """No penalty."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True, kw_only=True)
class PullConfig(PenaltyConfig):
    """A penalty with a ``coefficient``; ``reference``: the run's first policy or the campaign's first.

    Prompts without any advantage feel neither the penalty nor the entropy bonus.
    """

    coefficient: float = 0.05
    reference: Literal["base", "campaign_start"] = "base"

    def __post_init__(self) -> None:
        require(self.coefficient >= 0, "penalty.coefficient", "must not be negative", self.coefficient)


@dataclass(frozen=True, kw_only=True)
class KlConfig(PullConfig):
    """KL divergence, estimated on the step's samples. With ``target`` (nats per token) its coefficient adapts.

    With the defaults it is the anchor of arXiv 2606.21090, which calls it EWC.
    """

    name: ClassVar[str] = "kl"

    estimator: Literal["k1", "k2", "k3"] = "k3"
    target: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.target is None or self.target > 0, "penalty.target", "must be above 0", self.target)


@dataclass(frozen=True, kw_only=True)
class EwcConfig(PullConfig):
    """Elastic weight consolidation; Fisher information from ``fisher_samples`` sequences of the reference policy."""

    name: ClassVar[str] = "ewc"

    fisher_samples: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.fisher_samples >= 1, "penalty.fisher_samples", "must be at least 1", self.fisher_samples)


PENALTY: Variants[PenaltyConfig] = Variants((NoPenaltyConfig, KlConfig, EwcConfig))


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """How long: ``count`` campaigns of at most ``steps`` updates, each from the policy kept by the one before."""

    count: int = 1
    steps: int = 60
    # steps between checkpoints; left out, as many as keep them within 5% of the wall clock, after an interrupt none. A
    # resumed run repeats the steps since the last one, bit for bit
    checkpoint_every: int | None = None
    # the run stops when the grader itself fails on more than this share of a step's samples
    max_infra_share: float = 0.25

    def __post_init__(self) -> None:
        require(self.count >= 1, "campaign.count", "must be at least 1", self.count)
        require(self.steps >= 1, "campaign.steps", "must be at least 1", self.steps)
        require(
            self.checkpoint_every is None or self.checkpoint_every >= 1,
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
    """Held-out evaluation: ``samples`` per task at the training temperature, after every ``every`` steps; left out,
    every step, or as the guard's budget allows.

    ``audit_samples``: per audit task, at start, peak, end and kept of each campaign; 0 leaves the audit out. The audit
    set is a test set: it is never used for decisions.
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
    """What a trainer needs; one field per section of the configuration file."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    algorithm: AlgorithmConfig = field(default_factory=ReinforceConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    penalty: PenaltyConfig = field(default_factory=NoPenaltyConfig)
    campaign: CampaignConfig = field(default_factory=CampaignConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        heat = self.sampling.temperature
        require(heat > 0, "sampling.temperature", "must be above 0 to train", heat)
        name, size = self.algorithm.name, self.sampling.group_size
        by = f"algorithm.name {name!r}" + (" with baseline 'leave_one_out'" if name == "reinforce" else "")
        require(
            size >= 2 or not self.algorithm.compares_samples,
            "sampling.group_size",
            f"must be at least 2 for {by}, which compares a prompt's samples with each other "
            "(one sample is enough for 'reinforce' with another baseline)",
            size,
        )


# section -> what it is made of; ``TrainConfig`` has a field for each
SECTIONS: dict[str, type[Any] | Variants[Any]] = {
    "policy": PolicyConfig,
    "sampling": SamplingConfig,
    "algorithm": ALGORITHM,
    "optim": OptimConfig,
    "penalty": PENALTY,
    "campaign": CampaignConfig,
    "evaluate": EvaluateConfig,
}
