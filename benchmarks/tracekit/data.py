"""Where the recorded runs are."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "traces" / "data"
