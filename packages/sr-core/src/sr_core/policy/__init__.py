"""The policy: a causal language model with its tokenizer, its adapters, and the policies that come with the package."""

from sr_core.policy.model import Policy
from sr_core.policy.sources import shipped_policies

__all__ = ["Policy", "shipped_policies"]
