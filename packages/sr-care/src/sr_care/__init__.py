"""A memory of what past training changed, and advice for the next campaign.

What most users need is here; the parts behind it are in ``sr_care.belief``, ``sr_care.gate`` and ``sr_care.planner``.
"""

from sr_care.advice import ask
from sr_care.belief.revision import BeliefRevision
from sr_care.entry import CapabilityDelta, Context, Entry, Strategy
from sr_care.errors import CareError
from sr_care.gate import TransferGate
from sr_care.memory.store import CapabilityMemory
from sr_care.planner import CarePlanner

__all__ = [
    "BeliefRevision",
    "CapabilityDelta",
    "CapabilityMemory",
    "CareError",
    "CarePlanner",
    "Context",
    "Entry",
    "Strategy",
    "TransferGate",
    "ask",
]
