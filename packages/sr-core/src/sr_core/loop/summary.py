"""Summaries of campaigns and chains: what ``summary.json`` holds. Pass@1 is held-out unless it says audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar

from sr_core.evaluation.capabilities import CapabilityChange

__all__ = ["FIRST", "Audit", "Audited", "CampaignPlan", "CampaignSummary", "ChainAudit", "ChainSummary", "Ood"]

FIRST = -1  # the number of the policy that a chain begins with, among those that its campaigns kept
T = TypeVar("T")


class AsJson:
    """A dataclass that reads like its JSON, too: ``summary["kept"]`` is ``summary.to_json()["kept"]``."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    def __getitem__(self, key: str) -> Any:
        return self.to_json()[key]


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that ``kind`` has fields for; another version may have written others."""
    return {f.name: values[f.name] for f in fields(kind) if f.name in values}


@dataclass(frozen=True, kw_only=True)
class CampaignPlan(AsJson):
    """How a campaign is run: a planner's advice, or the configuration. ``state``: what was known before it."""

    action: str
    steps: int
    lr: float
    penalty: float | None
    start_from: Literal["kept"] | int
    reason: str
    state: dict[str, Any] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CampaignPlan:
        return cls(**_known(cls, values))

    def source(self, campaign: int) -> int:
        """The number of the campaign that kept the policy this plan starts from, or ``FIRST``."""
        return campaign - 1 if self.start_from == "kept" else int(self.start_from)


@dataclass(frozen=True, kw_only=True)
class Ood(AsJson):
    """Passes per out-of-distribution task; ``drawn`` samples were drawn in all."""

    passes: list[int]
    samples: int
    drawn: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Ood:
        return cls(**_known(cls, values))


@dataclass(frozen=True, kw_only=True)
class Audited:
    """Pass@1 on the audit set: of all samples, and of either half of them."""

    pass1: float
    halves: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ChainAudit(AsJson):
    """A chain's audit: the four policies of its summary, on ``tasks`` tasks with ``samples`` samples each."""

    start: float
    peak: float
    end: float
    kept: float
    tasks: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Audit(ChainAudit):
    """A campaign's audit. ``halves``: each of the four on either half of the samples."""

    halves: dict[str, list[float]] | None = None

    def of(self, name: Literal["start", "kept"]) -> Audited | None:
        """One of the four; None where a run of an older version has no halves."""
        if self.halves is None:
            return None
        first, second = self.halves[name]
        return Audited(pass1=getattr(self, name), halves=(first, second))


@dataclass(frozen=True, kw_only=True)
class CampaignSummary(AsJson):
    """One campaign. ``start``, ``peak``, ``end``, ``kept``: held-out pass@1, None where it was not measured.

    ``kept_step``: whose policy is carried forward; with ``kept_iterate`` it is that step's last iterate, not the
    average. ``steps`` were taken of ``budget``; ``skipped`` of them were not finite. ``se``: standard error of the
    change from the first evaluation to the last. ``signals``: of the last step, for a planner. ``capabilities``: what
    changed from the first policy to the kept one. ``plan``, ``ood`` (of the kept policy) and ``ood_samples`` (drawn for
    it) are set where a planner watches.
    """

    campaign: int
    start: float | None
    peak: float | None
    peak_step: int
    end: float | None
    kept: float | None
    kept_step: int
    kept_iterate: bool
    steps: int
    budget: int
    skipped: int
    se: float | None
    signals: dict[str, float | None]
    capabilities: CapabilityChange | None
    audit: Audit | None = None
    plan: CampaignPlan | None = None
    ood: Ood | None = None
    ood_samples: int | None = None

    def to_json(self) -> dict[str, Any]:
        absent = {"audit"} if self.audit is None else set()
        absent |= {"plan", "ood", "ood_samples"} if self.plan is None else set()
        return {key: value for key, value in asdict(self).items() if key not in absent}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CampaignSummary:
        known = _known(cls, values)
        kinds = {"capabilities": CapabilityChange, "audit": Audit, "plan": CampaignPlan, "ood": Ood}
        for key, kind in kinds.items():
            if known.get(key) is not None:
                known[key] = kind(**_known(kind, known[key]))
        return cls(**known)

    def planned(self, plan: CampaignPlan, ood: Ood | None, ood_samples: int) -> CampaignSummary:
        """With what a chain with a planner adds."""
        return replace(self, plan=plan, ood=ood, ood_samples=ood_samples)


@dataclass(frozen=True, kw_only=True)
class ChainSummary(AsJson):
    """A chain: start of the first campaign, best peak, end of the last, and kept of the one that is carried forward.

    ``audit`` is of these same four policies: the peak is chosen on held-out tasks alone.
    """

    start: float | None
    peak: float | None
    peak_step: int
    peak_campaign: int
    end: float | None
    kept: float | None
    kept_campaign: int
    audit: ChainAudit | None
    campaigns: list[CampaignSummary]

    @classmethod
    def of(cls, campaigns: Sequence[CampaignSummary], carried: int | None = None) -> ChainSummary:
        """``carried``: the number of the campaign whose kept policy is carried forward, the last one if left out."""
        measured = [s for s in campaigns if s.peak is not None]
        best = max(measured, key=lambda s: s.peak or 0.0) if measured else campaigns[0]
        first, last = campaigns[0], campaigns[-1]
        kept = last if carried is None else campaigns[carried]
        return cls(
            start=first.start,
            peak=best.peak,
            peak_step=best.peak_step,
            peak_campaign=best.campaign,
            end=last.end,
            kept=first.start if carried == FIRST else kept.kept,
            kept_campaign=last.campaign if carried is None else carried,
            audit=_chain_audit(first.audit, best.audit, last.audit, kept.audit, whole=carried == FIRST),
            campaigns=list(campaigns),
        )

    def to_json(self) -> dict[str, Any]:
        whole = {f.name: getattr(self, f.name) for f in fields(self)}
        whole["audit"] = None if self.audit is None else self.audit.to_json()
        whole["campaigns"] = [campaign.to_json() for campaign in self.campaigns]
        return {key: value for key, value in whole.items() if key != "audit" or value is not None}


def _chain_audit(
    first: Audit | None, best: Audit | None, last: Audit | None, kept: Audit | None, *, whole: bool
) -> ChainAudit | None:
    """``whole``: the policy carried forward is the chain's first one."""
    if first is None or best is None or last is None or kept is None:
        return None
    return ChainAudit(
        start=first.start,
        peak=best.peak,
        end=last.end,
        kept=first.start if whole else kept.kept,
        tasks=last.tasks,
        samples=last.samples,
    )
