"""Small Python problems by the thousand, made from a grammar, with references, wrong answers and call tests."""

from sr_reward.testbed.tasks import Testbed, load_testbed

__all__ = ["Testbed", "load_testbed"]
