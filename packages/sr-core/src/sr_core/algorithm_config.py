"""``[algorithm]``: one frozen dataclass per algorithm, with that algorithm's options. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sr_core.sections import Variants, require


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """What every algorithm has; its variants are in ``ALGORITHM``.

    ``entropy_bonus``: added to the objective, per nat of entropy per token. With ``entropy_target`` (nats per token) it
    rises by a fixed rate after a step below the target and falls after one above (``sr_core.penalties.control``).
    """

    name: ClassVar[str]

    entropy_bonus: float = 0.0
    entropy_target: float | None = None

    def __post_init__(self) -> None:
        target = self.entropy_target
        require(self.entropy_bonus >= 0, "algorithm.entropy_bonus", "must not be negative", self.entropy_bonus)
        require(target is None or target > 0, "algorithm.entropy_target", "must be above 0", target)

    @property
    def compares_samples(self) -> bool:
        """Whether advantages are relative to the prompt's other samples, hence 0 for a sample without others."""
        return True

    @property
    def tries(self) -> int:
        """How often a step replaces prompts whose samples have equal rewards."""
        return 0

    def options(self) -> dict[str, Any]:
        """The variant's own fields, which its algorithm takes."""
        shared = AlgorithmConfig.__dataclass_fields__
        return {key: getattr(self, key) for key in self.__dataclass_fields__ if key not in shared}


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(AlgorithmConfig):
    """REINFORCE; ``ema_decay`` is for the baseline ``ema``."""

    name: ClassVar[str] = "reinforce"

    baseline: Literal["none", "batch_mean", "leave_one_out", "ema"] = "batch_mean"
    ema_decay: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.ema_decay < 1, "algorithm.ema_decay", "must lie between 0 and 1", self.ema_decay)

    @property
    def compares_samples(self) -> bool:
        """Only with the baseline of the other samples."""
        return self.baseline == "leave_one_out"


@dataclass(frozen=True, kw_only=True)
class ClippedConfig(AlgorithmConfig):
    """Algorithms that bound the probability ratio to [1 - clip, 1 + clip_high]; left out, ``clip_high`` is ``clip``."""

    clip: float = 0.2
    clip_high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.clip < 1, "algorithm.clip", "must lie between 0 and 1", self.clip)
        require(self.clip_high is None or self.clip_high > 0, "algorithm.clip_high", "must be above 0", self.clip_high)


@dataclass(frozen=True, kw_only=True)
class ReinforcePlusPlusConfig(ClippedConfig):
    """REINFORCE++."""

    name: ClassVar[str] = "reinforce++"


@dataclass(frozen=True, kw_only=True)
class RlooConfig(ClippedConfig):
    """RLOO."""

    name: ClassVar[str] = "rloo"


@dataclass(frozen=True, kw_only=True)
class GrpoConfig(ClippedConfig):
    """GRPO."""

    name: ClassVar[str] = "grpo"


@dataclass(frozen=True, kw_only=True)
class DrGrpoConfig(ClippedConfig):
    """Dr. GRPO."""

    name: ClassVar[str] = "dr_grpo"


@dataclass(frozen=True, kw_only=True)
class DapoConfig(ClippedConfig):
    """DAPO. ``resample``: how often in a step prompts whose samples have equal rewards are replaced by others."""

    name: ClassVar[str] = "dapo"

    clip_high: float | None = 0.28
    resample: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.resample >= 0, "algorithm.resample", "must not be negative", self.resample)

    @property
    def tries(self) -> int:
        """``resample``."""
        return self.resample

    def options(self) -> dict[str, Any]:
        """Those of its update; resampling is the campaign's."""
        return {key: value for key, value in super().options().items() if key != "resample"}


@dataclass(frozen=True, kw_only=True)
class GspoConfig(ClippedConfig):
    """GSPO, whose ratios are those of whole sequences."""

    name: ClassVar[str] = "gspo"

    clip: float = 3e-4
    clip_high: float | None = 4e-4


@dataclass(frozen=True, kw_only=True)
class CappedConfig(AlgorithmConfig):
    """Algorithms that bound the probability ratio from above only, at 1 + ``clip_high``."""

    clip_high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip_high > 0, "algorithm.clip_high", "must be above 0", self.clip_high)


@dataclass(frozen=True, kw_only=True)
class CispoConfig(CappedConfig):
    """CISPO."""

    name: ClassVar[str] = "cispo"

    clip_high: float = 4.0


@dataclass(frozen=True, kw_only=True)
class WapoConfig(CappedConfig):
    """WAPO."""

    name: ClassVar[str] = "wapo"

    clip_high: float = 9.0


@dataclass(frozen=True, kw_only=True)
class ToprConfig(AlgorithmConfig):
    """TOPR."""

    name: ClassVar[str] = "topr"


@dataclass(frozen=True, kw_only=True)
class AsymReConfig(AlgorithmConfig):
    """AsymRE: REINFORCE with a baseline ``baseline_shift`` below the prompt's mean reward."""

    name: ClassVar[str] = "asymre"

    baseline_shift: float = -0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.baseline_shift <= 0, "algorithm.baseline_shift", "must not be above 0", self.baseline_shift)


ALGORITHM: Variants[AlgorithmConfig] = Variants(
    (
        ReinforceConfig,
        ReinforcePlusPlusConfig,
        RlooConfig,
        GrpoConfig,
        DrGrpoConfig,
        DapoConfig,
        GspoConfig,
        CispoConfig,
        WapoConfig,
        ToprConfig,
        AsymReConfig,
    )
)
