"""Makes the small policies of this folder importable, wherever the tests are run from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny import ARCHITECTURES, make_policy

from sr_core.policy import Policy


@pytest.fixture(params=sorted(ARCHITECTURES))
def any_policy(request: pytest.FixtureRequest) -> Policy:
    return make_policy(request.param)


@pytest.fixture
def policy() -> Policy:
    return make_policy()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # operations this small are slower on two
