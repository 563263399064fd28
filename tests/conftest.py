"""Loaded first whenever the whole suite runs, before torch."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # operations as small as these tests' are slower on two; their processes inherit it
