"""Loaded first whenever the whole suite runs, before torch."""

import os

from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"  # operations as small as these tests' are slower on two; their processes inherit it
settings.register_profile("untimed", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("untimed")
