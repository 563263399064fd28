"""A memory of what past training changed, and advice for the next campaign."""

from sr_care.advice import ask
from sr_care.belief import Belief, BeliefConfig, believe
from sr_care.effects import EffectModel, Information
from sr_care.entry import CAPABILITIES, Boundary, CapabilityDelta, Context, Entry, Strategy
from sr_care.errors import CareError, EntryError, StoreError
from sr_care.gate import Caution, Decision, GateConfig, Outlook, TransferGate
from sr_care.memory import CapabilityMemory
from sr_care.planner import VERSIONS, CarePlanner, Plan, PlannerConfig
from sr_care.posterior import Posterior, Prediction
from sr_care.ratio import RatioGate
from sr_care.revision import BeliefRevision, Failure, Revision, RevisionConfig

__all__ = [
    "CAPABILITIES",
    "VERSIONS",
    "Belief",
    "BeliefConfig",
    "BeliefRevision",
    "Boundary",
    "CapabilityDelta",
    "CapabilityMemory",
    "CareError",
    "CarePlanner",
    "Caution",
    "Context",
    "Decision",
    "EffectModel",
    "Entry",
    "EntryError",
    "Failure",
    "GateConfig",
    "Information",
    "Outlook",
    "Plan",
    "PlannerConfig",
    "Posterior",
    "Prediction",
    "RatioGate",
    "Revision",
    "RevisionConfig",
    "StoreError",
    "Strategy",
    "TransferGate",
    "ask",
    "believe",
]
