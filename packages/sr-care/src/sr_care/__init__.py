"""A memory of what past training changed, and advice for the next campaign."""

from sr_care.entry import CAPABILITIES, Boundary, CapabilityDelta, Context, Entry, Strategy
from sr_care.errors import CareError, EntryError, StoreError
from sr_care.memory import CapabilityMemory
from sr_care.planner import CarePlanner, Plan, PlannerConfig
from sr_care.ratio import RatioGate

__all__ = [
    "CAPABILITIES",
    "Boundary",
    "CapabilityDelta",
    "CapabilityMemory",
    "CareError",
    "CarePlanner",
    "Context",
    "Entry",
    "EntryError",
    "Plan",
    "PlannerConfig",
    "RatioGate",
    "StoreError",
    "Strategy",
]
